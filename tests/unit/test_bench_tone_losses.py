"""benchmarks/bench_tone_losses.py at a size of nothing: it measures what it says, and says how."""

from __future__ import annotations

import pytest
import torch

from benchmarks import bench_tone_losses as bench
from icefall_ext.errors import UsageError

TINY = bench.Config(encoder="tiny-xls-r", frozen=0, feature_layer=1, batch=32, words=4, rounds=1, threads=1)


def test_losses_and_steps_are_put_beside_each_other_and_what_is_extrapolated_says_so(capsys):
    bench.main(TINY)
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row[0].removeprefix("| ") for row in rows[1:]] == [
        "losses, batch 32, width 32", "step of stage 1, blocks 1 to 1 learn", "step of all 2 blocks"]  # fmt: skip
    seconds = [float(row[1].split()[0]) for row in rows[1:]]
    assert min(seconds) > 0
    assert [float(row[2]) for row in rows[2:]] == [pytest.approx(100 * seconds[0] / of, rel=0.01) for of in seconds[1:]]
    assert [row[3].removesuffix(" |") for row in rows[1:]] == ["measured"] + 2 * ["extrapolated from 4 words"]


def test_the_losses_that_are_timed_reach_the_embeddings_and_are_all_three(monkeypatch):
    seen = []
    objective = bench.ToneObjective.__call__
    monkeypatch.setattr(bench.ToneObjective, "__call__", lambda self, *batch: seen.append(
        (self.model, objective(self, *batch))) or seen[-1][1])
    bench.loss_step(TINY, 16)()
    ((model, loss),) = seen
    assert {"speaker_loss", "tone_loss", "classifier_loss"} <= loss.terms.keys()
    assert bool((model.embeddings.grad.norm(dim=1) > 0).all()) and model.tone_output.weight.grad.norm() > 0
    assert torch.equal(loss.terms["speaker_anchors"], torch.tensor(32.0))


def test_a_step_of_stage_1_trains_the_middle_blocks_alone_and_the_teacher_all():
    encoder = bench.build_encoder(bench.EncoderConfig(source="random:tiny-xls-r", mask_time_prob=0.0))
    model = bench.WordModel(encoder, bench.LayerConfig(0, 1), 8, bench.VOCAB).train()
    for part, changed in (("stage1", {"layers.0"}), ("teacher", {"layers.0", "layers.1"})):
        before = {name: value.clone() for name, value in encoder.backbone.state_dict().items()}
        bench.encoder_step(TINY, model, part, words=4)()
        after = encoder.backbone.state_dict()
        moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
        assert {layer for layer in ("layers.0", "layers.1") if any(f"{layer}." in name for name in moved)} == changed


def test_a_batch_that_is_no_whole_number_of_bases_is_one_line():
    with pytest.raises(UsageError, match="--batch 30: has to be a multiple of 16"):
        bench.main(bench.Config(batch=30))
