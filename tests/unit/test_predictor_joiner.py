import copy

import pytest
import torch

from icefall_ext.errors import UsageError
from icefall_ext.transducer.joiner import Joiner
from icefall_ext.transducer.predictor import LstmPredictor, StatelessPredictor

V, DIM = 11, 8


def predictors():
    torch.manual_seed(1)
    return {
        "context 1": StatelessPredictor(V, DIM, context_size=1),
        "context 2": StatelessPredictor(V, DIM, context_size=2),
        "context 3, full convolution": StatelessPredictor(V, DIM, context_size=3, conv_groups=1),
        "lstm": LstmPredictor(V, DIM, num_layers=2).eval(),
    }


@pytest.mark.parametrize("kind", predictors())
def test_stepping_token_by_token_gives_what_training_computes_at_once(kind):
    predictor = predictors()[kind]
    tokens = torch.tensor([[3, 3, 10, 1, 7], [9, 2, 0, 0, 5]])
    with torch.no_grad():
        at_once = predictor(torch.nn.functional.pad(tokens, (1, 0)))
        output, state = predictor.start(2)
        outputs = [output]
        for column in tokens.unbind(1):
            output, state = predictor.step(column, state)
            outputs.append(output)
    torch.testing.assert_close(torch.stack(outputs, dim=1), at_once)


@pytest.mark.parametrize("kind", predictors())
def test_states_can_be_reordered_by_row(kind):
    predictor = predictors()[kind]
    with torch.no_grad():
        _, state = predictor.start(3)
        _, state = predictor.step(torch.tensor([1, 2, 3]), state)
        outputs = predictor.step(torch.tensor([4, 5, 5]), state)[0]
        order = torch.tensor([2, 0, 0])
        reordered = predictor.step(torch.tensor([5, 4, 4]), tuple(part[order] for part in state))[0]
    torch.testing.assert_close(reordered, outputs[order])


def test_contexts_of_k2_at_the_start_of_an_utterance_are_not_mistaken_for_the_token_blank():
    predictor = predictors()["context 3, full convolution"]
    with torch.no_grad():
        output, state = predictor.start(1)
        torch.testing.assert_close(predictor.from_contexts(torch.tensor([[0, 0, 0]], dtype=torch.int32)), output)
        for context, token in (([0, 0, 4], 4), ([0, 4, 6], 6), ([4, 6, 1], 1), ([6, 1, 1], 1)):
            output, state = predictor.step(torch.tensor([token]), state)
            torch.testing.assert_close(predictor.from_contexts(torch.tensor([context])), output)


def test_stepping_follows_the_parameters_when_they_change():
    predictor = predictors()["context 2"]
    with torch.no_grad():
        before = predictor.start(1)[0]
        predictor.conv.weight.mul_(2.0)
        torch.testing.assert_close(predictor.start(1)[0], 2 * before)
        predictor.load_state_dict(predictors()["context 2"].state_dict())
        torch.testing.assert_close(predictor.start(1)[0], before)
        predictor.double()
        torch.testing.assert_close(predictor.start(1)[0], before.double())


def test_a_search_that_starts_sees_weights_that_changed_without_a_trace():
    predictor = predictors()["context 2"]
    before = predictor.start(1)[0]
    average = copy.deepcopy(predictor)
    for changed in (predictor, average):
        changed.conv.weight.data.mul_(2.0)  # as fused optimisers do, and broadcasts
        torch.testing.assert_close(changed.start(1)[0], 2 * before)
    with torch.inference_mode():
        torch.testing.assert_close(predictors()["context 2"].start(1)[0], before)


def test_a_search_under_autocast_leaves_nothing_coarse_behind():
    predictor, untouched = predictors()["context 2"], predictors()["context 2"]
    with torch.autocast("cpu", torch.bfloat16):
        predictor.start(1)
    assert torch.equal(predictor.start(1)[0], untouched.start(1)[0])


def test_parameters_carry_the_names_and_shapes_of_icefalls_checkpoints():
    predictor = StatelessPredictor(V, DIM, context_size=2)
    assert {k: tuple(v.shape) for k, v in predictor.state_dict().items()} == {
        "embedding.weight": (V, DIM), "conv.weight": (DIM, 4, 2)}
    assert list(StatelessPredictor(V, DIM, context_size=1).state_dict()) == ["embedding.weight"]
    assert {k: tuple(v.shape) for k, v in Joiner(6, DIM, 5, V).state_dict().items()} == {
        "encoder_proj.weight": (5, 6), "encoder_proj.bias": (5,), "decoder_proj.weight": (5, DIM),
        "decoder_proj.bias": (5,), "output_linear.weight": (V, 5), "output_linear.bias": (V,)}


def test_joiner_projects_each_input_once_and_broadcasts():
    joiner = Joiner(6, DIM, 5, V)
    am, lm = torch.randn(2, 4, 1, 6), torch.randn(2, 1, 3, DIM)
    projected = joiner(joiner.encoder_proj(am), joiner.decoder_proj(lm), project_input=False)
    assert projected.shape == (2, 4, 3, V)
    torch.testing.assert_close(joiner(am, lm), projected)


def test_gradients_reach_every_parameter():
    for predictor in predictors().values():
        predictor(torch.tensor([[0, 1, 2, 3]])).square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in predictor.parameters())


def test_impossible_shapes_are_refused():
    with pytest.raises(UsageError, match="context_size 0"):
        StatelessPredictor(V, DIM, context_size=0)
    with pytest.raises(UsageError, match="conv_groups 3"):
        StatelessPredictor(V, DIM, conv_groups=3)
