"""How fast syllables are aligned, what that comes to for a corpus, and how far boundaries are off where they are known.

Three steps of an utterance are timed apart: loading, the encoder with its CTC head, and the best path by each backend.
`--encoders` are sizes with random weights, on audio and texts that are random too (2 to 8 s, 8 tokens a second): speed
does not depend on what is said. `--exp-dir` is a trained aligner, on the cuts of `--cuts`; with `--truth` (of the
generated corpus) its boundaries are compared with the real ones.

    python -m benchmarks.bench_alignment --encoders mel-mini hubert-base --minutes 2 --hours 150
    python -m benchmarks.bench_alignment --exp-dir exp/clift-mini/aligner \\
        --cuts data/mini/wav/mini_cuts_train.jsonl.gz \\
        --truth data/mini/corpus-2.0h-seed1/ground_truth/train.jsonl.gz
"""

from __future__ import annotations

import copy
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from icefall_ext import console
from icefall_ext.align.syllables import syllables_in_time, tokens_of_syllables
from icefall_ext.align.viterbi import available_backend, forced_align
from icefall_ext.cli import option, run
from icefall_ext.data.loading import SAMPLE_RATE, SpeechBatch, collate, load_audio
from icefall_ext.encoders.spec import EncoderConfig, named_size
from icefall_ext.encoders.speech_encoder import SpeechEncoder
from icefall_ext.errors import UsageError, UserError
from icefall_ext.files import read_jsonl

VOCAB, TOKENS_PER_SECOND = 500, 8
LOADING, ENCODER = "loading", "encoder and CTC head"
_RIGHT = "share of what is cut out that is the syllable"


@dataclass
class Config:
    encoders: list[str] = option([], "names of sizes, with random weights and audio")
    exp_dir: str = option("", "a trained aligner instead")
    cuts: str = option("", "its cuts")
    truth: str = option("", "what was really said and when, of the generated corpus")
    minutes: float = option(5.0, "audio to align, as much as there is")
    batch_seconds: float = option(200.0, "seconds of audio in a batch")
    hours: float = option(150.0, "the corpus that the time is estimated for")
    rounds: int = option(3, "every measurement is the median of so many")
    threads: int = option(1, "of torch, on a CPU")
    device: str = option("cpu", "where the encoder runs", choices=("cpu", "cuda"))


def main(cfg: Config) -> None:
    if bool(cfg.encoders) == bool(cfg.exp_dir) or bool(cfg.exp_dir) != bool(cfg.cuts):
        raise UsageError("--encoders, or --exp-dir with --cuts: one of them")
    torch.set_num_threads(cfg.threads)
    backends = dict.fromkeys((available_backend(), "torch"))
    rows, arithmetic = [], []
    for name in cfg.encoders or [cfg.exp_dir]:
        if cfg.encoders:
            model, batches = random_model(cfg, name), random_batches(cfg)
            timed = [measure(cfg, model, batches, list(backends)) for _ in range(cfg.rounds)]
        else:
            timed = measure_trained(cfg, list(backends))
        audio = timed[0]["audio"]
        for backend in backends:
            steps = {step: float(np.median([of[step] for of in timed])) for step in (LOADING, ENCODER, backend)}
            per_second = {step: seconds / audio * 1e3 for step, seconds in steps.items()}
            whole = sum(per_second.values())
            rows.append((f"{name}, {backend}", f"{audio:.0f}", *(f"{ms:.2f}" for ms in per_second.values()),
                         f"{1e3 / whole:.0f}"))
            terms = " + ".join(f"{ms:.2f}" for ms in per_second.values())
            arithmetic.append(f"{name}, {backend}: {cfg.hours:g} h x ({terms}) ms/s = {cfg.hours * whole / 1e3:.2f} h")
    console.table(("aligner, backend", "audio s", "loading ms/s", "encoder ms/s", "best path ms/s", "audio s/s"), rows)
    for line in arithmetic:
        console.says(line)
    console.says(f"one process, {cfg.threads} threads; encoder on {cfg.device}; torch {torch.__version__}")


