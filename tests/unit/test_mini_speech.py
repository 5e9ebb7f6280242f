"""The generated corpus as sound: tones, durations, levels."""

from __future__ import annotations

import numpy as np
import pytest

from icefall_ext.corpora.mini.articulation import articulate
from icefall_ext.corpora.mini.dice import Dice, white_noise
from icefall_ext.corpora.mini.hokkien import phones_of, say_alone
from icefall_ext.corpora.mini.lexicon import NICKNAME_TONES, nickname
from icefall_ext.corpora.mini.microphones import MICROPHONES, _noise, _response, make_session, record
from icefall_ext.corpora.mini.phones import CONSONANTS, VOWELS
from icefall_ext.corpora.mini.pitch import HOP_S, measure_pitch
from icefall_ext.corpora.mini.source_languages import LANGUAGES
from icefall_ext.corpora.mini.speakers import make_speaker
from icefall_ext.corpora.mini.synth import HOP, RATE
from icefall_ext.corpora.mini.utterance import Performance, melody_of, perform, plan_utterance, recordings, truth
from icefall_ext.text import tailo_spelling
from icefall_ext.text.tailo import parse_word
from icefall_ext.text.tailo_sandhi import NEUTRAL

SPEAKERS = [make_speaker(1, "test", number) for number in range(4)]


def speak(performance: Performance, speaker, microphones=MICROPHONES[:1]) -> list[np.ndarray]:
    return recordings(performance, speaker, make_session(1, speaker.folder), microphones)


def one_syllable(tailo, speaker) -> Performance:
    spoken = [say_alone(tailo, speaker.rate, Dice(tailo, speaker.folder))]
    score, aligned = articulate(spoken, 0.1, 0.1)
    return Performance(f"one/{tailo}", spoken, aligned, score)


def heights(tone: int, speaker) -> np.ndarray:
    """Measured F0 at the beginning, middle and end of the rime, in Chao digits of the speaker's scale."""
    performance = one_syllable(nickname("tong", tone).word.syllables[1], speaker)
    (samples,) = speak(performance, speaker)
    pitch = measure_pitch(samples)
    onset, offset = performance.aligned[0].rime
    inside = np.arange(int(onset / HOP_S), int(offset / HOP_S))
    voiced = inside[~np.isnan(pitch[inside])]
    assert len(voiced) > 0.7 * len(inside)
    moments = (onset + np.array([0.1, 0.5, 0.9]) * (offset - onset)) / HOP_S
    semitones = 12 * np.log2(np.interp(moments, voiced, pitch[voiced]) / speaker.voice.pitch)
    return 3 + 4 * semitones / speaker.span


@pytest.mark.parametrize("speaker", SPEAKERS, ids=lambda speaker: speaker.folder)
def test_every_tone_has_its_contour_in_the_samples(speaker):
    measured = np.array([heights(tone, speaker) for tone in NICKNAME_TONES])
    start, middle, end = (dict(zip(NICKNAME_TONES, moment)) for moment in measured.T)
    assert start[2] - end[2] > 2 and start[2] > 4  # 53
    assert end[5] - middle[5] > 1 and end[5] > 3.3  # 24
    assert abs(start[1] - end[1]) < 1 and abs(start[7] - end[7]) < 1  # level
    assert middle[1] - middle[7] > 1 and middle[7] - middle[3] > 0.8  # 44, 33, 21
    assert middle[8] - middle[4] > 1  # high and low checked


def test_checked_syllables_are_short_and_tone_4_and_8_alike():
    for speaker in SPEAKERS:
        length = {}
        for tone in NICKNAME_TONES:
            onset, offset = one_syllable(nickname("tong", tone).word.syllables[1], speaker).aligned[0].rime
            length[tone] = offset - onset
        assert max(length[4], length[8]) < 0.65 * min(length[tone] for tone in (1, 2, 3, 5, 7))
        assert 0.6 < length[4] / length[8] < 1.6


def test_measured_pitch_follows_what_was_meant():
    for speaker in SPEAKERS:
        utterance = plan_utterance(1, speaker, 0)
        (samples,) = speak(utterance.performance, speaker)
        measured, meant = measure_pitch(samples), melody_of(utterance.performance, speaker)
        errors = []
        for aligned in utterance.performance.aligned:
            onset, offset = aligned.rime
            moments = np.arange(int((onset + 0.02) / HOP_S), int((offset - 0.02) / HOP_S))
            errors += list(12 * np.log2(measured[moments] / meant[(moments * HOP_S * 1000).astype(int)]))
        errors = np.abs(errors)
        assert np.isnan(errors).mean() < 0.1 and np.nanmedian(errors) < 0.3


def test_speech_applies_sandhi_where_the_text_keeps_citation_tones():
    changed = neutral = last_kept = groups = 0
    for speaker in SPEAKERS:
        for number in range(20):
            said = plan_utterance(1, speaker, number).said
            for i, (syllable, surface) in enumerate(zip(said.syllables, said.surface)):
                changed += surface not in (syllable.tone, NEUTRAL)
                neutral += surface == NEUTRAL
                assert (surface == NEUTRAL) == syllable.neutral
                is_last = i + 1 == len(said.group) or said.group[i + 1] != said.group[i]
                groups += is_last
                last_kept += is_last and surface in (syllable.tone, NEUTRAL)
    assert changed > 200 and neutral > 10 and last_kept == groups


