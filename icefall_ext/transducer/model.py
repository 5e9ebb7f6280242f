"""The transducer that all recipes train: encoder, predictor, joiner, projections of the simple loss, and a CTC head.

    model = TransducerModel(encoder, ModelConfig(), vocab_size=500)
    losses = model(waveforms, lengths, tokens)                # (B, N), (B,), one list of token ids per utterance
    frames, frame_lengths = model.encode(waveforms, lengths)  # what icefall_ext.transducer.search decodes

Parts carry icefall's names, so that its checkpoints and ours interchange: encoder, decoder (the predictor), joiner,
simple_am_proj, simple_lm_proj, ctc_output.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from icefall_ext.data.loading import SAMPLE_RATE
from icefall_ext.encoders.freezing import parameter_counts
from icefall_ext.encoders.speech_encoder import SpeechEncoder
from icefall_ext.transducer.joiner import Joiner
from icefall_ext.transducer.loss import pruned_rnnt_loss
from icefall_ext.transducer.predictor import BLANK, LstmPredictor, StatelessPredictor
from icefall_ext.transducer.spec import ModelConfig


@dataclass(frozen=True)
class TransducerLosses:
    """Each (B,), in nats; infinite where an utterance has no path. `ctc` is None without a CTC head."""

    simple: Tensor
    pruned: Tensor
    ctc: Tensor | None


class TransducerModel(nn.Module):
    def __init__(self, encoder: SpeechEncoder, cfg: ModelConfig, vocab_size: int):
        super().__init__()
        cfg.check()
        self.cfg, self.vocab_size = cfg, vocab_size
        width = encoder.output_dim
        self.encoder = encoder
        self.decoder = make_predictor(cfg, vocab_size)
        self.joiner = Joiner(width, cfg.predictor_dim, cfg.joiner_dim, vocab_size)
        self.simple_am_proj = nn.Linear(width, vocab_size)
        self.simple_lm_proj = nn.Linear(cfg.predictor_dim, vocab_size)
        self.ctc_output = nn.Linear(width, vocab_size) if cfg.ctc else None

    def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N), (B,) -> frames (B, T, D), frame lengths (B,)."""
        return self.encoder(waveforms, lengths)

    def forward(self, waveforms: Tensor, lengths: Tensor, tokens: Sequence[Sequence[int]]) -> TransducerLosses:
        return self.losses(*self.encode(waveforms, lengths), tokens)

    def losses(self, frames: Tensor, frame_lengths: Tensor, tokens: Sequence[Sequence[int]]) -> TransducerLosses:
        """Of what `encode` gave."""
        symbols, symbol_lengths = pad_tokens(tokens, frames.device)
        boundary = torch.zeros(len(tokens), 4, dtype=torch.int64, device=frames.device)
        boundary[:, 2], boundary[:, 3] = symbol_lengths, frame_lengths
        lm = self.decoder(F.pad(symbols, (1, 0), value=BLANK))
        losses = pruned_rnnt_loss(
            self.simple_lm_proj(lm),
            self.simple_am_proj(frames),
            self.joiner.decoder_proj(lm),
            self.joiner.encoder_proj(frames),
            lambda am, lm: self.joiner(am, lm, project_input=False),
            symbols,
            termination_symbol=BLANK,
            s_range=self.cfg.prune_range,
            lm_only_scale=self.cfg.lm_scale,
            am_only_scale=self.cfg.am_scale,
            boundary=boundary,
            rnnt_type=self.cfg.rnnt_type,
            delay_penalty=self.cfg.delay_penalty,
            reduction="none",
            backend=self.cfg.rnnt_backend,
        )
        return TransducerLosses(losses.simple, losses.pruned, self._ctc(frames, frame_lengths, symbols, symbol_lengths))

    def _ctc(self, frames: Tensor, frame_lengths: Tensor, symbols: Tensor, symbol_lengths: Tensor) -> Tensor | None:
        if self.ctc_output is None:
            return None
        with torch.autocast(frames.device.type, enabled=False):
            log_probs = F.log_softmax(self.ctc_output(frames.float()), dim=2, dtype=torch.float32)
        losses = F.ctc_loss(
            log_probs.transpose(0, 1), symbols, frame_lengths, symbol_lengths, blank=BLANK, reduction="none",
            zero_infinity=True,  # or the gradient is NaN, even where it is multiplied by 0
        )
        return losses.masked_fill(frame_lengths < frames_for_ctc(symbols, symbol_lengths), torch.inf)

    def parameter_table(self) -> list[tuple[str, int, int]]:
        """(part, parameters, those that train), the encoder by layers, and a row for the sum."""
        rows = parameter_counts(self.encoder)
        parts = {
            "predictor": self.decoder,
            "joiner": self.joiner,
            "simple projections": nn.ModuleList([self.simple_am_proj, self.simple_lm_proj]),
            "CTC head": self.ctc_output,
        }
        for name, part in parts.items():
            if part is not None:
                sizes = [(p.numel(), p.requires_grad) for p in part.parameters()]
                rows.append((name, sum(n for n, _ in sizes), sum(n for n, trained in sizes if trained)))
        totals = [(p.numel(), p.requires_grad) for p in self.parameters()]
        return [*rows, ("model", sum(n for n, _ in totals), sum(n for n, trained in totals if trained))]

    def to_dict(self) -> dict[str, object]:
        """What a checkpoint keeps to build the same module again, without pre-trained files; see train/restore.py."""
        return {
            "architecture": self.encoder.architecture.to_dict(),
            "encoder": {"subsampling": self.encoder.cfg.subsampling, "padding": self.encoder.cfg.padding},
            "model": dataclasses.asdict(self.cfg),
            "vocab_size": self.vocab_size,
        }


def make_predictor(cfg: ModelConfig, vocab_size: int) -> StatelessPredictor | LstmPredictor:
    if cfg.predictor == "lstm":
        return LstmPredictor(vocab_size, cfg.predictor_dim, cfg.lstm_layers)
    return StatelessPredictor(vocab_size, cfg.predictor_dim, cfg.context_size)


def frames_for_ctc(symbols: Tensor, lengths: Tensor) -> Tensor:
    """The fewest frames on which each row has a CTC path: one a token, and one between two alike."""
    inside = torch.arange(1, symbols.shape[1], device=symbols.device) < lengths.unsqueeze(1)
    return lengths + ((symbols[:, 1:] == symbols[:, :-1]) & inside).sum(1)


def too_short_for_ctc(encoder: SpeechEncoder, seconds: float, tokens: Sequence[int]) -> bool:
    """Whether audio this long comes out as fewer frames than these tokens need."""
    needed = frames_for_ctc(torch.tensor([list(tokens)]), torch.tensor([len(tokens)]))
    return int(encoder.output_lengths(torch.tensor(int(seconds * SAMPLE_RATE)))) < int(needed)


def pad_tokens(tokens: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """(B, S) with blanks as padding, and (B,) lengths."""
    lengths = torch.tensor([len(sequence) for sequence in tokens])
    symbols = torch.full((len(tokens), int(lengths.max())), BLANK, dtype=torch.int64)
    for row, sequence in zip(symbols, tokens):
        row[: len(sequence)] = torch.as_tensor(sequence, dtype=torch.int64)
    return symbols.to(device), lengths.to(device)
