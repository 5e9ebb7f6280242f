"""The generated corpus as text: words, sentences, slots."""

from __future__ import annotations

from collections import defaultdict

import pytest

from icefall_ext.corpora.mini.dice import Dice
from icefall_ext.corpora.mini.grammar import _function_words, _rules, make_sentence
from icefall_ext.corpora.mini.lexicon import GROUPS, NICKNAME_PREFIX, NICKNAME_TONES, NICKNAMES, nickname
from icefall_ext.corpora.mini.source_languages import LANGUAGES
from icefall_ext.corpora.mini.utterance import slots
from icefall_ext.text.tailo import Word, parse
from icefall_ext.text.tailo_poj import from_poj, to_poj

SENTENCES = [make_sentence(Dice("test", number)) for number in range(2000)]
ENTRIES = [entry for group in GROUPS.values() for entry in group]


def test_at_least_thirty_words_of_one_syllable_differ_from_another_by_tone_alone():
    tones = defaultdict(set)
    for entry in ENTRIES:
        if len(entry.word.syllables) == 1:
            tones[entry.word.syllables[0].base].add(entry.word.syllables[0].tone)
    assert sum(len(of_base) > 1 for of_base in tones.values()) >= 30


def test_some_words_sound_alike_and_only_context_tells_them_apart():
    written = defaultdict(set)
    for entry in ENTRIES:
        if not entry.is_latin:
            written[entry.word.lower().number()].add(entry.han)
    assert {"三", "衫"} <= written["sann1"] and {"兩", "卵"} <= written["nng7"]
    assert sum(len(of_word) > 1 for of_word in written.values()) >= 10


@pytest.mark.parametrize("base", [base for base, _ in NICKNAMES])
def test_nicknames_of_a_set_are_seven_characters_apart_by_tone_alone(base):
    names = [nickname(base, tone) for tone in NICKNAME_TONES]
    syllables = [name.word.syllables[1] for name in names]
    assert len({name.han for name in names}) == 7
    assert [syllable.tone for syllable in syllables] == list(NICKNAME_TONES)
    assert {syllable.base for syllable in syllables if not syllable.checked} == {base}
    assert len({syllable.base for syllable in syllables if syllable.checked}) == 1
    assert {syllable.tone for syllable in syllables if syllable.checked} == {4, 8}


def test_every_character_of_a_nickname_has_one_reading():
    characters = [character for _, of_set in NICKNAMES for character in of_set]
    assert len(characters) == len(set(characters))


def test_every_rule_uses_words_and_rules_that_exist():
    for alternatives in _rules().values():
        for token in (token for alternative in alternatives for token in alternative):
            if token.startswith("{"):
                name = token[1:-1].rpartition(":")[2]
                assert name in _rules() or name in GROUPS or name == "nickname", token
            elif token not in "#,.?":
                assert token in _function_words(), token


def test_han_words_have_one_character_a_syllable():
    for entry in ENTRIES:
        assert entry.is_latin or len(entry.han) == len(entry.word.syllables), entry


def test_tailo_of_a_sentence_reads_back_to_its_syllables_in_both_notations():
    for sentence in SENTENCES:
        syllables = [s for group in sentence.groups for entry in group.words for s in entry.word.syllables]
        for spell in (Word.diacritic, Word.number):
            parsed = parse(sentence.romanised(spell))
            assert parsed.problems == () and parsed.syllables == syllables


def test_poj_reads_back_to_the_same_tailo():
    words = [entry.word for entry in ENTRIES]
    words += [nickname(base, tone).word for base, _ in NICKNAMES for tone in NICKNAME_TONES]
    for word in words:
        assert from_poj(to_poj(word)) == (word.diacritic(), []), word


def test_slots_point_at_the_character_and_the_syllable_of_the_nickname():
    found = 0
    for sentence in SENTENCES:
        syllables = [s for group in sentence.groups for entry in group.words for s in entry.word.syllables]
        hanlo = sentence.hanlo()
        here = slots(sentence)
        assert len(here) == hanlo.count(NICKNAME_PREFIX)
        for slot in here:
            assert hanlo[slot["character"] - 1 : slot["character"] + 1] == NICKNAME_PREFIX + slot["han"]
            assert syllables[slot["syllable"]].number() == slot["tailo"]
        found += len(here)
    assert found > 1000


def test_nicknames_end_their_tone_group_so_that_the_citation_tone_survives():
    for sentence in SENTENCES:
        for group in sentence.groups:
            if group.slot is not None:
                after = [s for entry in group.words[group.slot + 1 :] for s in entry.word.syllables]
                assert all(syllable.neutral for syllable in after)


def test_nothing_but_the_voice_tells_which_nickname_comes():
    """Every name is about as likely, whatever stands before it."""
    counts = defaultdict(int)
    for sentence in SENTENCES:
        for slot in slots(sentence):
            counts[slot["han"]] += 1
    assert len(counts) == 7 * len(NICKNAMES)
    assert max(counts.values()) < 2.5 * min(counts.values())


def test_a_share_of_the_text_mixes_scripts_and_some_words_are_neutral_or_proper():
    texts = [sentence.hanlo() for sentence in SENTENCES]
    mixed = sum(any(c.isascii() and c.isalpha() for c in text) for text in texts) / len(texts)
    neutral = sum("--" in sentence.romanised(Word.diacritic) for sentence in SENTENCES) / len(texts)
    proper = sum(any(c.isupper() for c in sentence.romanised(Word.number)[1:]) for sentence in SENTENCES) / len(texts)
    assert 0.2 < mixed < 0.8 and 0.1 < neutral < 0.5 and proper > 0.5


def test_latin_words_stand_apart_from_han():
    sentence = next(s for s in SENTENCES if " beh " in s.hanlo())
    assert all("  " not in s.hanlo() and " --" not in s.hanlo() and " ，" not in s.hanlo() for s in SENTENCES)
    assert sentence.hanlo().endswith(("。", "？"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_source_languages_speak_the_same_sentence_for_the_same_seed(language):
    first, again, other = (LANGUAGES[language](1.0, Dice(seed)) for seed in ("a", "a", "b"))
    assert first == again and first[1] != other[1]
    assert 5 <= len(first[0]) <= 40
