"""SITA's objectives as the training loop wants them: sums over a batch, and what to call their parts.

stage1   a L_spk + b L_tone + c CE(tone), on the embeddings of the feature layer
stage2   L_CTC + k L_KD; the teacher hears the same augmented audio, without masks and dropout
single   both at once, for comparison;     teacher   L_CTC alone

`speaker_anchors` and `tone_anchors` are shown per word: the share of words that have a partner in their batch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from icefall_ext.data.loading import SpeechBatch
from icefall_ext.encoders.layers import precise
from icefall_ext.tone.augment import augment
from icefall_ext.tone.losses import NoPairs, contrastive_loss, distillation_loss, margin_loss
from icefall_ext.tone.model import Heard, WordModel
from icefall_ext.tone.pairs import Items, Pairs, cross_gender_pairs, tone_pairs
from icefall_ext.tone.spec import AugmentConfig, DistillConfig, ToneLossConfig
from icefall_ext.train.objective import Loss
from icefall_ext.transducer.model import frames_for_ctc, pad_tokens

log = logging.getLogger(__name__)


class ToneObjective:
    unit = "word"

    def __init__(
        self,
        model: WordModel,
        part: str,
        items_of: Callable[[Sequence[str]], Items],
        losses: ToneLossConfig,
        augmentation: AugmentConfig,
        teacher: WordModel | None = None,
        distil: DistillConfig | None = None,
    ):
        """`items_of` gives the labels of the utterances with these ids."""
        self.model, self.items_of, self.cfg, self.augmentation = model, items_of, losses, augmentation
        self.represents, self.recognises = part in ("stage1", "single"), part != "stage1"
        self.teacher = teacher.eval().requires_grad_(False) if teacher else None
        self.distil = distil or DistillConfig()

    def __call__(self, batch: SpeechBatch, batch_number: int) -> Loss:
        waveforms = batch.waveforms
        if self.model.training:
            waveforms = augment(waveforms, batch.lengths, self.augmentation)
        heard = self.model(waveforms, batch.lengths, embeddings=self.represents, logits=self.recognises)
        total, terms, left_out = heard.lengths.new_zeros((), dtype=torch.float32), {}, []
        if self.represents:
            for name, scale, value, anchors in self._of_embeddings(heard.embeddings, batch, batch_number):
                total = total + scale * value * len(batch)
                terms[name] = value * len(batch)
                if anchors is not None:
                    terms[name.replace("loss", "anchors")] = torch.tensor(float(anchors))
            terms["tone_accuracy"] = self._right_tones(heard.embeddings, batch)
        if self.recognises:
            ctc, left_out = self._ctc(heard, batch)
            total, terms["ctc_loss"] = total + ctc, ctc
            if self.teacher is not None and self.distil.scale:
                with torch.no_grad():
                    taught = self.teacher(waveforms, batch.lengths, embeddings=False, logits=True)
                away = distillation_loss(heard.logits, taught.logits, heard.lengths, self.distil.temperature)
                total, terms["teacher_loss"] = total + self.distil.scale * away * len(batch), away * len(batch)
        return Loss(total, {name: value.detach() for name, value in terms.items()}, len(batch), left_out)

    def _of_embeddings(
        self, embeddings: Tensor, batch: SpeechBatch, number: int
    ) -> list[tuple[str, float, Tensor, int | None]]:
        """(name, weight, mean, anchors that had a partner) of each loss that has a weight."""
        cfg, items, found = self.cfg, self.items_of(batch.ids), []
        if cfg.speaker_scale:
            pairs = cross_gender_pairs(items, cfg.other_tones_repel)
            loss = self._or_nothing(contrastive_loss, embeddings, pairs, cfg.temperature, number, "by the other gender")
            found.append(("speaker_loss", cfg.speaker_scale, loss, pairs.valid_anchors))
        if cfg.tone_scale:
            pairs = tone_pairs(items)
            function, knob = (
                (margin_loss, cfg.margin) if cfg.kind == "margin" else (contrastive_loss, cfg.temperature)
            )
            loss = self._or_nothing(function, embeddings, pairs, knob, number, "in another recording")
            found.append(("tone_loss", cfg.tone_scale, loss, pairs.valid_anchors))
        if cfg.classifier_scale:
            loss = F.cross_entropy(precise(self.model.tone_output(embeddings)), self._tones(items, embeddings))
            found.append(("classifier_loss", cfg.classifier_scale, loss, None))
        return found

    def _or_nothing(
        self, function: Callable[..., Tensor], embeddings: Tensor, pairs: Pairs, knob: float, number: int, what: str
    ) -> Tensor:
        try:
            return function(embeddings, pairs, knob)
        except NoPairs:
            if number > self.cfg.warm_batches:
                raise NoPairs(
                    f"batch {number}: none of its {pairs.size} words is there {what}, with a word to be told from; "
                    "give a batch more (--shape.bases, --shape.takes), or record more"
                ) from None
            log.info("batch %d: no pair %s", number, what)
            return 0.0 * precise(embeddings).sum()

    def _tones(self, items: Items, like: Tensor) -> Tensor:
        return torch.from_numpy(items.tone).to(like.device)

    @torch.no_grad()
    def _right_tones(self, embeddings: Tensor, batch: SpeechBatch) -> Tensor:
        tones = self._tones(self.items_of(batch.ids), embeddings)
        return (self.model.tone_output(embeddings).argmax(dim=1) == tones).sum().float()

    def _ctc(self, heard: Heard, batch: SpeechBatch) -> tuple[Tensor, list[str]]:
        """A sum, without the words that are too short for their letters."""
        log_probs = F.log_softmax(precise(heard.logits), dim=-1).transpose(0, 1)
        targets, sizes = pad_tokens(batch.tokens, log_probs.device)
        loss = F.ctc_loss(log_probs, targets, heard.lengths, sizes, reduction="sum", zero_infinity=True)
        no_path = (frames_for_ctc(targets, sizes) > heard.lengths).tolist()
        return loss, [id for id, left_out in zip(batch.ids, no_path) if left_out]
