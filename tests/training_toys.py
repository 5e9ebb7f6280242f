"""A corpus of beeps and a model of a few thousand parameters, to train in a second."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch

from icefall_ext.data.batches import BatchLimits
from icefall_ext.data.index import CutIndex
from icefall_ext.data.transcripts import text_of
from icefall_ext.encoders.load import build_encoder
from icefall_ext.encoders.spec import EncoderConfig
from icefall_ext.optim.groups import parameter_groups
from icefall_ext.optim.scaled_adam import ScaledAdam
from icefall_ext.text.bbpe import ByteBPE
from icefall_ext.train.config import MAY_DIFFER, LoopConfig, LossConfig
from icefall_ext.train.run_folder import RunFolder
from icefall_ext.train.trainer import Trainer, TrainingData
from icefall_ext.train.transducer_objective import TransducerObjective
from icefall_ext.transducer.model import TransducerModel
from icefall_ext.transducer.spec import ModelConfig

SYLLABLES = {"gua2": 300.0, "li2": 600.0, "i1": 1200.0, "tsit8": 2400.0}
HAN = dict(zip(SYLLABLES, "我你伊一"))


def write_cuts(folder: Path, count: int = 12, seed: int = 0, name: str = "cuts") -> Path:
    """Each syllable is 0.3 s of one frequency; both scripts are in the cuts."""
    random = np.random.default_rng(seed)
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.jsonl"
    with open(path, "w", encoding="utf-8") as stream:
        for number in range(count):
            words = list(random.choice(list(SYLLABLES), random.integers(2, 6)))
            tones = [np.sin(2 * np.pi * SYLLABLES[w] * np.arange(4800) / 16000) * 0.3 for w in words]
            audio = np.concatenate(tones) + random.normal(0, 0.01, 4800 * len(words))
            wav = folder / "audio" / f"{name}-{number}.wav"
            soundfile.write(wav, audio, 16000)
            stream.write(json.dumps(cut(f"{name}-{number}", wav, len(audio), words)) + "\n")
    return path


def cut(id: str, wav: Path, samples: int, words: list[str]) -> dict:
    seconds = samples / 16000
    source = {"type": "file", "channels": [0], "source": str(wav)}
    recording = {"id": id, "sources": [source], "sampling_rate": 16000, "num_samples": samples, "duration": seconds,
                 "channel_ids": [0]}
    supervision = {"id": id, "recording_id": id, "start": 0.0, "duration": seconds, "channel": 0, "speaker": "S1",
                   "text": "".join(HAN[w] for w in words), "custom": {"tailo": " ".join(words)}}
    return {"id": id, "start": 0.0, "duration": seconds, "channel": 0, "supervisions": [supervision],
            "recording": recording, "type": "MonoCut"}


def train_bpe(folder: Path, script: str = "tailo") -> ByteBPE:
    text = folder / f"text.{script}"
    words = list(SYLLABLES) if script == "tailo" else list(HAN.values())
    joined = [(" " if script == "tailo" else "").join(words[k:] + words[:k]) for k in range(4)] * 4
    text.write_text("\n".join(joined) + "\n", encoding="utf-8")
    return ByteBPE.train(text, 261, folder / f"lang_{script}")


def make_index(cuts: Path, folder: Path, bpe: ByteBPE) -> CutIndex:
    return CutIndex.build(cuts, folder, lambda c: text_of(c, "tailo"), bpe.encode, lambda *_: None, "toy")[0]


def make_trainer(folder: Path, cuts: Path, bpe: ByteBPE, source: str = "random:tiny-mel",
                 began_from: Sequence[Path] = (), **changes) -> Trainer:
    """`changes` are options of the loop."""
    settings = dict(epochs=2, lr=0.02, accumulate=2, average_period=2, log_every=1, save_every=2, lr_warmup=2.0,
                    seed=7) | changes
    cfg = LoopConfig(**settings)
    torch.manual_seed(cfg.seed)
    model = TransducerModel(
        build_encoder(EncoderConfig(source=source)), ModelConfig(predictor_dim=16, joiner_dim=16), bpe.vocab_size
    )
    data = TrainingData(
        make_index(cuts, folder / "data/train", bpe), make_index(cuts, folder / "data/valid", bpe),
        BatchLimits(max_duration=4.0),
    )
    optimizer = ScaledAdam(parameter_groups(model, cfg.lr), lr=cfg.lr, clipping_scale=cfg.clipping_scale)
    objective = TransducerObjective(model, LossConfig(warm_batches=4))
    system = {**model.to_dict(), "script": "tailo", "tones": "citation"}
    run_folder = RunFolder.start(cfg, folder, MAY_DIFFER)
    return Trainer(run_folder, model, objective, optimizer, data, cfg, torch.device("cpu"), system, began_from)
