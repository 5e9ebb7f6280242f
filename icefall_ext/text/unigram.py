"""A sentencepiece unigram model learned from counted words, so that no piece reaches across the end of a word.

Sentencepiece does the learning; three things are done for it:
- It proposes only strings seen before two different characters: a word that always stands before a space would never
  be a piece, however frequent. Here every substring of the words is proposed, with its count.
- A single character that drops out of its EM leaves its probability to an arbitrary piece, and frequent pieces are then
  thrown away. Here every character of the alphabet counts as a word seen once.
- It stores its options in the model, the path of our temporary file included. Here the model file is put together from
  the learned pieces, so that equal counts give equal bytes. (The format is sentencepiece_model.proto. Its Python
  bindings would need protobuf, and clash with those in transformers.)
"""

from __future__ import annotations

import io
import re
import struct
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence

import sentencepiece

LONGEST_PIECE = 16
_NORMAL, _UNKNOWN, _CONTROL = 1, 2, 3  # types of pieces


class TooManyPieces(ValueError):
    """The words do not hold `vocab_size` pieces; `possible` is how many they do."""

    def __init__(self, possible: int):
        super().__init__(f"at most {possible} pieces")
        self.possible = possible


def learn(words: Mapping[str, int], vocab_size: int, *, alphabet: str, special: Sequence[str]) -> bytes:
    """The model file: first `special` (control symbols, the last is unknown), and each character of `alphabet` a piece.

    Spaces in `words` and `alphabet` are written ▁. The model puts a space before each text and changes nothing else.
    """
    words = Counter(alphabet) + Counter(words)
    lines = (f"{word}\t{count}" for word, count in sorted(words.items()))
    model = io.BytesIO()
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".tsv") as seeds:
        seeds.writelines(f"{piece}\t{count}\n" for piece, count in sorted(_seeds(words).items()))
        seeds.flush()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=lines,
                input_format="tsv",
                model_writer=model,
                model_type="unigram",
                vocab_size=vocab_size,
                seed_sentencepieces_file=seeds.name,
                required_chars=alphabet,
                character_coverage=1.0,
                control_symbols=list(special[:-1]),
                unk_piece=special[-1],
                unk_id=len(special) - 1,
                bos_id=-1,
                eos_id=-1,
                split_by_unicode_script=False,
                split_by_number=False,
                normalization_rule_name="identity",
                add_dummy_prefix=False,
                remove_extra_whitespaces=False,
                max_sentence_length=2**30,  # longer ones would be left out without a word
                num_threads=1,  # sums, and so scores, depend on the number
                minloglevel=3,
            )
        except RuntimeError as error:
            limit = re.search(r"Vocabulary size too high .* <= (\d+)", str(error))
            if limit is None:
                raise
            raise TooManyPieces(int(limit[1])) from None
    learned = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    ids = range(learned.vocab_size())
    return _model_file([(learned.id_to_piece(i), learned.get_score(i)) for i in ids], len(special))


def _seeds(words: Mapping[str, int]) -> dict[str, int]:
    """Every character, and every longer substring that is seen twice or more."""
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for start in range(len(word)):
            for end in range(start + 1, min(len(word), start + LONGEST_PIECE) + 1):
                counts[word[start:end]] += count
    return {piece: count for piece, count in counts.items() if count > 1 or len(piece) == 1}


def _model_file(pieces: Sequence[tuple[str, float]], special: int) -> bytes:
    types = [_CONTROL] * (special - 1) + [_UNKNOWN] + [_NORMAL] * (len(pieces) - special)
    none = 2**64 - 1  # -1, as protobuf writes it
    trainer = _number(3, 1) + _number(4, len(pieces))  # unigram, vocabulary size
    trainer += _number(40, special - 1) + _number(41, none) + _number(42, none) + _number(43, none)  # unk bos eos pad
    normalizer = _chunk(1, b"identity") + _number(3, 1) + _number(4, 0) + _number(5, 1)  # prefix, all spaces, as marks
    entries = [
        _chunk(1, piece.encode()) + _varint(2 << 3 | 5) + struct.pack("<f", score) + _number(3, kind)
        for (piece, score), kind in zip(pieces, types, strict=True)
    ]
    return b"".join([_chunk(1, entry) for entry in entries] + [_chunk(2, trainer), _chunk(3, normalizer)])


def _varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _chunk(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content
