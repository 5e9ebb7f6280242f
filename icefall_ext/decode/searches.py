"""The search of a setting, with the language model and hotwords that it was asked to use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from icefall_ext.decode.options import BEAM_SIZE, HOTWORDS, LM, Setting
from icefall_ext.errors import UserError
from icefall_ext.files import digest_of_file, read_lines
from icefall_ext.text import hanlo, tailo
from icefall_ext.text.bbpe import ByteBPE
from icefall_ext.text.byte_glyphs import SPACE_MARK
from icefall_ext.transducer.model import TransducerModel
from icefall_ext.transducer.search import HotwordGraph, NgramLm, TransducerSearch, choose_backend, make_search


@dataclass(frozen=True)
class Resources:
    """What several settings share, read once."""

    vocab_size: int
    device: torch.device
    lm: NgramLm | None = None
    hotwords: dict[tuple[int, ...], float | None] = field(default_factory=dict)  # tokens -> their own bonus, if any
    digests: dict[str, str] = field(default_factory=dict)  # of the files, by the option that weighs them

    @staticmethod
    def read(bpe: ByteBPE, script: str, device: torch.device, lm: str = "", hotwords: str = "") -> Resources:
        model = NgramLm.from_arpa(lm, bpe.pieces, device) if lm else None
        digests = {name: digest_of_file(path) for name, path in ((LM, lm), (HOTWORDS, hotwords)) if path}
        words = read_hotwords(Path(hotwords), bpe, script) if hotwords else {}
        return Resources(bpe.vocab_size, device, model, words, digests)


def search_of(
    setting: Setting, model: TransducerModel, resources: Resources, backend: str = "auto", nbest: int = 1
) -> tuple[TransducerSearch, str]:
    """The search, and which backend it is."""
    options = dict(setting.values)
    if BEAM_SIZE in options:
        options["beam"] = options.pop(BEAM_SIZE)
    lm_scale, bonus = options.pop(LM, None), options.pop(HOTWORDS, None)
    if lm_scale is not None:
        options["lms"] = [(resources.lm, lm_scale)]
    if bonus is not None:
        options["hotwords"] = hotword_graph(resources, bonus)
    if setting.has_nbest:
        options["nbest"] = nbest
    backend = choose_backend(setting.method, backend if setting.method == "fast_beam_search" else "torch")
    return make_search(setting.method, model.decoder, model.joiner, backend, **options), backend


def hotword_graph(resources: Resources, bonus_per_token: float) -> HotwordGraph:
    bonuses = [bonus_per_token * len(tokens) if own is None else own for tokens, own in resources.hotwords.items()]
    return HotwordGraph(resources.hotwords, resources.vocab_size, bonuses=bonuses, device=resources.device)


def read_hotwords(path: Path, bpe: ByteBPE, script: str) -> dict[tuple[int, ...], float | None]:
    """Tokens of the hotwords in a file, one a line, and after a tab its bonus as a whole, if it has one of its own.

    In Tai-lo both notations of a hotword count, for the model writes in the one that it was trained on.
    """
    found: dict[tuple[int, ...], float | None] = {}
    for number, line in enumerate(read_lines(path), start=1):
        text, _, bonus = line.partition("\t")
        if not text.strip():
            continue
        try:
            own = float(bonus) if bonus.strip() else None
        except ValueError:
            raise UserError(f"{path}: line {number}: bonus {bonus!r} is not a number") from None
        for spelling in spellings(text, script):
            found[inside_a_text(bpe, spelling)] = own
    if not found:
        raise UserError(f"{path}: no hotword in it; one a line")
    return found


def spellings(text: str, script: str) -> Iterable[str]:
    if script == "hanlo":
        return [hanlo.normalize(text)]
    return dict.fromkeys(tailo.normalize(text, form, punctuation="drop").text for form in ("number", "diacritic"))


def inside_a_text(bpe: ByteBPE, text: str) -> tuple[int, ...]:
    """Its tokens where it stands behind other text: a Han character follows another without a space."""
    tokens = bpe.encode(text)
    return tuple(tokens[1:] if tokens and bpe.pieces[tokens[0]] == SPACE_MARK else tokens)
