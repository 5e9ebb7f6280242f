"""A folder of audio files as cuts without text, for pre-training.

Any tree of .wav, .flac, .mp3, .ogg and .opus files, in the order of names. What cannot be used stands in --audit.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from icefall_ext import console
from icefall_ext.audit import open_audit, summarise
from icefall_ext.cli import option, required, run
from icefall_ext.corpora.audio_folder import Windows, write_audio_cuts
from icefall_ext.errors import UsageError, UserError
from icefall_ext.files import open_jsonl_for_writing
from icefall_ext.parallel import processes


@dataclass
class Config:
    audio_dir: Path = required("folder with audio files at any depth")
    cuts: Path = required("file to write, ending in .jsonl.gz or .jsonl")
    audit: Path = required("file to write: what was left out, and why (.tsv)")
    window: float = option(20.0, "seconds; a longer file becomes several cuts of equal length")
    min_seconds: float = option(1.0, "leave out shorter files")
    nj: int = option(0, "processes that read headers; 0: one for each core")


def main(cfg: Config) -> None:
    if not 0 < 2 * cfg.min_seconds <= cfg.window:
        raise UsageError(f"--min-seconds {cfg.min_seconds}, --window {cfg.window}: the first above 0, the second at "
                         "least twice that")
    if not cfg.cuts.name.endswith((".jsonl", ".jsonl.gz")):
        raise UsageError(f"--cuts {cfg.cuts}: must end in .jsonl.gz or .jsonl")
    nj = processes(cfg.nj)
    console.reads(cfg.audio_dir)
    with open_audit(cfg.audit) as audit, open_jsonl_for_writing(cfg.cuts) as writer:
        seconds = write_audio_cuts(cfg.audio_dir, Windows(cfg.min_seconds, cfg.window), writer, audit, nj)
        if not writer.count:
            raise UserError(f"{cfg.audio_dir}: no audio to use ({'; '.join(summarise([audit])) or 'it is empty'})")
    console.wrote(cfg.cuts, f"{writer.count:,} cuts, {seconds / 3600:.2f} h")
    console.wrote(cfg.audit, audit.totals())
    for line in summarise([audit]):
        console.says(line)


if __name__ == "__main__":
    run(main, Config)
