"""One HTML page of an experiment: results, curves, tone confusion, errors, and every utterance with its audio; of
models of isolated words their scores and the pictures of their embeddings.

The page needs no network and no other file. Folders that hold no result yet give a page that says what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from icefall_ext import console
from icefall_ext.cli import option, required, run
from icefall_ext.errors import UsageError
from icefall_ext.files import write_text
from icefall_ext.score.report.audio import MODES, Clips, Cut, make_clips, read_cuts
from icefall_ext.score.report.experiment import Experiment, read_experiment
from icefall_ext.score.report.page import page
from icefall_ext.score.report.utterances import Listed, list_utterances


@dataclass
class Config:
    exp_dir: str = required("folder with the runs of an experiment, exp/<recipe>-<corpus>")
    cuts: list[str] = option([], "cuts of the test sets: speakers, durations and audio")
    out: str = option("", "the page, if not <exp-dir>/report/index.html")
    audio: str = option(
        "auto",
        "embed recordings in the page, link to their files, or embed up to the limit and link the rest",
        choices=MODES,
    )
    max_embedded_mb: float = option(20, "limit for embedded recordings, the utterances with most errors first")


def main(cfg: Config) -> None:
    check(cfg)
    out = Path(cfg.out or Path(cfg.exp_dir) / "report/index.html")
    console.reads(", ".join([cfg.exp_dir, *cfg.cuts]))
    experiment = read_experiment(Path(cfg.exp_dir))
    cuts = read_cuts(cfg.cuts)
    listed = list_utterances(experiment)
    clips = clips_of(cfg, experiment, listed, cuts, out)
    write_text(out, page(experiment, listed, cuts, clips, datetime.now()))
    for gap in dict.fromkeys(experiment.gaps):
        console.says(gap)
    console.wrote(out, summary(experiment, listed, clips, out))


def check(cfg: Config) -> None:
    for path in cfg.cuts:
        if not Path(path).is_file():
            raise UsageError(f"--cuts {path}: no such file; stage 4 makes it")
    if cfg.audio in ("embed", "link") and not cfg.cuts:
        raise UsageError(f"--audio {cfg.audio}: needs --cuts, which name the recordings")
    if not cfg.max_embedded_mb >= 0:
        raise UsageError(f"--max-embedded-mb {cfg.max_embedded_mb}: 0 or more")
    if cfg.out and Path(cfg.out).is_dir():
        raise UsageError(f"--out {cfg.out}: is a folder; name the file in it, {Path(cfg.out) / 'index.html'}")


def clips_of(cfg: Config, experiment: Experiment, listed: list[Listed], cuts: dict[str, Cut], out: Path) -> Clips:
    """In the order of what a reader looks at first: the worst utterances of the first system."""
    if not cuts or cfg.audio == "none":
        if not cuts and listed:
            experiment.gaps.append("There is no audio, and no speaker is named: --cuts would bring both.")
        return Clips()
    ids = dict.fromkeys(id for one in listed for id in one.worst_first)
    clips = make_clips(cfg.audio, cuts, ids, out, cfg.max_embedded_mb * 1e6)
    if clips.without:
        experiment.gaps.append(f"{clips.without:,} of {len(ids):,} utterances have no audio; the first: {clips.why}")
    return clips


def summary(experiment: Experiment, listed: list[Listed], clips: Clips, out: Path) -> str:
    if experiment.words and not experiment.results:
        return f"{out.stat().st_size / 1e6:.1f} MB, {len(experiment.words):,} models of words with their pictures"
    utterances = len({row[0] for one in listed for row in one.rows})
    return (
        f"{out.stat().st_size / 1e6:.1f} MB, {len(experiment.results):,} systems, {utterances:,} utterances,"
        f" {clips.embedded:,} recordings embedded, {clips.linked:,} linked"
    )


if __name__ == "__main__":
    run(main, Config)
