"""An experiment folder with an untrained model that talks, and cuts to decode: seconds to make, nothing to download."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch

from icefall_ext.encoders.spec import EncoderConfig, named_size
from icefall_ext.encoders.speech_encoder import SpeechEncoder
from icefall_ext.text.bbpe import ByteBPE
from icefall_ext.train.checkpoint import save_checkpoint
from icefall_ext.transducer.model import TransducerModel
from icefall_ext.transducer.spec import ModelConfig

TEXTS = {
    "hanlo": ["我欲去台北食飯", "你 beh 去佗位", "今仔日天氣真好", "伊真 gâu 講話"],
    "tailo": ["gua2 beh4 khi3 tai5-pak4 tsiah8-png7", "li2 beh4 khi3 to2-ui7", "kin1-a2-jit8 thinn1-khi3 tsin1 ho2",
              "i1 tsin1 gau5 kong2-ue7"],
}
VOCAB = 264
SEED = 2
SCALES = {"encoder.": 0.02, "joiner.output_linear": 4.0, "joiner": 0.2, "decoder.embedding": 1.0, "": 0.1}
BLANK_BIAS = 9.0  # about every third frame says something


def make_experiment(folder: Path, script: str = "hanlo", *, predictor: str = "stateless") -> Path:
    """epoch-1.pt and epoch-2.pt, which differ, and lang/."""
    folder.mkdir(parents=True)
    (folder / "texts").write_text("\n".join(5 * TEXTS[script]) + "\n", encoding="utf-8")
    bpe = ByteBPE.train(folder / "texts", VOCAB, folder / "lang")
    encoder = SpeechEncoder(named_size("tiny-mel"), EncoderConfig(source="random:tiny-mel"))
    model = TransducerModel(encoder, ModelConfig(predictor=predictor, predictor_dim=32, joiner_dim=32), bpe.vocab_size)
    random = np.random.default_rng(SEED)  # torch's own numbers differ between its versions
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                scale = next(scale for beginning, scale in SCALES.items() if name.startswith(beginning))
                parameter.copy_(torch.from_numpy(scale * random.standard_normal(parameter.shape)))
            else:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
        letters = "tai5 gu lo kesh"  # or most of what it says in Han-Lo would be halves of characters
        heard = sorted({token for text in [letters, *TEXTS[script]] for token in bpe.encode(text)})
        model.joiner.output_linear.bias.fill_(-60.0)
        model.joiner.output_linear.bias[[0, *heard]] = torch.tensor([BLANK_BIAS] + [0.0] * len(heard))
    average = {name: value.double() for name, value in model.state_dict().items()}
    for epoch in (1, 2):
        save_checkpoint(folder / f"epoch-{epoch}.pt", {
            "model": model.state_dict(),
            "model_avg": average,
            "sampler": {"epoch": epoch, "next_batch": 0, "seed": 1},
            "system": {**model.to_dict(), "script": script, "tones": "citation"},
            "batch_idx_train": 10 * epoch,
            "cur_epoch": epoch + 1,
        })
        average = {name: value * 1.25 for name, value in average.items()}
    return folder


def noise(seconds: float, seed: int, rate: int = 16000) -> np.ndarray:
    """With syllables: four bursts a second, each of another colour."""
    random = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    colour = np.repeat(random.uniform(200, 3000, int(4 * seconds) + 1), rate // 4)[: len(time)]
    return (0.1 * np.sin(2 * np.pi * colour * time) + 0.02 * random.standard_normal(len(time))).astype(np.float32)


def write_audio(path: Path, seconds: float, seed: int, rate: int = 16000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(seconds, seed, rate), rate, subtype="FLOAT" if path.suffix == ".wav" else None)
    return path


def cut(id: str, audio: Path, seconds: float, text: str | None, tailo: str | None = None) -> dict:
    samples = int(seconds * 16000)
    supervision = {"id": id, "recording_id": id, "start": 0.0, "duration": seconds, "channel": 0, "speaker": "s"}
    supervision |= {"text": text} if text else {}
    supervision |= {"custom": {"tailo": tailo}} if tailo else {}
    recording = {"id": id, "sources": [{"type": "file", "channels": [0], "source": str(audio)}],
                 "sampling_rate": 16000, "num_samples": samples, "duration": seconds, "channel_ids": [0]}
    return {"id": id, "start": 0.0, "duration": seconds, "channel": 0, "supervisions": [supervision],
            "recording": recording, "type": "MonoCut"}


def make_cuts(folder: Path, lengths: Sequence[float] = (1.0, 2.2, 0.6, 1.5)) -> list[dict]:
    return [
        cut(f"u{n}", write_audio(folder / f"u{n}.wav", seconds, n), seconds, hanlo, tailo)
        for n, (seconds, hanlo, tailo) in enumerate(zip(lengths, *TEXTS.values()))
    ]


def write_cuts(path: Path, cuts: Sequence[dict]) -> Path:
    path.write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in cuts), encoding="utf-8")
    return path
