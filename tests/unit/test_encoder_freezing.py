import pytest
import torch
from torch import nn

from icefall_ext.encoders.freezing import learning_rate_groups, parameter_counts
from icefall_ext.encoders.load import build_encoder
from icefall_ext.encoders.spec import EncoderConfig
from icefall_ext.errors import UsageError
from tests.encoder_toys import GROUP_NORM, KINDS, LAYER_NORM, ragged_batch, toy_encoder

FREEZES = ["none", "front_end", "embeddings", "layers:1", "layers:2", "all"]


def trained_names(encoder):
    return {name for group in learning_rate_groups(encoder) for name, _ in group.named_parameters}


@pytest.mark.parametrize("freeze", FREEZES)
@pytest.mark.parametrize("kind", KINDS)
def test_frozen_parts_are_bit_identical_after_training_and_the_others_are_not(kind, freeze):
    encoder = toy_encoder(kind, freeze=freeze, subsampling="conv", mask_time_prob=0.5).train()
    head = nn.Linear(encoder.output_dim, 3)
    groups = [{"params": [p for _, p in group.named_parameters]} for group in learning_rate_groups(encoder)]
    optimizer = torch.optim.AdamW([*groups, {"params": list(head.parameters())}], lr=0.01, weight_decay=0.1)
    before = {name: parameter.detach().clone() for name, parameter in encoder.named_parameters()}
    for _ in range(3):
        frames, _ = encoder(*ragged_batch([6000, 3000]))
        optimizer.zero_grad()
        head(frames).square().mean().backward()
        optimizer.step()
    changed = {name for name, parameter in encoder.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == trained_names(encoder) == {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert all(p.grad is None for p in encoder.parameters() if not p.requires_grad)


def test_each_word_freezes_what_it_says():
    def frozen(freeze, kind=GROUP_NORM):
        encoder = toy_encoder(kind, freeze=freeze)
        return {encoder.depth_of(name) for name, p in encoder.named_parameters() if not p.requires_grad}

    assert [frozen(word) for word in FREEZES] == [set(), {0}, {0, 1}, {0, 1, 2}, {0, 1, 2, 3}, {0, 1, 2, 3}]
    assert frozen("layers:2", LAYER_NORM) == {0, 1, 2, 3} and frozen("all", LAYER_NORM) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_parts_stay_in_eval_mode_under_train(kind):
    encoder = toy_encoder(kind, freeze="layers:1")
    model = nn.ModuleList([encoder]).train()
    body = model[0].backbone.encoder
    assert not any(module.training for module in body.layers[0].modules())
    assert not any(module.training for module in model[0].backbone.feature_extractor.modules())
    assert not any(module.training for module in model[0].backbone.feature_projection.modules())
    assert not body.dropout.training and not body.pos_conv_embed.training
    assert all(module.training for module in body.layers[1].modules())


@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_encoder_gives_the_same_in_training_as_in_evaluation(kind):
    encoder, batch = toy_encoder(kind, freeze="all", mask_time_prob=0.6, mask_feature_prob=0.5), ragged_batch([6000])
    expected, _ = encoder(*batch)
    frames, _ = encoder.train()(*batch)
    assert torch.equal(frames, expected) and not frames.requires_grad


def test_masks_still_act_above_frozen_layers():
    encoder, batch = toy_encoder(LAYER_NORM, freeze="layers:1", dropout=0.0, mask_time_prob=0.6), ragged_batch([6000])
    expected, _ = encoder(*batch)
    assert not torch.equal(encoder.train()(*batch)[0], expected)


def test_what_is_frozen_at_the_bottom_keeps_no_activations():
    kept = []
    for freeze in ("none", "layers:2"):
        encoder, sizes = toy_encoder(LAYER_NORM, freeze=freeze).train(), []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t):
            encoder(*ragged_batch([6000]))
        kept.append(sum(sizes))
    assert kept[1] < 0.02 * kept[0]


def test_a_window_of_layers_can_be_trained():
    encoder = toy_encoder(LAYER_NORM)
    encoder.freeze("embeddings", above=1)
    assert {encoder.depth_of(name) for name, p in encoder.named_parameters() if p.requires_grad} == {2}
    encoder.train()
    encoder(*ragged_batch([6000]), until=1)[0].sum().backward()
    assert all((p.grad is None) == (not p.requires_grad) for p in encoder.parameters())
    encoder.freeze("none")
    assert all(p.requires_grad for p in encoder.parameters()) and encoder.backbone.encoder.layers[1].training


def test_freezing_layers_that_are_not_there_is_an_error():
    with pytest.raises(UsageError, match="freeze layers:3: this encoder has layers 1 to 2"):
        toy_encoder(GROUP_NORM, freeze="layers:3")


def test_learning_rates_fall_from_the_output_to_the_input():
    encoder = toy_encoder(LAYER_NORM, lr_scale=0.1, layer_lr_decay=0.5, subsampling="conv")
    scales = {group.name: group.lr_scale for group in learning_rate_groups(encoder)}
    assert scales == pytest.approx({
        "front end": 0.025, "embeddings": 0.025, "layer 1": 0.05, "layer 2": 0.1, "last norm": 0.1, "subsampling": 1.0,
    })
    names = [name for group in learning_rate_groups(encoder, "encoder.") for name, _ in group.named_parameters]
    assert sorted(names) == sorted(f"encoder.{name}" for name, _ in encoder.named_parameters())


def test_counts_by_part_add_up_and_tell_what_trains():
    encoder = toy_encoder(LAYER_NORM, freeze="layers:1", subsampling="conv")
    rows = parameter_counts(encoder)
    assert [row[0] for row in rows] == [
        "front end", "embeddings", "layer 1", "layer 2", "last norm", "subsampling", "encoder",
    ]
    assert rows[-1][1] == sum(p.numel() for p in encoder.parameters()) == sum(row[1] for row in rows[:-1])
    assert rows[-1][2] == sum(p.numel() for p in encoder.parameters() if p.requires_grad)
    assert [row[2] == 0 for row in rows] == [True, True, True, False, False, False, False]
    assert [row[0] for row in parameter_counts(toy_encoder(GROUP_NORM))] == [
        "front end", "embeddings", "layers 1-2", "encoder",
    ]


def test_the_full_size_model_has_the_number_of_parameters_of_hubert_base():
    encoder = build_encoder(EncoderConfig(source="random:hubert-base"))
    assert parameter_counts(encoder)[-1] == ("encoder", 94_371_712, 94_371_712)
