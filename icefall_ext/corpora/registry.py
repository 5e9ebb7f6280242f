"""Corpora by the name that `--corpus` knows them by."""

from __future__ import annotations

import os

from icefall_ext.corpora.base import Corpus, Options, is_utf8
from icefall_ext.corpora.common_voice import CommonVoiceCorpus
from icefall_ext.corpora.table import TableCorpus
from icefall_ext.corpora.tat import TatCorpus
from icefall_ext.corpora.tat_keys import HAT, TAT
from icefall_ext.corpora.tone_perfect import TonePerfectCorpus
from icefall_ext.corpora.word_list import WordListCorpus
from icefall_ext.errors import UserError

_KEYS = {"mini": TAT, "tat": TAT, "hat": HAT}
_OTHERS = {
    "common_voice": CommonVoiceCorpus,
    "table": TableCorpus,
    "words": WordListCorpus,
    "tone_perfect": TonePerfectCorpus,
}
NAMES = (*_KEYS, *_OTHERS)
_DEFAULT = Options()


def open_corpus(name: str, folder: str | os.PathLike[str], options: Options = _DEFAULT) -> Corpus:
    """The importer of a corpus folder, or a UserError with what was expected there and what was found."""
    if not is_utf8(os.path.abspath(folder)):
        raise UserError(f"{folder!r}: manifests are UTF-8, and this path is not; rename the folder")
    if name in _KEYS:
        return TatCorpus(name, folder, _KEYS[name], options)
    return _OTHERS[name](name, folder, options)
