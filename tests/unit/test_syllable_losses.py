"""SITA's losses on syllables of running speech: cutting out, partners from a memory, and trainings that go on."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from icefall_ext.align.file import Alignments, row_of
from icefall_ext.align.syllables import Syllable
from icefall_ext.bin import train
from icefall_ext.distributed.world import World
from icefall_ext.errors import UsageError, UserError
from icefall_ext.files import read_jsonl
from icefall_ext.tone.losses import contrastive_loss
from icefall_ext.tone.memory import Memory
from icefall_ext.tone.pairs import Items, cross_gender_pairs, tone_pairs
from icefall_ext.tone.spec import SyllableLossConfig
from icefall_ext.train import checkpoint as files
from icefall_ext.train.config import LossConfig
from icefall_ext.train.saving import resume, save_batch
from icefall_ext.train.scan import try_largest_batches
from icefall_ext.train.syllable_losses import SyllableLosses, read_alignments, syllables_of
from icefall_ext.train.transducer_objective import TransducerObjective, WithSyllables
from tests.training_toys import make_trainer, train_bpe, write_cuts
from tests.unit.test_trainer import Stop, losses, rows, stop_after

STEP = 0.04
PAIRS = {"speaker": cross_gender_pairs, "tone": tone_pairs}


def random_items(count: int, seed: int = 0) -> Items:
    random = np.random.default_rng(seed)
    return Items(*(random.integers(0, high, count) for high in (3, 3, 2, 5)))


def embeddings(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# -------------------------------------------------------------------- pairs and memory


@pytest.mark.parametrize("kind", PAIRS)
def test_what_follows_the_anchors_attracts_and_repels_and_asks_for_nothing(kind):
    items, seen, temperature, anchors = random_items(30), embeddings(30), 0.3, 12
    unit = seen / seen.norm(dim=1, keepdim=True)
    similarity = torch.exp(unit @ unit.T / temperature)
    terms = []
    for i in range(anchors):
        same_word = [j for j in range(30) if j != i and items.word[j] == items.word[i]]
        positives = same_word if kind == "tone" else [j for j in same_word if items.gender[j] != items.gender[i]]
        apart = items.word if kind == "tone" else items.base
        negatives = similarity[i][torch.from_numpy(apart != apart[i])].sum()
        terms += [-math.log(similarity[i, p] / (similarity[i, p] + negatives)) for p in positives]
    pairs = PAIRS[kind](items, anchors=anchors)
    assert pairs.anchor.max() < anchors <= pairs.positive.max()
    assert float(contrastive_loss(seen, pairs, temperature)) == pytest.approx(float(np.mean(terms)), rel=1e-9)


def test_without_others_the_pairs_are_what_they_were():
    items = random_items(30)
    for pairs_of in PAIRS.values():
        every, same = pairs_of(items), pairs_of(items, anchors=30)
        assert every.rows == 30 and len(every) == len(same)
        assert torch.equal(contrastive_loss(embeddings(30), every, 0.1), contrastive_loss(embeddings(30), same, 0.1))


def test_so_many_partners_of_an_anchor_are_drawn_and_no_anchor_is_lost():
    pairs = tone_pairs(random_items(60))
    drawn = pairs.at_most(2, np.random.default_rng(1))
    assert drawn.valid_anchors == pairs.valid_anchors
    _, counts = np.unique(drawn.anchor, return_counts=True)
    _, before = np.unique(pairs.anchor, return_counts=True)
    np.testing.assert_array_equal(counts, np.minimum(before, 2))
    assert set(zip(drawn.anchor, drawn.positive)) < set(zip(pairs.anchor, pairs.positive))
    other = pairs.at_most(2, np.random.default_rng(2))
    assert set(zip(drawn.anchor, drawn.positive)) != set(zip(other.anchor, other.positive))


def remember(memory: Memory, batch: int, utterances: list[int], value: float = 0.0) -> None:
    count = len(utterances)
    memory.remember(torch.full((count, 2), float(value)), random_items(count), np.array(utterances), batch)


def test_a_memory_forgets_the_oldest_and_knows_an_utterance_once():
    memory = Memory(5)
    remember(memory, 1, [10, 10, 11], 1)
    remember(memory, 2, [12, 13], 2)
    known, items = memory.recall(np.array([99]), 3)
    assert known[:, 0].tolist() == [1, 1, 1, 2, 2] and len(items) == 5
    remember(memory, 3, [11, 14], 3)  # 11 anew: its older embedding goes
    assert memory.recall(np.array([99]), 4)[0][:, 0].tolist() == [1, 2, 2, 3, 3]


def test_a_memory_tells_neither_of_the_utterance_itself_nor_of_its_own_batch():
    memory = Memory(9)
    remember(memory, 1, [10, 11])
    remember(memory, 2, [12])
    assert len(memory.recall(np.array([10]), 3)[1]) == 2
    assert len(memory.recall(np.array([99]), 2)[1]) == 2, "a batch that is computed again sees what it saw"
    assert memory.recall(np.array([99]), 1)[0] is None
    assert not len(Memory(0))
    none = Memory(0)
    remember(none, 1, [1, 2])
    assert none.recall(np.array([9]), 5)[0] is None


# -------------------------------------------------------------------- cutting out


def test_an_embedding_is_the_mean_over_the_frames_whose_middle_is_in_the_syllable(tmp_path):
    alignments = hand_made(tmp_path, {"a": [(0.08, 0.2), (0.2, 0.24)], "b": [(0.0, 9.0)]})
    frames = torch.randn(2, 10, 3)
    seen, kept = syllables_of(frames, torch.tensor([10, 7]), alignments.of(["a", "b"], "citation"), STEP, 2)
    assert kept.tolist() == [0, 2], "one frame is too few"
    torch.testing.assert_close(seen, torch.stack([frames[0, 2:5].mean(0), frames[1, :7].mean(0)]))
    half, _ = syllables_of(frames, torch.tensor([10, 7]), alignments.of(["a"], "citation"), STEP / 2, 2)
    torch.testing.assert_close(half, torch.stack([frames[0, 4:10].mean(0)]))  # another frame rate
    none, kept = syllables_of(frames, torch.tensor([10, 7]), alignments.of(["unknown"], "citation"), STEP, 2)
    assert none.shape == (0, 3) and not len(kept)


def hand_made(folder, times: dict[str, list[tuple[float, float]]], words=(("ka", 1),), genders="FM") -> Alignments:
    path = folder / "alignments.jsonl"
    with open(path, "w", encoding="utf-8") as stream:
        for n, (id, of_one) in enumerate(times.items()):
            syllables = [Syllable(*words[k % len(words)], words[k % len(words)][1], start, end, -0.1)
                         for k, (start, end) in enumerate(of_one)]
            stream.write(json.dumps(row_of(id, f"S{n}", genders[n % len(genders)], syllables)) + "\n")
    return Alignments.read(path)


TIMES = [(0.0, 0.2), (0.2, 0.4)]
WORDS = (("ka", 1), ("ka", 5))


def losses_on(alignments, **options) -> SyllableLosses:
    cfg = SyllableLossConfig(**dict(tone_scale=0.5, min_frames=1) | options)
    return SyllableLosses(alignments, cfg, "citation", STEP)


def test_the_loss_is_a_sum_over_the_syllables_that_have_a_partner(tmp_path):
    alignments = hand_made(tmp_path, dict.fromkeys("abc", TIMES), WORDS)
    of_syllables = losses_on(alignments, speaker_scale=2.0)
    frames = torch.randn(3, 10, 4, requires_grad=True)
    total, shown = of_syllables(frames, torch.tensor([10] * 3), ["a", "b", "c"], 1)
    assert shown["tone_anchors"] == (6, 6) and shown["speaker_anchors"][0] == 0, "other tones are no negatives there"
    items = alignments.of(["a", "b", "c"], "citation").items
    seen, _ = syllables_of(frames, torch.tensor([10] * 3), alignments.of(["a", "b", "c"], "citation"), STEP, 1)
    wanted = contrastive_loss(seen, tone_pairs(items), 0.1) * 6
    torch.testing.assert_close(total, 0.5 * wanted)
    assert shown["tone_loss"] == (pytest.approx(float(wanted.detach()), rel=1e-5), 6)
    total.backward()
    assert bool((frames.grad[:, :10] != 0).any())


def test_partners_come_from_the_memory_only_where_a_batch_has_too_few(tmp_path):
    alignments = hand_made(tmp_path, dict.fromkeys("abcd", TIMES), WORDS)
    frames, lengths = torch.randn(1, 10, 4), torch.tensor([10])
    of_syllables = losses_on(alignments)
    assert of_syllables(frames, lengths, ["a"], 1)[1]["tone_anchors"] == (0, 2), "its words are there once"
    total, shown = of_syllables(frames, lengths, ["b"], 2)
    assert shown["tone_anchors"] == (2, 2) and float(total) > 0
    assert of_syllables(frames, lengths, ["b"], 2)[1]["tone_anchors"] == (2, 2)
    without = losses_on(alignments, memory=0)
    for batch, id in enumerate("ab", start=1):
        assert without(frames, lengths, [id], batch)[1]["tone_anchors"] == (0, 2)
    both = torch.randn(2, 10, 4)
    enough = losses_on(alignments, enough=1.0)
    enough(frames, lengths, ["d"], 1)
    first = enough(both, torch.tensor([10, 10]), ["a", "b"], 2)[0]
    alone = losses_on(alignments)(both, torch.tensor([10, 10]), ["a", "b"], 2)[0]
    assert torch.equal(first, alone), "all have a partner in the batch: the memory is not asked"


def test_a_batch_that_is_not_finite_is_not_remembered(tmp_path):
    of_syllables = losses_on(hand_made(tmp_path, dict.fromkeys("ab", TIMES), WORDS))
    of_syllables(torch.full((1, 10, 4), torch.nan), torch.tensor([10]), ["a"], 1)
    assert not len(of_syllables.memory)


# -------------------------------------------------------------------- trainings


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    cuts, bpe = write_cuts(folder, count=16), train_bpe(folder)
    with open(folder / "alignments.jsonl", "w", encoding="utf-8") as stream:
        for n, cut in enumerate(read_jsonl(cuts)):
            words = cut["supervisions"][0]["custom"]["tailo"].split()
            syllables = [Syllable(word[:-1], int(word[-1]), int(word[-1]), 0.3 * k, 0.3 * (k + 1), -0.1)
                         for k, word in enumerate(words)]
            stream.write(json.dumps(row_of(cut["id"], f"S{n}", "FM"[n % 2], syllables)) + "\n")
    return cuts, bpe


def trainer_on(folder, toys, alignments=None, batch_seconds=4.0, **options):
    trainer = make_trainer(folder, *toys)
    cfg = SyllableLossConfig(**dict(tone_scale=0.3, speaker_scale=0.2, memory=12, enough=1.0) | options)
    path = alignments or toys[0].with_name("alignments.jsonl")
    step = trainer.model.encoder.samples_per_frame / 16000
    syllables = SyllableLosses(Alignments.read(path), cfg, "citation", step)
    trainer.objective = WithSyllables(trainer.model, LossConfig(warm_batches=4), syllables)
    return trainer


@pytest.mark.parametrize("batches", [1, 5, 7])
def test_a_training_that_was_stopped_goes_on_bit_for_bit_with_what_it_remembered(toys, tmp_path, batches):
    whole = trainer_on(tmp_path / "whole", toys)
    whole.fit()
    shown = rows(whole)[-1]
    assert shown["tone_loss"] > 0 and 0 < shown["speaker_anchors"] <= shown["tone_anchors"] <= 1
    stopped = trainer_on(tmp_path / "parts", toys)
    stop_after(stopped, batches)
    with pytest.raises(Stop):
        stopped.fit()
    resumed = trainer_on(tmp_path / "parts", toys)
    resumed.fit()
    assert losses(resumed) == losses(whole)
    assert [row.get("tone_loss") for row in rows(resumed)] == [row.get("tone_loss") for row in rows(whole)]
    ours, theirs = resumed.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    memories = [trainer.objective.syllables.memory for trainer in (resumed, whole)]
    assert len(memories[0]) == 12 and torch.equal(memories[0].embeddings, memories[1].embeddings)


def test_a_memory_that_is_lost_would_be_noticed(toys, tmp_path):
    """What the test above sees: without the memory of the checkpoint the losses are others."""
    whole = trainer_on(tmp_path / "whole", toys)
    whole.fit()
    stopped = trainer_on(tmp_path / "parts", toys)
    stop_after(stopped, 5)
    with pytest.raises(Stop):
        stopped.fit()
    forgetful = trainer_on(tmp_path / "parts", toys)
    forgetful.objective.load_state_dict = lambda state, device: None
    forgetful.fit()
    assert losses(forgetful) != losses(whole)


def test_each_process_has_a_memory_of_its_own_in_the_checkpoint(toys, tmp_path, monkeypatch):
    trainer = trainer_on(tmp_path / "exp", toys)
    remember(trainer.objective.syllables.memory, 1, [3, 4])
    theirs = {"memory": state_of([5, 6, 7]), "alignments": trainer.objective.syllables.alignments.digest}
    with monkeypatch.context() as two:
        two.setattr(World, "gather", lambda self, value: [value, theirs if "memory" in value else value])
        save_batch(trainer)
    path = next((tmp_path / "exp").glob("checkpoint-*.pt"))
    monkeypatch.setattr(World, "gather", lambda self, value: [path] * 2)
    for rank, utterances in ((0, [3, 4]), (1, [5, 6, 7]), (2, [])):
        process = trainer_on(tmp_path / "exp", toys)
        process.world = World(rank, 3)
        assert resume(process)
        assert process.objective.syllables.memory.labels[:, 4].tolist() == utterances, rank


def state_of(utterances: list[int]) -> dict:
    memory = Memory(9)
    remember(memory, 1, utterances)
    return memory.state_dict()


def test_the_losses_change_the_training_and_not_how_it_is_validated(toys, tmp_path):
    plain = make_trainer(tmp_path / "plain", *toys)
    plain.fit()
    with_them = trainer_on(tmp_path / "with", toys)
    with_them.fit()
    assert losses(plain) != losses(with_them)
    assert set(rows(plain, "valid")[0]) == set(rows(with_them, "valid")[0])
    assert "objective" not in files.load_checkpoint(tmp_path / "plain/epoch-2.pt")
    assert "objective" in files.load_checkpoint(tmp_path / "with/epoch-2.pt")


def test_with_scales_of_0_the_objective_is_the_plain_one_and_no_file_is_read(toys, tmp_path):
    trainer = make_trainer(tmp_path / "exp", *toys)
    cfg = train.Config(exp_dir=tmp_path, script="tailo", alignments="no/such/file")
    assert type(train.build_objective(cfg, trainer.model, trainer.data.train)) is TransducerObjective
    cfg.tone_loss.tone_scale = 0.1
    cfg.alignments = str(toys[0].with_name("alignments.jsonl"))
    assert type(train.build_objective(cfg, trainer.model, trainer.data.train)) is WithSyllables


def test_other_alignments_are_refused(toys, tmp_path):
    trainer_on(tmp_path / "exp", toys).fit()
    lines = toys[0].with_name("alignments.jsonl").read_text(encoding="utf-8").splitlines()
    other = tmp_path / "other.jsonl"
    other.write_text("\n".join(lines[1:]) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match="--alignments: are other ones than this training began with"):
        trainer_on(tmp_path / "exp", toys, other).fit()


def test_trying_the_largest_batches_leaves_nothing_in_the_memory(toys, tmp_path):
    trainer = trainer_on(tmp_path / "exp", toys)
    try_largest_batches(trainer)
    assert not len(trainer.objective.syllables.memory)


def test_an_epoch_without_a_single_pair_ends_the_training(toys, tmp_path):
    rows = list(read_jsonl(toys[0].with_name("alignments.jsonl")))
    alone = tmp_path / "alone.jsonl"
    alone.write_text("".join(json.dumps(row | {"gender": "F"}) + "\n" for row in rows), encoding="utf-8")
    trainer = trainer_on(tmp_path / "exp", toys, alone)
    with pytest.raises(UserError, match=r"epoch 1: of \d+ syllables none had the same word by the other gender"):
        trainer.fit()
    cfg = SyllableLossConfig(speaker_scale=1.0)
    ids = {row["id"] for row in rows}
    with pytest.raises(UserError, match="no syllable is there with the same word by the other gender"):
        read_alignments(alone, ids, cfg, "citation")
    with pytest.raises(UserError, match="has none of the 1 utterances"):
        read_alignments(alone, {"unknown"}, cfg, "citation")
    with pytest.raises(UserError, match="line 1 is not an alignment"):
        Alignments.read(toys[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(tone_scale=-1.0), "--tone-loss.tone-scale -1.0: must not be below 0"),
        (dict(temperature=0.0), "temperature 0.0: must lie between"),
        (dict(enough=1.5), "enough 1.5: between 0 and 1"),
        (dict(tone_scale=1.0), "--alignments : no such file, and --tone-loss needs the syllables"),
    ],
)
def test_a_wrong_choice_is_one_line(toys, tmp_path, options, message):
    cfg = train.Config(exp_dir=tmp_path, script="tailo", lang_dir=tmp_path, train_cuts=toys[0], valid_cuts=toys[0],
                       tone_loss=SyllableLossConfig(**options))
    with pytest.raises(UsageError, match=message):
        train.check(cfg)
