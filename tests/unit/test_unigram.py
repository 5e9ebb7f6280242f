"""Learning a unigram model from counted words: the places where sentencepiece alone goes wrong, and the file."""

import random
import tempfile

import pytest
import sentencepiece

from icefall_ext.text import unigram

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SPECIAL = ("<blk>", "<sos/eos>", "<unk>")
FIXED = len(SPECIAL) + len(LETTERS) + 1  # and the space


def learn(words: dict[str, int], size: int) -> sentencepiece.SentencePieceProcessor:
    model = unigram.learn(words, size, alphabet=LETTERS + "▁", special=SPECIAL)
    return sentencepiece.SentencePieceProcessor(model_proto=model)


def long_pieces(processor: sentencepiece.SentencePieceProcessor) -> set[str]:
    pieces = (processor.id_to_piece(i) for i in range(len(SPECIAL), processor.vocab_size()))
    return {piece for piece in pieces if len(piece) > 1}


def test_a_frequent_word_is_a_piece_whatever_stands_beside_it():
    """Sentencepiece's own candidates need two different characters behind them."""
    assert long_pieces(learn({"xyz": 50, "a": 10, "b": 10}, FIXED + 1)) == {"xyz"}


def test_the_most_frequent_words_are_kept_when_there_is_room_for_few():
    rng = random.Random(1)
    ranked = list(dict.fromkeys("".join(rng.sample(LETTERS, 3)) for _ in range(300)))
    words = {word: 10_000 // rank for rank, word in enumerate(ranked, start=1)}
    assert long_pieces(learn(words, FIXED + 20)) == set(ranked[:20])


def test_no_piece_reaches_across_the_end_of_a_word():
    words = {"▁kha": 100, "tshiu": 100, "8-": 40}
    kept = long_pieces(learn(words | {piece: 1 for piece in "8-"}, FIXED + 2 + 3))
    assert kept and all(any(piece in word for word in words) for piece in kept)


def test_each_character_of_the_alphabet_is_a_piece_and_the_special_symbols_come_first():
    processor = learn({"ab": 5, "abc": 5}, FIXED + 1)
    pieces = [processor.id_to_piece(i) for i in range(processor.vocab_size())]
    assert pieces[:3] == list(SPECIAL)
    assert set(pieces[3:]) >= set(LETTERS) | {"▁"}
    assert [processor.is_control(i) for i in range(4)] == [True, True, False, False]
    assert processor.is_unknown(2) and processor.unk_id() == 2
    assert processor.bos_id() == processor.eos_id() == processor.pad_id() == -1


def test_the_model_puts_one_space_before_a_text_and_changes_nothing_else():
    processor = learn({"▁ab": 5, "c": 1}, FIXED + 1)
    assert processor.encode("ab  c ", out_type=str) == ["▁ab", "▁", "▁", "c", "▁"]
    assert processor.decode(processor.encode(" ab  c ")) == " ab  c "
    assert processor.normalize("ĳ ﬁ") == "▁ĳ▁ﬁ"


def test_equal_counts_give_equal_bytes_without_a_trace_of_this_machine():
    words = {"▁kha": 30, "tshiu": 20, "bin": 10}
    first, second = (
        unigram.learn(dict(items), FIXED + 3, alphabet=LETTERS + "▁", special=SPECIAL)
        for items in (words.items(), reversed(words.items()))
    )
    assert first == second
    assert tempfile.gettempdir().encode() not in first


def test_a_very_long_word_is_learned_from():
    assert long_pieces(learn({"xyzw" * 5_000: 1}, FIXED + 1)) == {"xyzw" * (unigram.LONGEST_PIECE // 4)}


@pytest.mark.parametrize("size", [FIXED + 2, 9_999])
def test_more_pieces_than_the_words_hold_are_refused_with_the_number_they_hold(size):
    with pytest.raises(unigram.TooManyPieces) as refusal:
        learn({"xy": 5}, size)
    assert refusal.value.possible == FIXED + 1
