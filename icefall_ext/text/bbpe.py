"""Byte-level BPE: sentencepiece's unigram model over byte glyphs, in a folder laid out like icefall's.

    >>> bpe = ByteBPE.train("data/text/train.hanlo", 500, "data/lang_bbpe_500_hanlo")
    >>> bpe.decode(bpe.encode("  any 字 \\U0001f600"))
    '  any 字 \\U0001f600'

Every string survives the round trip exactly, spaces of any number and place included, whatever the model was trained
on: all 255 glyphs and the space are tokens, the tokenizer changes nothing, and `<blk>` written in a text is five
characters, never the blank (the special symbols are control symbols, which no text can reach). The one exception is a
string that UTF-8 cannot hold, with a lone surrogate: a UserError.

A token never holds parts of two Han characters nor of two syllables. A space may begin a token of letters; a digit,
with the hyphens after it, is a token of its own, so in number notation a syllable and its tone are separate tokens. The
space that sentencepiece puts before a text is a token of its own when a Han character follows: a character is spelled
alike wherever it stands.

Training draws no random numbers and sees only counts: the same lines, in any order, give the same bytes with the same
version of sentencepiece.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import sentencepiece

from icefall_ext.errors import UsageError, UserError
from icefall_ext.files import atomic_dir, read_lines
from icefall_ext.text import byte_glyphs, hanlo, unigram

SPECIAL = ("<blk>", "<sos/eos>", "<unk>")
MINIMUM_SIZE = 261

# What a token may be a part of: letters with the space before them, a digit with the hyphens after it, anything else
# character by character. Letters are those of ASCII and everything below CJK (U+2E80): Latin, tone marks, ⁿ.
_UNIT = re.compile("( ?[A-Za-z\u0080-\u2e7f]+|[0-9]?-+|.)", re.DOTALL)


class ByteBPE:
    """Text to token ids and back. `pieces[id]` is the token as tokens.txt has it."""

    blank_id, sos_eos_id, unk_id = range(3)

    def __init__(self, model: bytes):
        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.pieces: list[str] = self._processor.id_to_piece(list(range(self._processor.vocab_size())))
        if tuple(self.pieces[:3]) != SPECIAL:
            raise ValueError(f"its tokens 0, 1, 2 are {', '.join(self.pieces[:3])}, not {', '.join(SPECIAL)}")
        self._bytes = {i: byte_glyphs.to_bytes(piece) for i, piece in enumerate(self.pieces)}
        self._bytes |= {self.blank_id: b"", self.sos_eos_id: b"", self.unk_id: b" "}

    @classmethod
    def train(cls, texts: str | Path | Sequence[str | Path], vocab_size: int, lang_dir: str | Path) -> ByteBPE:
        """Learn `vocab_size` tokens from text files, one sentence a line, and write the folder `lang_dir`."""
        if vocab_size < MINIMUM_SIZE:
            raise UsageError(
                f"--vocab-size {vocab_size}: byte-level BPE needs at least {MINIMUM_SIZE} "
                "(255 byte glyphs, the space, 3 special symbols, and room to merge)"
            )
        texts = [texts] if isinstance(texts, (str, Path)) else list(texts)
        _refuse_to_replace_other_files(Path(lang_dir))
        units: Counter[str] = Counter()
        words: set[str] = set()
        for text in texts:
            for line in filter(str.strip, read_lines(text)):
                units.update(_UNIT.findall(" " + line))
                words.update(hanlo.tokens(line))
        names = ", ".join(map(str, texts))
        if not units:
            raise UserError(f"{names}: no text in it to learn byte-level BPE from")
        glyphs = {_marked(byte_glyphs.encode(unit)): count for unit, count in units.items()}
        try:
            bpe = cls(unigram.learn(glyphs, vocab_size, alphabet=_marked(byte_glyphs.GLYPHS), special=SPECIAL))
        except unigram.TooManyPieces as error:
            enough = error.possible >= MINIMUM_SIZE
            way_out = f"the most it supports is {error.possible}" if enough else "more text is needed"
            raise UsageError(f"--vocab-size {vocab_size}: too many for the text in {names}; {way_out}") from None
        bpe._write(Path(lang_dir), sorted(words))
        return bpe

    @classmethod
    def load(cls, lang_dir: str | Path) -> ByteBPE:
        path = Path(lang_dir) / "bbpe.model"
        try:
            return cls(path.read_bytes() or b"empty")  # sentencepiece takes zero bytes for a model without tokens
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; train it first (python -m icefall_ext.bin.train_bbpe)") from None
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from None
        except RuntimeError:
            raise UserError(f"{path}: not a sentencepiece model; delete the folder and train it again") from None
        except ValueError as error:
            raise UserError(f"{path}: {error}; train a model for this recipe") from None

    @property
    def vocab_size(self) -> int:
        return len(self.pieces)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self._model).hexdigest()

    def encode(self, text: str) -> list[int]:
        ids = self._processor.encode(byte_glyphs.encode(text))
        if self.unk_id in ids:
            raise UserError(f"{text!r}: the BPE model has no token for some byte of it; train one with all glyphs")
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of any sequence of token ids; bytes that make no complete character are left out."""
        try:
            raw = b"".join([self._bytes[i] for i in ids])
        except KeyError as error:
            raise ValueError(f"token id {error} is not in 0..{self.vocab_size - 1}") from None
        return byte_glyphs.decode_bytes(raw.removeprefix(b" "))

    def spelled(self, ids: Iterable[int]) -> list[bytes]:
        """What each token stands for; together a space and the text."""
        return [self._bytes[i] for i in ids]

    def __reduce__(self):
        return ByteBPE, (self._model,)  # worker processes get their own copy

    def _write(self, lang_dir: Path, words: Sequence[str]) -> None:
        with atomic_dir(lang_dir) as folder:
            for name in ("bbpe.model", f"unigram_{self.vocab_size}.model"):
                (folder / name).write_bytes(self._model)
            _write_symbols(folder / "tokens.txt", self.pieces)
            _write_symbols(folder / "words.txt", ["<eps>", "<UNK>", *words, "#0", "<s>", "</s>"])


def _marked(glyphs: str) -> str:
    return glyphs.replace(" ", byte_glyphs.SPACE_MARK)


def _refuse_to_replace_other_files(lang_dir: Path) -> None:
    if lang_dir.exists() and not lang_dir.is_dir():
        raise UsageError(f"--lang-dir {lang_dir}: is a file; name a folder")
    ours = re.compile(r"bbpe\.model|unigram_\d+\.model|(tokens|words)\.txt")
    others = sorted(path.name for path in lang_dir.glob("*") if not ours.fullmatch(path.name))
    if others:
        raise UsageError(f"--lang-dir {lang_dir}: holds other files ({', '.join(others[:3])}); name a new folder")


def _write_symbols(path: Path, symbols: Iterable[str]) -> None:
    """A symbol table as k2 reads it."""
    lines = "".join(f"{symbol} {i}\n" for i, symbol in enumerate(symbols))
    path.write_text(lines, encoding="utf-8", newline="\n")
