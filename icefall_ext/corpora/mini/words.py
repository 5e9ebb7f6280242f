"""Isolated words: bases x tones x speakers x takes of a language, in the layout of a word list.

`words/<language>/wav/<SPK>/<id>.wav` and `words.tsv`. Training speakers say every word `takes` times; dev and test
have speakers of their own, who say each once. As many of the training speakers as test has say each word once more, for
test: what is new about those recordings is the take, about the others also the voice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from icefall_ext.corpora.mini.articulation import Spoken
from icefall_ext.corpora.mini.build import Plan, Report
from icefall_ext.corpora.mini.dice import Dice
from icefall_ext.corpora.mini.hokkien import say_alone
from icefall_ext.corpora.mini.layout import encode_wav
from icefall_ext.corpora.mini.microphones import MICROPHONES, make_session
from icefall_ext.corpora.mini.source_languages import tonal_word
from icefall_ext.corpora.mini.speakers import make_speaker
from icefall_ext.corpora.mini.synth import RATE
from icefall_ext.corpora.mini.utterance import perform, recordings
from icefall_ext.files import open_text_for_writing
from icefall_ext.text.tailo import Syllable

FOLDER, TABLE = "words", "words.tsv"
COLUMNS = ("id", "audio", "word", "base", "tone", "speaker", "gender", "part", "take")
VERSION = 1  # raise it when the same options make other bytes
_SILENCE = (0.08, 0.2)  # s, before and after: words come cut out by a voice activity detector

# Base, and its final in the stopped tones 4 and 8: a nasal turns into the stop made in the same place.
_TAIWANESE = """
    tong tok, kun kut, sian siat, tin tit, pang pak, king kik, kam kap, sim sip, lan lat, hong hok, tsing tsik,
    tshun tshut, hun hut, ka kah, pe peh, thiam thiap, an at, liong liok, bin bit, khe kheh, sam sap, gian giat, im ip,
    phang phak
"""
_MANDARIN = """
    m a, sh i, b ao, t ang, d u, l iu, zh ong, g uo, x ian, f an, q ing, ch en, h ui, j ia, n v, k ai, p o, r en, z ou,
    y i, s un, t iao, c ai, m ing
"""


@dataclass(frozen=True)
class MiniWord:
    text: str  # as it is written
    base: str
    tone: int
    say: Callable[[float, Dice], Spoken]  # at a rate


@dataclass(frozen=True)
class WordSizes:
    bases: int
    speakers: int  # in training
    unseen: int  # in test; dev has half as many
    takes: int

    @property
    def unseen_dev(self) -> int:
        return max(2, self.unseen // 4 * 2)


def taiwanese_words() -> list[list[MiniWord]]:
    """Tones 1, 2, 3, 4, 5, 7 and 8 of each base."""
    bases = []
    for entry in _TAIWANESE.replace("\n", " ").split(","):
        base, stopped = entry.split()
        syllables = [_tailo(stopped if tone in (4, 8) else base, tone) for tone in (1, 2, 3, 4, 5, 7, 8)]
        bases.append([MiniWord(s.number(), base, s.tone, _Alone(s)) for s in syllables])
    return bases


def mandarin_words() -> list[list[MiniWord]]:
    """Four tones of each base of the generated tonal language."""
    bases = []
    for entry in _MANDARIN.replace("\n", " ").split(","):
        onset, rime = entry.split()
        base, sounded = onset + rime, onset.replace("y", "")
        bases.append([MiniWord(f"{base}{tone}", base, tone, _Tonal(sounded, rime, tone)) for tone in (1, 2, 3, 4)])
    return bases


LANGUAGES: dict[str, Callable[[], list[list[MiniWord]]]] = {"taiwanese": taiwanese_words, "mandarin": mandarin_words}
MOST_BASES = 24


def _tailo(spelled: str, tone: int) -> Syllable:
    at = next(i for i, letter in enumerate(spelled) if letter in "aeiou")
    return Syllable(spelled[:at], spelled[at:], tone)


@dataclass(frozen=True)
class _Alone:
    syllable: Syllable

    def __call__(self, rate: float, dice: Dice) -> Spoken:
        return say_alone(self.syllable, rate, dice)


@dataclass(frozen=True)
class _Tonal:
    onset: str
    rime: str
    tone: int

    def __call__(self, rate: float, dice: Dice) -> Spoken:
        return tonal_word(self.onset, self.rime, self.tone, rate, dice)


@dataclass(frozen=True)
class WordTask:
    folder: Path
    seed: int
    language: str
    number: int  # of the speaker
    bases: int
    takes: tuple[str, ...]  # the part of each

    @property
    def name(self) -> str:
        return f"{self.number:06d}"


def plan_words(corpus_folder: Path, language: str, sizes: WordSizes, seed: int) -> Plan:
    folder = corpus_folder / FOLDER / language
    takes = [("train",) * sizes.takes] * sizes.speakers
    takes[: sizes.unseen] = [parts + ("test",) for parts in takes[: sizes.unseen]]
    takes += [("dev",)] * sizes.unseen_dev + [("test",)] * sizes.unseen
    words = sizes.bases * len(LANGUAGES[language]()[0])
    return Plan(
        folder,
        f"{language} words",
        {"bases": sizes.bases, "speakers": sizes.speakers, "unseen": sizes.unseen, "takes": sizes.takes, "seed": seed,
         "version": VERSION},
        [WordTask(folder, seed, language, number, sizes.bases, parts) for number, parts in enumerate(takes)],
        make_speaker_files,
        _Gather(folder),
        bytes=sum(map(len, takes)) * words * RATE * 2,
    )


def make_speaker_files(task: WordTask) -> Report:
    """The wavs of one speaker; returns the rows of the table."""
    voice = make_speaker(task.seed, f"words-{task.language}", task.number)
    speaker = replace(voice, folder=f"{task.language[:2]}{voice.sex}{task.number + 1:03d}")
    session = make_session(task.seed, speaker.folder)
    (task.folder / "wav" / speaker.folder).mkdir(parents=True, exist_ok=True)
    rows, samples = [], 0
    for take, part in enumerate(task.takes, start=1):
        for word in (word for base in LANGUAGES[task.language]()[: task.bases] for word in base):
            id = f"{speaker.folder}-{word.text}-{take}"
            dice = Dice(task.seed, id)
            spoken = word.say(speaker.rate * dice.bell(1.0, 0.05), dice)
            performance = perform(f"{task.seed}/{id}", [spoken], speaker, dice, _SILENCE)
            (recording,) = recordings(performance, speaker, session, MICROPHONES[:1])
            audio = f"wav/{speaker.folder}/{id}.wav"
            (task.folder / audio).write_bytes(encode_wav(recording))
            row = (id, audio, word.text, word.base, word.tone, speaker.folder, speaker.sex, part, take)
            rows.append(list(map(str, row)))
            samples += performance.samples
    return {"rows": rows, "samples": samples}


@dataclass(frozen=True)
class _Gather:
    folder: Path

    def __call__(self, reports: Iterator[Report]) -> Report:
        speakers = words = samples = 0
        with open_text_for_writing(self.folder / TABLE) as table:
            table.write("\t".join(COLUMNS) + "\n")
            for report in reports:
                speakers += 1
                words += len(report["rows"])
                samples += report["samples"]
                table.writelines("\t".join(row) + "\n" for row in report["rows"])
        hours = samples / RATE / 3600
        return {
            "speakers": speakers,
            "recordings": words,
            "hours": round(hours, 4),
            "summary": f"{words:,} recordings by {speakers} speakers, {hours:.2f} h",
        }
