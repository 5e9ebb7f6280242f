"""Train, dev and test for a corpus that comes in one piece: no speaker in two parts, and the same split every time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from icefall_ext.corpora.base import PARTS, Shares
from icefall_ext.errors import UserError


def split_speakers(sizes: Mapping[str, int], shares: Shares) -> dict[str, str]:
    """Speaker -> part. Speakers come in the order of a hash of their name, and go to test, then to dev, while they fit.

    A speaker with more than a whole share therefore stays in train, and no part exceeds its share; a part into which
    nobody fits gets the smallest speaker.
    """
    wanted = [(part, share) for part, share in (("test", shares.test), ("dev", shares.dev)) if share]
    if len(sizes) <= len(wanted):
        raise UserError(f"{len(sizes)} speakers: too few for {', '.join(PARTS)} without a speaker in two of them")
    total = sum(sizes.values())
    part_of = dict.fromkeys(sizes, "train")
    order = sorted(sizes, key=lambda name: hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest())
    for still_to_fill, (part, share) in zip(range(len(wanted), 0, -1), wanted, strict=True):
        room, free = share * total, [speaker for speaker in order if part_of[speaker] == "train"]
        spare = len(free) - still_to_fill  # one speaker is left for each part after this one, train among them
        chosen = []
        for speaker in free:
            if sizes[speaker] <= room and len(chosen) < spare:
                chosen.append(speaker)
                room -= sizes[speaker]
        for speaker in chosen or [min(free, key=sizes.__getitem__)]:
            part_of[speaker] = part
    return part_of


def split_by_gender(sizes: Mapping[str, int], gender_of: Mapping[str, str | None], shares: Shares) -> dict[str, str]:
    """Women and men each on their own, so that dev and test have both; all together where one gender is too few.

    Of few speakers, a share of all would often be of one gender.
    """
    wanted = sum(share > 0 for share in (shares.test, shares.dev))
    groups: dict[str | None, dict[str, int]] = {"F": {}, "M": {}}
    for speaker, size in sizes.items():
        groups.setdefault(gender_of.get(speaker), {})[speaker] = size
    if min(len(groups["F"]), len(groups["M"])) <= wanted:
        return split_speakers(sizes, shares)
    part_of = dict.fromkeys(sizes, "train")
    for group in groups.values():
        if len(group) > wanted:
            part_of |= split_speakers(group, shares)
    return part_of
