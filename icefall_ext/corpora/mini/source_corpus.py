"""Source languages for pre-training: `source/{tonal,nontonal}/wav/<SPK>/<id>.wav` and a table for the importer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from icefall_ext.corpora.mini.build import Plan, Report
from icefall_ext.corpora.mini.dice import Dice
from icefall_ext.corpora.mini.layout import encode_wav
from icefall_ext.corpora.mini.microphones import MICROPHONES, make_session
from icefall_ext.corpora.mini.sizes import sizes
from icefall_ext.corpora.mini.source_languages import LANGUAGES
from icefall_ext.corpora.mini.speakers import Speaker, make_speaker
from icefall_ext.corpora.mini.synth import RATE
from icefall_ext.corpora.mini.tat_moe import SOURCE, VERSION
from icefall_ext.corpora.mini.utterance import Performance, perform, recordings
from icefall_ext.files import open_text_for_writing

TABLE = "utterances.tsv"
COLUMNS = ("id", "audio", "text", "speaker", "gender")


@dataclass(frozen=True)
class SourceTask:
    folder: Path
    seed: int
    language: str
    number: int
    seconds: float

    @property
    def name(self) -> str:
        return f"{self.number:06d}"


def plan_source(corpus_folder: Path, language: str, hours: float, seed: int) -> Plan:
    size = sizes(hours)["train"]
    folder = corpus_folder / SOURCE / language
    return Plan(
        folder,
        f"{language} source language",
        {"source_hours": hours, "seed": seed, "version": VERSION},
        [SourceTask(folder, seed, language, number, size.seconds_each) for number in range(size.speakers)],
        make_speaker_files,
        _Gather(folder),
        bytes=int(size.seconds * RATE * 2 * 1.1),
    )


def make_speaker_files(task: SourceTask) -> Report:
    """The wavs of one speaker; returns the rows of the table."""
    speaker = make_speaker(task.seed, task.language, task.number)
    speaker = replace(speaker, folder=f"{task.language[:3]}{speaker.sex}{task.number + 1:04d}")
    session = make_session(task.seed, speaker.folder)
    rows, seconds, samples = [], 0.0, 0
    while True:
        id = f"{speaker.folder}-{len(rows) + 1:03d}"
        performance, text = _perform(task, speaker, id)
        if rows and seconds + performance.seconds / 2 > task.seconds:
            return {"rows": rows, "samples": samples}
        (recording,) = recordings(performance, speaker, session, MICROPHONES[:1])
        audio = f"wav/{speaker.folder}/{id}.wav"
        (task.folder / audio).parent.mkdir(parents=True, exist_ok=True)
        (task.folder / audio).write_bytes(encode_wav(recording))
        rows.append([id, audio, text, speaker.folder, speaker.sex])
        seconds += performance.seconds
        samples += performance.samples


def _perform(task: SourceTask, speaker: Speaker, id: str) -> tuple[Performance, str]:
    name = f"{task.seed}/{id}"
    dice = Dice(name)
    spoken, text = LANGUAGES[task.language](speaker.rate * dice.bell(1.0, 0.05), dice)
    return perform(name, spoken, speaker, dice), text


@dataclass(frozen=True)
class _Gather:
    folder: Path

    def __call__(self, reports: Iterator[Report]) -> Report:
        speakers = sentences = samples = 0
        with open_text_for_writing(self.folder / TABLE) as table:
            table.write("\t".join(COLUMNS) + "\n")
            for report in reports:
                speakers += 1
                sentences += len(report["rows"])
                samples += report["samples"]
                table.writelines("\t".join(row) + "\n" for row in report["rows"])
        hours = samples / RATE / 3600
        return {
            "speakers": speakers,
            "sentences": sentences,
            "hours": round(hours, 4),
            "summary": f"{hours:.2f} h of {speakers:,} speakers",
        }
