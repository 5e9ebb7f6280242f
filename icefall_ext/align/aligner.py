"""A trained model as an aligner: batches of speech with the tokens of its text in, syllables in time out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from icefall_ext.align.file import row_of
from icefall_ext.align.syllables import labels_of, syllables_in_time, tokens_of_syllables
from icefall_ext.align.viterbi import forced_align
from icefall_ext.data.loading import SAMPLE_RATE, SpeechBatch
from icefall_ext.data.transcripts import text_of
from icefall_ext.encoders.layers import precise
from icefall_ext.errors import UserError
from icefall_ext.text.bbpe import ByteBPE
from icefall_ext.transducer.model import TransducerModel

SHARES_A_TOKEN = "a token with another syllable"


@dataclass(frozen=True)
class Spoken:
    """What is known of a cut before it is heard."""

    aligned: str  # Tai-lo in the aligner's tones
    written: str  # in the tones of the transcript
    speaker: str
    gender: str

    @staticmethod
    def of(cut: Mapping[str, Any], tones: str, tone5: str) -> Spoken:
        """Of a cut as in the manifest, with Tai-lo."""
        supervision = (cut if "tracks" not in cut else cut["tracks"][0]["cut"])["supervisions"][0]
        texts = (text_of(cut, "tailo", wanted, tone5) or "" for wanted in (tones, "citation"))
        return Spoken(*texts, str(supervision.get("speaker") or ""), str(supervision.get("gender") or ""))


class Aligner:
    def __init__(self, model: TransducerModel, bpe: ByteBPE, tone5: str, device: torch.device, backend: str = "auto"):
        if model.ctc_output is None:
            raise UserError("the model has no CTC head (--model.ctc false) to align with; train one that has")
        self.model, self.bpe, self.tone5, self.device, self.backend = model.eval(), bpe, tone5, device, backend
        self.seconds_per_frame = model.encoder.samples_per_frame / SAMPLE_RATE
        self.left_out: Counter[str] = Counter()  # syllables, by reason

    @torch.inference_mode()
    def __call__(self, batch: SpeechBatch, spoken: Mapping[str, Spoken]) -> list[dict[str, Any]]:
        """Lines for an alignment file, in the order of the batch."""
        batch = batch.to(self.device)
        frames, lengths = self.model.encode(batch.waveforms, batch.lengths)
        log_probs = F.log_softmax(precise(self.model.ctc_output(frames)), dim=-1)
        paths = forced_align(log_probs, lengths, batch.tokens, batch.ids, self.backend)
        rows = []
        for id, tokens, path in zip(batch.ids, batch.tokens, paths):
            about = spoken[id]
            owned = tokens_of_syllables(about.aligned, self.bpe.spelled(tokens))
            found = syllables_in_time(path, owned, labels_of(about.written, self.tone5), self.seconds_per_frame)
            kept = [syllable for syllable in found if syllable]
            if len(kept) < len(found):
                self.left_out[SHARES_A_TOKEN] += len(found) - len(kept)
            rows.append(row_of(id, about.speaker, about.gender, kept))
        return rows