@contextmanager
def clock(into: dict[str, float], step: str, device: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    if device == "cuda":
        torch.cuda.synchronize()
    into[step] = into.get(step, 0.0) + time.perf_counter() - started


class _CtcModel(torch.nn.Module):
    def __init__(self, encoder: SpeechEncoder):
        super().__init__()
        self.encoder, self.ctc_output = encoder, torch.nn.Linear(encoder.output_dim, VOCAB)


def random_model(cfg: Config, name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    encoder = SpeechEncoder(named_size(name), EncoderConfig(source=f"random:{name}"))
    return _CtcModel(encoder).to(cfg.device).eval()


def random_batches(cfg: Config) -> list[SpeechBatch]:
    random = np.random.default_rng(0)
    batches, left = [], cfg.minutes * 60
    while left > 0:
        waveforms, tokens, of_batch = [], [], 0.0
        while of_batch < min(cfg.batch_seconds, left):
            seconds = random.uniform(2, 8)
            waveforms.append(random.normal(0, 0.1, int(seconds * SAMPLE_RATE)).astype(np.float32))
            tokens.append(random.integers(3, VOCAB, int(seconds * TOKENS_PER_SECOND)).tolist())
            of_batch += seconds
        batches.append(collate(waveforms, tokens, [str(n) for n in range(len(tokens))]))
        left -= of_batch
    return batches


@torch.inference_mode()
def measure(cfg: Config, model: torch.nn.Module, batches: list[SpeechBatch], backends: list[str]) -> dict[str, float]:
    """Seconds of each step over all batches, and of audio."""
    took: dict[str, float] = {LOADING: 0.0, "audio": sum(batch.seconds for batch in batches)}
    for batch in batches:
        with clock(took, ENCODER, cfg.device):
            frames, lengths = model.encoder(batch.waveforms.to(cfg.device), batch.lengths)
            log_probs = F.log_softmax(model.ctc_output(frames), dim=-1)
        for backend in backends:
            with clock(took, backend, cfg.device):
                forced_align(log_probs, lengths, batch.tokens, batch.ids, backend)
    return took


def measure_trained(cfg: Config, backends: list[str]) -> list[dict[str, float]]:
    from lhotse.serialization import deserialize_item

    from icefall_ext.align.aligner import Spoken
    from icefall_ext.train.restore import restore_model

    restored = restore_model(Path(cfg.exp_dir), device=cfg.device)
    tones = restored.content["system"].get("tones", "citation")
    cuts, seconds = [], 0.0
    for cut in read_jsonl(cfg.cuts):
        if seconds < cfg.minutes * 60:
            cuts.append(cut)
            seconds += cut["duration"]
    spoken = [Spoken.of(cut, tones, "south") for cut in cuts]
    size = max(1, round(cfg.batch_seconds / (seconds / len(cuts))))
    parts = [slice(start, start + size) for start in range(0, len(cuts), size)]
    timed = []
    for _ in range(cfg.rounds):
        took: dict[str, float] = {}
        with clock(took, LOADING, cfg.device):
            batches = [collate([load_audio(deserialize_item(copy.deepcopy(cut))) for cut in cuts[part]],
                               [restored.bpe.encode(one.aligned) for one in spoken[part]],
                               [cut["id"] for cut in cuts[part]]) for part in parts]
        timed.append(measure(cfg, restored.model, batches, backends) | took)
    if cfg.truth:
        compare(cfg, restored, batches, dict(zip([cut["id"] for cut in cuts], spoken)))
    return timed


@torch.inference_mode()
def compare(cfg: Config, restored, batches: list[SpeechBatch], spoken: dict) -> None:
    """How far the times of syllables are from what the generated corpus says."""
    from icefall_ext.align.syllables import labels_of

    real = {}
    for row in read_jsonl(cfg.truth):
        key = row["speaker"].split("_")[-1], row["card"], row["sentence"]
        real[key] = [(one["phones"][0][1], one["phones"][-1][2]) for one in row["syllables"]]
    step = restored.model.encoder.samples_per_frame / SAMPLE_RATE
    off: dict[str, list[float]] = defaultdict(list)
    for batch in batches:
        frames, lengths = restored.model.encode(batch.waveforms.to(cfg.device), batch.lengths)
        paths = forced_align(F.log_softmax(restored.model.ctc_output(frames), dim=-1), lengths, batch.tokens, batch.ids)
        for id, tokens, path in zip(batch.ids, batch.tokens, paths):
            speaker, card, sentence, *_ = id.split("-")
            times = real.get((speaker.split("_")[-1], card, sentence))
            owned = tokens_of_syllables(spoken[id].aligned, restored.bpe.spelled(tokens))
            found = syllables_in_time(path, owned, labels_of(spoken[id].written), step)
            if times is None or len(times) != len(found):
                continue  # the text was repaired: other syllables than were said
            for one, (start, end) in zip(found, times):
                off["start"].append(one.start - start)
                off["end"].append(one.end - end)
                inside = max(0.0, min(one.end, end) - max(one.start, start))
                off[_RIGHT].append(inside / max(one.end - one.start, 1e-9))
    if not off:
        raise UserError(f"{cfg.truth}: none of the cuts is in it")
    for edge in ("start", "end"):
        error = np.array(off[edge]) * 1e3
        console.says(f"{edge}: median {np.median(error):+.0f} ms, median size {np.median(abs(error)):.0f} ms, "
                     f"{100 * np.mean(abs(error) <= 50):.0f} % within 50 ms, {100 * np.mean(abs(error) <= 100):.0f} % "
                     f"within 100 ms ({len(error):,} syllables)")
    share = np.array(off[_RIGHT])
    console.says(f"of what is cut out, {100 * share.mean():.0f} % is the syllable; {100 * np.mean(share < 0.3):.1f} % "
                 "of the syllables are less than 30 % right")


if __name__ == "__main__":
    run(main, Config)