def test_northern_speakers_say_tone_5_lower_than_southern_ones():
    by_accent = {"south": set(), "north": set()}
    for number in range(60):
        speaker = make_speaker(1, "train", number)
        said = plan_utterance(1, speaker, 0).said
        for i, (syllable, surface) in enumerate(zip(said.syllables, said.surface)):
            inside = i + 1 < len(said.group) and said.group[i + 1] == said.group[i]
            before = said.syllables[i + 1] if inside else None
            if syllable.tone == 5 and inside and not before.neutral and surface != 9 and before.base != "a":
                by_accent[speaker.tone5].add(surface)
    assert by_accent == {"south": {7}, "north": {3}}


def test_sentences_last_as_long_as_read_sentences_do():
    lengths = [plan_utterance(1, make_speaker(1, "train", number), 0).performance.seconds for number in range(300)]
    assert 1 < min(lengths) and max(lengths) < 15 and 4 < np.mean(lengths) < 6


def test_no_recording_clips_and_both_sexes_are_heard():
    pitches = {"F": [], "M": []}
    for number in range(12):
        speaker = make_speaker(1, "train", number)
        utterance = plan_utterance(1, speaker, 1)
        for samples in speak(utterance.performance, speaker, MICROPHONES):
            assert len(samples) == utterance.performance.samples
            assert 0.05 < np.abs(samples.astype(int)).max() / 32767 < 0.95
        pitches[speaker.sex].append(np.nanmedian(measure_pitch(samples)))
    assert len(pitches["F"]) == len(pitches["M"]) == 6
    assert np.median(pitches["F"]) > 1.3 * np.median(pitches["M"])


def test_microphones_hear_the_same_words_in_different_sound():
    speaker = SPEAKERS[0]
    performance = plan_utterance(1, speaker, 2).performance
    near, far = speak(performance, speaker, MICROPHONES)
    silence = slice(0, int(0.2 * RATE))
    assert 20 * np.log10(np.std(far[silence]) / np.std(near[silence])) > 6
    assert np.corrcoef(near, far)[0, 1] > 0.5


def test_one_microphone_records_the_same_beside_another_as_alone():
    speaker = SPEAKERS[1]
    performance = plan_utterance(1, speaker, 3).performance
    alone = [speak(performance, speaker, (microphone,))[0] for microphone in MICROPHONES]
    assert all(map(np.array_equal, alone, speak(performance, speaker, MICROPHONES)))


def test_blocks_of_the_microphone_filter_join_without_a_seam():
    session, microphone = make_session(3, "TS_TSF0001"), MICROPHONES[1]
    speech = np.zeros(40_000)
    speech[[100, 12_280, 12_290, 30_000]] = 0.2
    (samples,) = record(speech, session, (microphone,), 5)
    response = np.fft.irfft(_response(microphone, session))[:4096]
    expected = np.convolve(speech * session.gain, response)[256 : 256 + len(speech)]
    start = Dice(5, microphone.name).below(len(_noise(microphone, session)))
    expected += np.roll(_noise(microphone, session), -start)[: len(speech)]
    assert np.abs(samples / 32767 - expected).max() < 1 / 32767


def test_phones_are_in_order_and_inside_the_audio():
    for speaker in SPEAKERS:
        utterance = plan_utterance(1, speaker, 4)
        row = truth(utterance)
        times = [time for s in row["syllables"] for _, *span in s["phones"] for time in span]
        assert times == sorted(times)
        assert 0.2 <= times[0] and times[-1] <= row["samples"] / RATE - 0.2
        assert row["samples"] % HOP == 0


def test_every_syllable_of_tailo_has_phones_that_the_synthesizer_knows():
    for final in tailo_spelling.FINALS:
        for initial in tailo_spelling.INITIALS:
            if tailo_spelling.base_exists(initial, final):
                phones = phones_of(initial, final)
                assert phones.nucleus and abs(sum(share for _, share in phones.nucleus) - 1) < 1e-9
                assert {name for name, _ in phones.nucleus} <= VOWELS.keys() | {"m", "N"}
                assert {*phones.onset, *phones.coda} <= CONSONANTS.keys() | {"q"}


@pytest.mark.parametrize(
    ("tailo", "onset", "vowels", "coda", "nasal"),
    [
        ("tshiong5", ("tch",), "i O", ("N",), False),
        ("kiann1", ("k",), "i a", (), True),
        ("ng5", (), "N", (), False),
        ("mng5", ("m",), "N", (), True),
        ("ngoo5", ("N",), "O", (), True),
        ("ji̍t", ("dj",), "i", ("t",), False),
        ("pe̍h", ("p",), "e", ("q",), False),
        ("ian2", (), "i E", ("n",), False),
        ("m7", (), "m", (), False),
    ],
)
def test_spelling_becomes_the_phones_of_hokkien(tailo, onset, vowels, coda, nasal):
    (syllable,) = parse_word(tailo).syllables
    phones = phones_of(syllable.initial, syllable.final)
    assert (phones.onset, " ".join(name for name, _ in phones.nucleus), phones.coda) == (onset, vowels, coda)
    assert phones.nasal == nasal


@pytest.mark.parametrize("language", LANGUAGES)
def test_source_languages_can_be_spoken_whatever_the_sentence(language):
    speaker = SPEAKERS[2]
    for number in range(100):
        dice = Dice(language, number)
        spoken, _ = LANGUAGES[language](speaker.rate, dice)
        performance = perform(f"{language}/{number}", spoken, speaker, dice)
        assert 1 < performance.seconds < 20
        if number < 3:
            (samples,) = speak(performance, speaker)
            assert np.abs(samples.astype(int)).max() > 1000


def test_noise_and_dice_are_the_same_on_every_python_and_numpy():
    assert (white_noise(1, 5) / white_noise(1, 1) * -6913).round().tolist() == [-6913, 31010, -16909, -31994, -22426]
    assert Dice("a", 1).below(1000) == 264 and round(Dice("a", 2).bell(), 6) == 2.013739
