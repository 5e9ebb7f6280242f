"""SITA's losses against a double loop over the formula, finite differences and pytorch-metric-learning."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.losses import NTXentLoss, TripletMarginLoss
from torch.nn import functional as F

from icefall_ext.errors import UsageError
from icefall_ext.tone.losses import (
    NoPairs,
    contrastive_loss,
    distillation_loss,
    margin_loss,
    mean_over_frames,
    unit_length,
)
from icefall_ext.tone.pairs import UNKNOWN, Items, cross_gender_pairs, pairs_within, tone_pairs
from icefall_ext.tone.spec import ToneLossConfig

PAIRS = {"speaker": cross_gender_pairs, "tone": tone_pairs}


def items_of(rows) -> Items:
    """(base, tone, gender) each."""
    base, tone, gender = (np.array(column, dtype=np.int64) for column in zip(*rows))
    return Items(base, tone, gender, np.arange(len(base)))


def random_items(seed: int, count: int = 24) -> Items:
    random = np.random.default_rng(seed)
    return items_of(zip(random.integers(0, 3, count), random.integers(0, 3, count), random.integers(0, 2, count)))


def embeddings(count: int, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 6, generator=generator, dtype=torch.float64).to(dtype)


def relations(items: Items, kind: str, other_tones_repel: bool = False):
    """(positives, negatives) of each item, from the definitions in words."""
    rows = list(zip(items.base.tolist(), items.tone.tolist(), items.gender.tolist()))
    positives, negatives = [], []
    for i, (base, tone, gender) in enumerate(rows):
        same_word = [j for j, row in enumerate(rows) if j != i and row[:2] == (base, tone)]
        if kind == "tone":
            positives.append(same_word)
            negatives.append([j for j, row in enumerate(rows) if row[:2] != (base, tone)])
        else:
            known = [j for j in same_word if UNKNOWN not in (gender, rows[j][2])]
            positives.append([j for j in known if rows[j][2] != gender])
            negatives.append([
                j for j, row in enumerate(rows)
                if row[0] != base or (other_tones_repel and row[:2] != (base, tone))
            ])
    return positives, negatives


def by_hand(x: torch.Tensor, items: Items, kind: str, temperature: float, **options) -> tuple[float, int]:
    positives, negatives = relations(items, kind, **options)
    terms = []
    for i in range(len(items)):
        def likeness(j, i=i):
            return float(torch.dot(x[i], x[j]) / x[i].norm() / x[j].norm()) / temperature
        for p in positives[i] if negatives[i] else ():
            rest = sum(math.exp(likeness(n)) for n in negatives[i])
            terms.append(-math.log(math.exp(likeness(p)) / (math.exp(likeness(p)) + rest)))
    return sum(terms) / len(terms), len(terms)


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("seed", range(4))
def test_loss_is_the_formula_written_as_a_double_loop(kind, seed):
    items, x = random_items(seed), embeddings(24, seed)
    expected, count = by_hand(x, items, kind, 0.3)
    pairs = PAIRS[kind](items)
    assert len(pairs) == count
    assert float(contrastive_loss(x, pairs, 0.3)) == pytest.approx(expected, rel=1e-9)


def test_other_tones_of_the_base_are_negatives_of_the_speaker_loss_only_when_asked():
    items, x = random_items(1), embeddings(24)
    for repel in (False, True):
        expected, _ = by_hand(x, items, "speaker", 0.3, other_tones_repel=repel)
        assert float(contrastive_loss(x, cross_gender_pairs(items, repel), 0.3)) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(-1, 1)), min_size=1, max_size=20))
def test_pairs_are_those_of_the_definition(rows):
    items = items_of(rows)
    for kind, pairs_of in PAIRS.items():
        positives, negatives = relations(items, kind)
        pairs = pairs_of(items)
        expected = {(i, p) for i in range(len(items)) if negatives[i] for p in positives[i]}
        assert set(zip(pairs.anchor.tolist(), pairs.positive.tolist())) == expected
        assert len(pairs) == len(expected)
        excepted = set(zip(*(index.tolist() for index in pairs.excepted)))
        everything = {(i, j) for i in range(len(items)) for j in range(len(items))}
        assert everything - excepted == {(i, n) for i in range(len(items)) for n in negatives[i]}
        assert pairs.valid_anchors == len({i for i, _ in expected})


def test_pairs_within_groups_are_as_few_as_the_groups_allow():
    group = np.arange(4000) // 2
    assert len(pairs_within(group)[0]) == 4000


@pytest.mark.parametrize("kind", PAIRS)
def test_loss_is_that_of_pytorch_metric_learning(kind):
    items, x = random_items(7, 40), embeddings(40, 7, torch.float32)
    pairs = PAIRS[kind](items)
    _, negatives = relations(items, kind)
    anchors, others = zip(*[(i, n) for i in range(len(items)) for n in negatives[i]])
    indices = (torch.from_numpy(pairs.anchor), torch.from_numpy(pairs.positive), *map(torch.tensor, (anchors, others)))
    theirs = NTXentLoss(temperature=0.2)(x, indices_tuple=indices)
    assert float(contrastive_loss(x, pairs, 0.2)) == pytest.approx(float(theirs), abs=1e-5)


def test_margin_loss_is_that_of_pytorch_metric_learning():
    items, x = random_items(8, 20), embeddings(20, 8)
    pairs = tone_pairs(items)
    _, negatives = relations(items, "tone")
    triplets = [(i, p, n) for i, p in zip(pairs.anchor.tolist(), pairs.positive.tolist()) for n in negatives[i]]
    indices = tuple(torch.tensor(column) for column in zip(*triplets))
    theirs = TripletMarginLoss(margin=0.3, distance=CosineSimilarity())(x, indices_tuple=indices)
    assert float(margin_loss(x, pairs, 0.3)) == pytest.approx(float(theirs), abs=1e-6)


@pytest.mark.parametrize("loss", [lambda x, p: contrastive_loss(x, p, 0.1), lambda x, p: margin_loss(x, p, 0.37)])
def test_gradient_is_that_of_finite_differences(loss):
    pairs = tone_pairs(random_items(3, 12))
    assert torch.autograd.gradcheck(lambda x: loss(x, pairs), embeddings(12, 3).requires_grad_(), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("temperature", [1e-3, 1e3])
def test_extreme_temperatures_give_finite_losses_and_gradients(kind, temperature):
    x = embeddings(24, dtype=torch.float32).requires_grad_()
    loss = contrastive_loss(x, PAIRS[kind](random_items(5)), temperature)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(x.grad).all()


def test_an_embedding_of_zeros_and_equal_embeddings_give_finite_gradients():
    for x in (torch.zeros(24, 6), torch.ones(24, 6)):
        x.requires_grad_()
        contrastive_loss(x, tone_pairs(random_items(5)), 0.1).backward()
        assert torch.isfinite(x.grad).all()


def test_the_order_of_the_items_changes_neither_loss_nor_gradient():
    items, order = random_items(2), np.random.default_rng(0).permutation(24)
    x = embeddings(24).requires_grad_()
    y = x.detach()[order].clone().requires_grad_()
    for pairs_of in PAIRS.values():
        a, b = contrastive_loss(x, pairs_of(items), 0.1), contrastive_loss(y, pairs_of(items[order]), 0.1)
        assert a.item() == pytest.approx(b.item(), rel=1e-12)
        (grad_x,), (grad_y,) = torch.autograd.grad(a, x), torch.autograd.grad(b, y)
        torch.testing.assert_close(grad_x[order], grad_y)


@pytest.mark.parametrize("autocast", [False, True])
def test_bfloat16_embeddings_are_compared_in_float32(autocast):
    x = embeddings(24, dtype=torch.bfloat16)
    pairs = tone_pairs(random_items(2))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        loss = contrastive_loss(x, pairs, 0.05)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, contrastive_loss(x.float(), pairs, 0.05))


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        ([(0, 0, 0), (1, 0, 1), (2, 1, 0)], "tone"),  # every word once
        ([(0, 0, 0), (0, 0, 0), (1, 0, 0), (1, 0, 0)], "speaker"),  # one gender
        ([(0, 0, 0), (0, 0, UNKNOWN), (1, 0, UNKNOWN)], "speaker"),  # the other one is not known
        ([(0, 0, 0), (0, 0, 1)], "tone"),  # one word
        ([(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1)], "speaker"),  # one base: nothing to be told from
    ],
)
def test_a_batch_without_pairs_is_an_error_and_not_zero(rows, kind):
    pairs = PAIRS[kind](items_of(rows))
    assert len(pairs) == 0 and pairs.valid_anchors == 0
    with pytest.raises(NoPairs, match=f"the {len(rows)} items of this batch make no pair"):
        contrastive_loss(embeddings(len(rows)), pairs, 0.1)
    with pytest.raises(NoPairs):
        margin_loss(embeddings(len(rows)), pairs, 0.1)


def test_an_item_with_one_gender_is_left_out_of_the_speaker_loss_and_stays_a_negative():
    rows = [(0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 0, 0)]  # base 1 by women only
    items = items_of(rows)
    pairs = cross_gender_pairs(items)
    assert set(pairs.anchor.tolist()) == {0, 1}
    x = embeddings(4).requires_grad_()
    contrastive_loss(x, pairs, 0.1).backward()
    assert (x.grad[2:].abs().sum(dim=1) > 0).all()


def test_the_tone_loss_tells_tones_apart_that_the_speaker_loss_lets_collapse():
    items = items_of([(base, tone, gender) for base in range(2) for tone in range(2) for gender in range(2)])
    collapsed = torch.eye(4)[torch.from_numpy(items.base)]  # an embedding that hears the base alone
    assert float(contrastive_loss(collapsed, cross_gender_pairs(items), 0.05)) < 1e-6
    assert float(contrastive_loss(collapsed, tone_pairs(items), 0.05)) > 0.5


def test_frames_beyond_an_item_change_nothing_in_its_embedding():
    frames = torch.randn(2, 5, 3)
    lengths = torch.tensor([2, 5])
    pooled = mean_over_frames(frames, lengths)
    torch.testing.assert_close(pooled[0], frames[0, :2].mean(dim=0))
    frames[0, 2:] = torch.nan
    torch.testing.assert_close(mean_over_frames(frames, lengths), pooled)
    assert (mean_over_frames(frames, torch.tensor([0, 5]))[0] == 0).all()
    assert unit_length(pooled).norm(dim=1).tolist() == pytest.approx([1, 1])


# -------------------------------------------------------------------- distillation


def logits(seed: int) -> torch.Tensor:
    return torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_distillation_is_torchs_divergence_over_valid_frames():
    student, teacher, lengths, temperature = logits(0), logits(1), torch.tensor([2, 4]), 2.0
    frames = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (1, 3)]
    theirs = sum(
        F.kl_div(F.log_softmax(student[b, t] / 2, -1), F.softmax(teacher[b, t] / 2, -1), reduction="sum")
        for b, t in frames
    )
    ours = distillation_loss(student, teacher, lengths, temperature)
    assert float(ours) == pytest.approx(4 * float(theirs) / 6, rel=1e-12)
    assert float(distillation_loss(teacher, teacher, lengths, temperature)) == pytest.approx(0, abs=1e-12)


def test_padding_changes_neither_value_nor_gradient_of_distillation():
    student, teacher, lengths = logits(0), logits(1), torch.tensor([2, 4])
    spoilt = student.clone()
    spoilt[0, 2:] = 1e4
    a, b = student.requires_grad_(), spoilt.requires_grad_()
    for x in (a, b):
        distillation_loss(x, teacher, lengths).backward()
    torch.testing.assert_close(a.grad[0, :2], b.grad[0, :2])
    assert (b.grad[0, 2:] == 0).all()


def test_the_gradient_of_distillation_keeps_its_size_as_the_temperature_grows():
    def size(temperature):
        student = logits(0).requires_grad_()
        distillation_loss(student, logits(1), torch.tensor([4, 4]), temperature).backward()
        return float(student.grad.norm())

    assert size(200.0) == pytest.approx(size(20.0), rel=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature 0.0: must lie between 0.001 and 1000"),
        ({"tone_scale": -1.0}, "--loss.tone-scale -1.0: must not be below 0"),
        ({"speaker_scale": 0, "tone_scale": 0, "classifier_scale": 0}, "nothing is learnt"),
    ],
)
def test_wrong_settings_are_one_line(options, message):
    with pytest.raises(UsageError, match=message):
        ToneLossConfig(**options).check()
