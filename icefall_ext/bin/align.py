"""Find where each syllable of a transcript is in its audio, by forced alignment with a trained model.

The model is any training on Tai-lo with a CTC head. What is written is for the tone losses of icefall_ext.bin.train;
the format is in icefall_ext/align/file.py. The same command goes on where it was stopped, and does nothing once it is
done.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icefall_ext import console
from icefall_ext.align.spec import BACKENDS
from icefall_ext.cli import option, required, run
from icefall_ext.decode.options import ModelChoice
from icefall_ext.errors import UsageError, UserError
from icefall_ext.files import digest_of_file, open_jsonl_for_writing, read_jsonl, write_text
from icefall_ext.interruption import stop_at_once_when_asked

if TYPE_CHECKING:
    from icefall_ext.align.aligner import Aligner, Spoken
    from icefall_ext.data.index import CutIndex
    from icefall_ext.train.restore import Restored

FORMAT = 1  # of what is written; another one is made anew


@dataclass
class Config(ModelChoice):
    cuts: Path = required("cuts to align, with their audio and Tai-lo")
    out: Path = required("alignments to write, .jsonl or .jsonl.gz")
    tone5: str = option("auto", "surface tones: 5 becomes 7 (south) or 3 (north); auto: as the aligner learnt them",
                        choices=("auto", "south", "north"))
    backend: str = option("auto", "of the best path; auto takes torchaudio where it has one", choices=BACKENDS)
    max_duration: float = option(200.0, "seconds of audio in a batch, padding included")
    workers: int = option(0, "processes that load audio ahead; 0: none")


def main(cfg: Config) -> None:
    check(cfg)
    stop_at_once_when_asked()
    from icefall_ext.align.aligner import Aligner, Spoken
    from icefall_ext.align.file import about_path
    from icefall_ext.align.viterbi import available_backend
    from icefall_ext.decode.restoring import restore
    from icefall_ext.train.devices import choose_device, set_threads

    device = choose_device(cfg.device)
    backend = available_backend(cfg.backend)
    restored = restore(cfg, device)
    if restored.script != "tailo":
        raise UsageError(f"--exp-dir {cfg.exp_dir}: writes {restored.script}; syllables are aligned by a training on "
                         "Tai-lo")
    if cfg.tone5 == "auto":
        cfg.tone5 = restored.content["system"].get("tone5", "south")
    set_threads(cfg.threads, restored.model, device)
    made_from = made_from_what(cfg, restored)
    if is_done(cfg, made_from):
        console.kept(cfg.out, "same cuts and aligner")
        return
    aligner = Aligner(restored.model, restored.bpe, cfg.tone5, device, backend)
    index, left_out = index_of(cfg, restored, made_from)
    tones = restored.content["system"].get("tones", "citation")
    spoken = {cut["id"]: Spoken.of(cut, tones, cfg.tone5) for cut in read_jsonl(index.folder / "cuts.jsonl")}
    started = time.monotonic()
    aligned, failed, seconds = align_all(cfg, aligner, index, spoken, made_from)
    took = time.monotonic() - started
    syllables = write_in_order(cfg.out, spoken, aligned)
    left_out = {**left_out, **({"audio cannot be read": failed} if failed else {})}
    write_text(about_path(cfg.out), json.dumps({
        "made_from": made_from, "aligner": f"{cfg.exp_dir}, {restored.suffix}", "backend": backend,
        "utterances": len(aligned), "syllables": syllables, "utterances_left_out": left_out,
        "syllables_left_out": dict(aligner.left_out), "audio_s": round(seconds, 1), "align_s": round(took, 1),
        "cuts": str(cfg.cuts),
    }, ensure_ascii=False, indent=1) + "\n")
    shutil.rmtree(work_dir(cfg.out))
    reasons = [f"{count:,} utterances {reason}" for reason, count in sorted(left_out.items())]
    reasons += [f"{count:,} syllables that share {reason}" for reason, count in sorted(aligner.left_out.items())]
    if reasons:
        console.says(f"left out: {', '.join(reasons)}")
    speed = f", {seconds / max(took, 1e-9):.0f} s of audio/s" if seconds else ""
    console.wrote(cfg.out, f"{syllables:,} syllables of {len(aligned):,} utterances, {backend}{speed}")


def check(cfg: Config) -> None:
    cfg.check_model_choice()
    if not cfg.cuts.is_file():
        raise UsageError(f"--cuts {cfg.cuts}: no such file; run stage 4 first")
    if cfg.out.is_dir() or not cfg.out.name.removesuffix(".gz").endswith(".jsonl"):
        raise UsageError(f"--out {cfg.out}: name a file that ends in .jsonl or .jsonl.gz")
    if cfg.max_duration <= 0 or cfg.workers < 0:
        raise UsageError(f"--max-duration {cfg.max_duration}: above 0; --workers {cfg.workers}: not below 0")


def work_dir(out: Path) -> Path:
    """What an alignment under way keeps."""
    return out.with_name(out.name + ".under-way")


def made_from_what(cfg: Config, restored: Restored) -> str:
    from icefall_ext.decode.restoring import digest_of_model

    system = restored.content["system"]
    what = [FORMAT, digest_of_file(cfg.cuts), digest_of_model(restored.model), restored.bpe.digest,
            system.get("tones", "citation"), cfg.tone5]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def is_done(cfg: Config, made_from: str) -> bool:
    from icefall_ext.align.file import about_path

    try:
        about = json.loads(about_path(cfg.out).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return cfg.out.is_file() and about.get("made_from") == made_from


def index_of(cfg: Config, restored: Restored, made_from: str) -> tuple[CutIndex, dict[str, int]]:
    from icefall_ext.data.index import CutIndex
    from icefall_ext.data.transcripts import text_of
    from icefall_ext.transducer.model import too_short_for_ctc

    tones, encoder = restored.content["system"].get("tones", "citation"), restored.model.encoder

    def reason_against(seconds: float, tokens: list[int]) -> str | None:
        return "with fewer frames than tokens" if too_short_for_ctc(encoder, seconds, tokens) else None

    index, left_out = CutIndex.build(
        cfg.cuts, work_dir(cfg.out) / "index", lambda cut: text_of(cut, "tailo", tones, cfg.tone5),
        restored.bpe.encode, reason_against, made_from,
    )
    console.reads(cfg.cuts, f"{len(index):,} utterances, {index.durations.sum() / 3600:.2f} hours")
    if not len(index):
        raise UserError(f"{cfg.cuts}: no utterance to align ({left_out or 'it is empty'})")
    return index, left_out


def align_all(
    cfg: Config, aligner: Aligner, index: CutIndex, spoken: dict[str, Spoken], made_from: str
) -> tuple[dict[str, dict[str, Any]], int, float]:
    """Lines by id, how many utterances could not be read, and the seconds of audio that were aligned just now.

    Each batch is appended to a file; one that was stopped begins with what is there."""
    from icefall_ext.data.batches import BatchLimits, in_order
    from icefall_ext.data.loading import load_batches

    progress = work_dir(cfg.out) / f"{made_from[:16]}.jsonl"
    aligned = {row["id"]: row for row in whole_lines(progress)}
    if aligned:
        console.kept(progress, f"{len(aligned):,} utterances are aligned")
    ids = list(spoken)  # in the order of the index
    batches = in_order(index.durations, index.token_counts, BatchLimits(cfg.max_duration, 10**9))
    to_do = [rest for batch in batches if len(rest := batch[[ids[n] not in aligned for n in batch]])]
    failed, seconds = 0, 0.0
    with load_batches(index, to_do, cfg.workers, aligner.device.type == "cuda") as loaded, open(
        progress, "a", encoding="utf-8"
    ) as stream:
        stream.write("\n")  # after what may be half a line
        for batch in console.progress(loaded, "batches", total=len(to_do)):
            failed += len(batch.failed)
            for _, reason in batch.failed:
                console.says(f"left out {reason}")
            if not len(batch):
                continue
            for row in aligner(batch, spoken):
                aligned[row["id"]] = row
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            stream.flush()
            seconds += batch.seconds
    if not aligned:
        raise UserError(f"{cfg.cuts}: no audio of it could be read; see the lines above")
    return aligned, failed, seconds


def whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """A process that was killed may have left half a line."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def write_in_order(out: Path, order: Iterable[str], aligned: dict[str, dict[str, Any]]) -> int:
    syllables = 0
    with open_jsonl_for_writing(out) as writer:
        for id in order:
            if id in aligned:
                writer.write(aligned[id])
                syllables += len(aligned[id]["syllables"])
    return syllables


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    run(main, Config)
