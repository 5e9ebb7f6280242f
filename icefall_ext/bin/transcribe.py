"""Audio files of any usual format to text, or to JSON, SRT or TSV with time stamps.

FILE is an audio file, or a folder to be searched for them. Text goes to standard output as `FILE<tab>text`, or into
--out-dir. A file that cannot be read is one line on standard error; the others go on, and the exit status is 1.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from icefall_ext import console
from icefall_ext.cli import option, positional, program_name, run
from icefall_ext.decode.options import HOTWORDS, METHODS, ModelChoice, sweep
from icefall_ext.errors import UsageError
from icefall_ext.files import write_text
from icefall_ext.text import tailo

if TYPE_CHECKING:
    from icefall_ext.decode.transcription import Transcriber, Transcript
    from icefall_ext.train.restore import Restored

ENDINGS = {"text": ".txt", "json": ".json", "srt": ".srt", "tsv": ".tsv"}  # of the formats
TAILO_FORMS: dict[str, Callable[[str], str]] = {
    "model": str, "number": tailo.to_numbers, "diacritic": tailo.to_diacritics,
}


@dataclass
class Config(ModelChoice):
    files: list[str] = positional("audio files, or folders of them", "FILE")
    method: str = option("modified_beam_search", "decoding method", choices=METHODS)
    beam_size: int = option(4, "modified_beam_search: hypotheses kept")
    blank_penalty: float = option(0.0, "off the logit of blank; above 0: fewer deletions")
    hotwords: str = option("", "modified_beam_search: file of hotwords, `hotword` or `hotword<tab>bonus` a line")
    hotword_bonus: float = option(1.5, "of a hotword, for each of its tokens")
    format: str = option("text", "what is written", choices=tuple(ENDINGS))
    out_dir: str = option("", "folder for one result per file, instead of standard output")
    overwrite: bool = option(False, "replace results that --out-dir holds")
    tailo_form: str = option("model", "Tai-lo: tones in digits or as diacritics, or as the model writes them",
                             choices=tuple(TAILO_FORMS))
    max_segment: float = option(0.0, "seconds; longer audio is cut in its pauses; 0: what the model learnt from")
    pause: float = option(0.8, "seconds without a new syllable that part two segments")
    max_duration: float = option(120.0, "seconds of audio in a batch")


def main(cfg: Config) -> int:
    check(cfg)
    inputs = expand(cfg.files)
    outputs = output_paths(cfg, inputs)
    transcriber, restored = make_transcriber(cfg)
    spell = speller(cfg, restored)
    failures = 0
    for (_, shown), output, transcript in zip(inputs, outputs, transcriber([path for path, _ in inputs])):
        if transcript.error:
            failures += 1
            print(f"{program_name()}: {transcript.error}", file=sys.stderr, flush=True)
            continue
        transcript.segments = [segment.respelt(spell) for segment in transcript.segments]
        put(cfg, transcript, shown, output)
    if failures and len(inputs) > 1:
        print(f"{program_name()}: {failures:,} of {len(inputs):,} files could not be read", file=sys.stderr)
    return 1 if failures else 0


def check(cfg: Config) -> None:
    cfg.check_model_choice()
    if 0 != cfg.max_segment < 1 or cfg.max_duration < cfg.max_segment or cfg.pause <= 0:
        raise UsageError(f"--max-segment {cfg.max_segment}: 0, or at least 1; --max-duration {cfg.max_duration}: at "
                         f"least --max-segment; --pause {cfg.pause}: above 0")
    if cfg.hotwords and not Path(cfg.hotwords).is_file():
        raise UsageError(f"--hotwords {cfg.hotwords}: no such file")
    if cfg.out_dir and Path(cfg.out_dir).exists() and not Path(cfg.out_dir).is_dir():
        raise UsageError(f"--out-dir {cfg.out_dir}: is a file; name a folder")


def expand(files: Sequence[str]) -> list[tuple[Path, Path]]:
    """(file, its name for results): below a folder that was given, the path from there."""
    from icefall_ext.decode.audio import SUFFIXES

    found: list[tuple[Path, Path]] = []
    for given in map(Path, files):
        if not given.is_dir():
            found.append((given, Path(given.name)))
            continue
        inside = sorted(path for path in given.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        if not inside:
            raise UsageError(f"{given}: no audio file in it ({', '.join(sorted(SUFFIXES))})")
        found += [(path, path.relative_to(given)) for path in inside]
    return found


def output_paths(cfg: Config, inputs: Sequence[tuple[Path, Path]]) -> list[Path | None]:
    """Where each result goes, None for standard output; what would be lost is an error before the work starts."""
    if not cfg.out_dir:
        if cfg.format == "srt" and len(inputs) > 1:
            raise UsageError(f"--format srt: {len(inputs)} files cannot share standard output; give --out-dir")
        return [None] * len(inputs)
    outputs: dict[Path, Path] = {}
    for path, shown in inputs:
        output = Path(cfg.out_dir) / shown.with_suffix(ENDINGS[cfg.format])
        if output in outputs:
            raise UsageError(f"{outputs[output]}, {path}: both results would be {output}; transcribe them one by one")
        if output.exists() and not cfg.overwrite:
            raise UsageError(f"{output}: exists; --overwrite replaces it")
        outputs[output] = path
    Path(cfg.out_dir).mkdir(parents=True, exist_ok=True)
    return list(outputs)


def make_transcriber(cfg: Config) -> tuple[Transcriber, Restored]:
    from icefall_ext.decode.decoder import Decoder
    from icefall_ext.decode.pieces import usual_length
    from icefall_ext.decode.restoring import restore
    from icefall_ext.decode.searches import Resources, search_of
    from icefall_ext.decode.transcription import Limits, Transcriber
    from icefall_ext.train.devices import choose_device, set_threads

    device = choose_device(cfg.device)
    restored = restore(cfg, device)
    set_threads(cfg.threads, restored.model, device)
    resources = Resources.read(restored.bpe, restored.script, device, hotwords=cfg.hotwords)
    options = {"beam_size": [cfg.beam_size], "blank_penalty": [cfg.blank_penalty], "temperature": [1.0], "beam": [20.0],
               "max_contexts": [8], "max_states": [64], HOTWORDS: [cfg.hotword_bonus]}
    (setting,) = sweep([cfg.method], options, {HOTWORDS: cfg.hotwords} if cfg.hotwords else {})
    search, _ = search_of(setting, restored.model, resources, backend="torch")
    limits = Limits(cfg.max_segment or usual_length(cfg.exp_dir), cfg.max_duration, cfg.pause)
    return Transcriber(Decoder(restored.model, [search], device), restored.bpe, limits), restored


def speller(cfg: Config, restored: Restored) -> Callable[[str], str]:
    if cfg.tailo_form != "model" and restored.script != "tailo":
        raise UsageError(f"--tailo-form {cfg.tailo_form}: this model writes {restored.script}, not Tai-lo")
    return TAILO_FORMS[cfg.tailo_form]


def put(cfg: Config, transcript: Transcript, shown: Path, output: Path | None) -> None:
    from icefall_ext.decode.transcription import WRITERS

    text = WRITERS[cfg.format](transcript)
    if output is not None:
        write_text(output, text)
        console.wrote(output, f"{transcript.duration:.1f} s")
    elif cfg.format in ("text", "tsv"):
        lines = text.splitlines() if cfg.format == "text" else text.splitlines()[1:]
        sys.stdout.writelines(f"{transcript.path}\t{line}\n" for line in lines)
        sys.stdout.flush()
    else:
        sys.stdout.write(text)
        sys.stdout.flush()


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    run(main, Config)
