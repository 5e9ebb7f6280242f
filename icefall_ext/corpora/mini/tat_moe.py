"""The Hokkien corpus in TAT-MOE's layout: the work of one speaker, and the ground truth beside the corpus.

`PLANTED.tsv` lists what is wrong on purpose and `ground_truth/<part>.jsonl.gz` what was really said; no importer
reads them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from icefall_ext.corpora.mini import traps
from icefall_ext.corpora.mini.build import Plan, Report
from icefall_ext.corpora.mini.dice import Dice
from icefall_ext.corpora.mini.layout import PARTS, Place, encode_label, encode_wav, label_of, place_of
from icefall_ext.corpora.mini.microphones import MICROPHONES, make_session
from icefall_ext.corpora.mini.sizes import sizes
from icefall_ext.corpora.mini.speakers import make_speaker
from icefall_ext.corpora.mini.synth import RATE
from icefall_ext.corpora.mini.utterance import Utterance, plan_utterance, recordings, truth
from icefall_ext.files import open_jsonl_for_writing, write_text

VERSION = 1  # of the corpus: raise it when the same options make other bytes
PLANTED, TRUTH = "PLANTED.tsv", "ground_truth"
SOURCE = "source"  # folder of the source languages, a plan of its own
_FIRST, _SECOND = MICROPHONES
_SECOND_LACKS = 0.08  # of the sentences, and of the speakers all sentences of
_SECOND_LACKS_SPEAKER = 0.03
_FEWEST = 2  # sentences a speaker


@dataclass(frozen=True)
class SpeakerTask:
    folder: Path
    seed: int
    part: str
    number: int
    speakers: int
    seconds: float

    @property
    def name(self) -> str:
        return f"{self.part}-{self.number:06d}"


def plan_corpus(folder: Path, hours: float, seed: int) -> Plan:
    size = sizes(hours)
    tasks = [
        SpeakerTask(folder, seed, part, number, size[part].speakers, size[part].seconds_each)
        for part in PARTS
        for number in range(size[part].speakers)
    ]
    seconds = sum(part.seconds for part in size.values())
    return Plan(
        folder,
        "mini corpus",
        {"mini_hours": hours, "seed": seed, "version": VERSION},
        tasks,
        make_speaker_files,
        _Gather(folder),
        bytes=int(seconds * RATE * 2 * len(MICROPHONES) * 1.1),
        neighbours=frozenset({SOURCE}),
    )


def make_speaker_files(task: SpeakerTask) -> Report:
    """Everything of one speaker; returns the rows of the ground truth."""
    return _SpeakerWork(task).do()


class _SpeakerWork:
    def __init__(self, task: SpeakerTask):
        self.task = task
        self.speaker = make_speaker(task.seed, task.part, task.number)
        self.session = make_session(task.seed, self.speaker.folder)
        self.ordinary = self._fill()
        self.minutes = sum(utterance.performance.seconds for utterance in self.ordinary) / 60
        self.dice = Dice(task.seed, "labels", self.speaker.folder)
        self.truth: list[Report] = []
        self.planted: list[list[str]] = []

    def do(self) -> Report:
        lacks_second = self.dice.happens(_SECOND_LACKS_SPEAKER) and self.task.number > 1
        for number, utterance in enumerate(self.ordinary):
            place = place_of(self.task.seed, self.task.part, self.speaker, number)
            self._ordinary(place, utterance, lacks_second or self.dice.happens(_SECOND_LACKS))
        home = place_of(self.task.seed, self.task.part, self.speaker, 0)
        for position, trap in traps.traps_of(self.task.number, self.task.speakers):
            utterance = plan_utterance(self.task.seed, self.speaker, len(self.truth))
            self._trap(trap, home._replace(sentence=traps.sentence_number(trap, position)), utterance)
        if self.task.number == 0:
            self._litter(home)
        return {"part": self.task.part, "truth": self.truth, "planted": self.planted}

    def _fill(self) -> list[Utterance]:
        """As many sentences as come nearest to the speaker's share of the hours."""
        utterances: list[Utterance] = []
        seconds = 0.0
        while True:
            utterance = plan_utterance(self.task.seed, self.speaker, len(utterances))
            length = utterance.performance.seconds
            if len(utterances) >= _FEWEST and seconds + length / 2 > self.task.seconds:
                return utterances
            utterances.append(utterance)
            seconds += length

    def _ordinary(self, place: Place, utterance: Utterance, lacks_second: bool) -> None:
        self._write(place.label, encode_label(self._label(place, utterance)))
        used = MICROPHONES[:1] if lacks_second else MICROPHONES
        for microphone, samples in zip(used, recordings(utterance.performance, self.speaker, self.session, used)):
            self._write(place.audio(microphone), encode_wav(samples))
        self._note(place, utterance, {microphone.name: place.audio(microphone) for microphone in used})

    def _trap(self, trap: traps.Trap, place: Place, utterance: Utterance) -> None:
        microphone = _SECOND if trap.other_microphone else _FIRST
        (samples,) = recordings(utterance.performance, self.speaker, self.session, (microphone,))
        sentence = traps.Sentence(self._label(place, utterance), samples)
        trap.spoil(sentence)
        if sentence.label is not None:
            self._write(place.label, sentence.label)
        if sentence.audio is not None:
            self._write(place.audio(microphone), sentence.audio)
        audio = {} if sentence.audio is None else {microphone.name: place.audio(microphone)}
        self._note(place, utterance, audio, trap=trap.name)
        self._plant(trap.name, place.audio(microphone) if trap.spoils_audio else place.label, trap.expected, trap.why)

    def _litter(self, place: Place) -> None:
        for name, beside_audio, file, why in traps.LITTER:
            folder, _, stem = (place.audio(_FIRST) if beside_audio else place.label).rpartition("/")
            stray = f"{folder}/{file.format(neighbour=stem)}"
            self._write(stray, traps.LITTER_CONTENT)
            self._plant(name, stray, traps.IGNORED, why)

    def _label(self, place: Place, utterance: Utterance) -> dict[str, str]:
        label_id = 100_000 * (self.task.number + 1) + 10 * len(self.truth) + list(PARTS).index(self.task.part)
        return label_of(utterance, place, self.speaker, label_id, self.minutes, self.dice)

    def _write(self, name: str, content: bytes) -> None:
        path = self.task.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def _note(self, place: Place, utterance: Utterance, audio: dict[str, str], **more: str) -> None:
        about = {"part": place.part, "speaker": place.speaker, "card": place.card, "sentence": place.sentence}
        about |= {"tone5": self.speaker.tone5, "pitch": round(self.speaker.voice.pitch, 1), "audio": audio}
        self.truth.append(about | more | truth(utterance))

    def _plant(self, trap: str, file: str, expected: str, why: str) -> None:
        self.planted.append([self.task.part, trap, file, expected, why])


@dataclass(frozen=True)
class _Gather:
    """Turn the speakers' reports, part by part, into the files of the ground truth."""

    folder: Path

    def __call__(self, reports: Iterator[Report]) -> Report:
        planted = ["\t".join(traps.COLUMNS)]
        counts = {}
        for part, of_part in groupby(reports, key=lambda report: report["part"]):
            speakers = sentences = samples = 0
            with open_jsonl_for_writing(self.folder / TRUTH / f"{part}.jsonl.gz") as rows:
                for report in of_part:
                    speakers += 1
                    planted += ["\t".join(row) for row in report["planted"]]
                    for row in report["truth"]:
                        rows.write(row)
                        sentences += "trap" not in row
                        samples += row["samples"] * ("trap" not in row)
            counts[part] = {"speakers": speakers, "sentences": sentences, "hours": round(samples / RATE / 3600, 4)}
        write_text(self.folder / PLANTED, "\n".join(planted) + "\n")
        summary = ", ".join(
            f"{part} {count['hours']:.2f} h of {count['speakers']:,} speakers" for part, count in counts.items()
        )
        return {"parts": counts, "summary": f"{summary}; {len(planted) - 1} traps in {PLANTED}"}
