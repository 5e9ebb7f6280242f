"""From tokens on frames to syllables in time.

Tokens are byte-level: a syllable is several of them, and hyphens, spaces and punctuation belong to none. Those of
this project never hold parts of two syllables (text/bbpe.py). Those of another may, and there a frame says nothing
about where one syllable ends: such syllables are left out, not guessed at.

CTC puts a token on a frame or two and blanks everywhere else. What lies between the last token of a syllable and the
first of the next is shared evenly, but no syllable reaches further than `REACH` from its tokens: a pause is no one's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from icefall_ext.align.viterbi import Path
from icefall_ext.errors import UserError
from icefall_ext.text import tailo
from icefall_ext.text.tailo_sandhi import Tone5, sandhi_of_words
from icefall_ext.text.tailo_scan import PIECES

REACH = 0.12  # s; most syllables of running speech last 0.15 to 0.25


@dataclass(frozen=True)
class Label:
    base: str
    citation: int
    surface: int  # 0 for a neutral syllable


@dataclass(frozen=True)
class Syllable(Label):
    start: float  # s
    end: float
    log_prob: float  # mean over the frames of its tokens


def labels_of(text: str, tone5: Tone5 = "south") -> list[Label]:
    """Of Tai-lo in the tones that are written; an utterance is one tone group, as in data/transcripts.py."""
    words = tailo.parse(text).words
    syllables = [syllable for word in words for syllable in word.syllables]
    spoken = sandhi_of_words(words, tone5=tone5)
    return [Label(syllable.base, syllable.tone, tone) for syllable, tone in zip(syllables, spoken, strict=True)]


def tokens_of_syllables(text: str, spelled: Sequence[bytes]) -> list[tuple[range, bool]]:
    """The tokens of each syllable, and whether they are its alone; `spelled` are the bytes of each token of `text`."""
    owner = _owner_of_bytes(text)
    if b"".join(spelled) != b" " + text.encode("utf-8"):
        raise UserError(f"{text!r}: its tokens spell {b''.join(spelled).decode('utf-8', 'replace')!r}; align with the "
                        "tokens that the model was trained with")
    of_syllable: list[list[int]] = [[] for _ in range(int(owner.max(initial=-1)) + 1)]
    shared: set[int] = set()
    start = 0
    for number, piece in enumerate(spelled):
        owners = {int(o) for o in owner[start : start + len(piece)] if o >= 0}
        start += len(piece)
        for syllable in owners:
            of_syllable[syllable].append(number)
        if len(owners) > 1:
            shared |= owners
    return [(range(numbers[0], numbers[-1] + 1), syllable not in shared)
            for syllable, numbers in enumerate(of_syllable)]


def _owner_of_bytes(text: str) -> np.ndarray:
    """The syllable of each byte of a space and the text, -1 for what is between syllables."""
    owner = np.full(1 + len(text.encode("utf-8")), -1)
    syllable = 0
    for token in tailo.parse(text).tokens:
        if not token.word:
            continue
        for piece in PIECES.finditer(token.text):
            first = 1 + len(text[: token.start + piece.start(2)].encode("utf-8"))
            owner[first : first + len(piece.group(2).encode("utf-8"))] = syllable
            syllable += 1
    return owner


def syllables_in_time(
    path: Path, owned: Sequence[tuple[range, bool]], labels: Sequence[Label], seconds_per_frame: float
) -> list[Syllable | None]:
    """None for a syllable that shares a token with another."""
    frames, reach = len(path.tokens), max(1, round(REACH / seconds_per_frame))
    on = [np.flatnonzero((path.tokens >= tokens.start) & (path.tokens < tokens.stop)) for tokens, _ in owned]
    first = np.array([where[0] for where in on], dtype=np.int64)
    last = np.array([where[-1] + 1 for where in on], dtype=np.int64)
    gaps = np.maximum(first[1:] - last[:-1], 0)
    before = np.minimum(np.concatenate([first[:1], gaps - gaps // 2]), reach)
    after = np.minimum(np.concatenate([gaps // 2, frames - last[-1:]]), reach)
    found: list[Syllable | None] = []
    for where, (_, alone), label, start, end in zip(on, owned, labels, first - before, last + after, strict=True):
        times = (round(float(edge) * seconds_per_frame, 4) for edge in (start, end))
        log_prob = round(float(path.log_probs[where].mean()), 4)
        found.append(Syllable(label.base, label.citation, label.surface, *times, log_prob) if alone else None)
    return found
