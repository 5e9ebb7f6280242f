"""Every search against a slow decoder, and against itself in other batches, orders and chunks."""

import math

import pytest
import torch

from icefall_ext.errors import UsageError, UserError
from icefall_ext.transducer.search import base, greedy, k2_fast_beam, make_search
from tests.search_toys import (
    Scores,
    all_alignments,
    log_add,
    slow_fast_beam,
    slow_greedy,
    slow_modified_beam,
    toy_batch,
    toy_model,
)

METHODS = {
    "greedy": ("greedy_search", {}),
    "greedy, three tokens a frame": ("greedy_search", {"max_symbols": 3}),
    "modified beam": ("modified_beam_search", {}),
    "modified beam, n-best": ("modified_beam_search", {"beam": 5, "nbest": 3}),
    "fast beam": ("fast_beam_search", {}),
    "fast beam, narrow": ("fast_beam_search", {"beam": 4.0, "max_contexts": 3, "max_states": 5}),
    "fast beam, n-best": ("fast_beam_search", {"nbest": 4}),
}


def decode(method, model, encoder_out, lengths, **options):
    name, defaults = METHODS[method]
    return make_search(name, *model, backend="torch", **{**defaults, **options})(encoder_out, lengths)


def assert_same(results, expected):
    assert len(results) == len(expected)
    for result, wanted in zip(results, expected):
        assert [h.tokens for h in result.nbest] == [h.tokens for h in wanted.nbest]
        assert [h.frames for h in result.nbest] == [h.frames for h in wanted.nbest]
        assert [h.score for h in result.nbest] == pytest.approx([h.score for h in wanted.nbest], abs=1e-4)


@pytest.mark.parametrize("max_symbols", [1, 2, 4])
@pytest.mark.parametrize("context_size", [1, 2, None])
@pytest.mark.parametrize("blank", [0.5, 4.0])
def test_greedy_search_takes_the_best_token_until_blank_or_the_limit(max_symbols, context_size, blank):
    model = toy_model(9, blank=blank, context_size=context_size)
    encoder_out, lengths = toy_batch(12, 30)
    for n, result in enumerate(make_search("greedy_search", *model, max_symbols=max_symbols)(encoder_out, lengths)):
        tokens, frames, score = slow_greedy(Scores(*model, encoder_out[n]), int(lengths[n]), max_symbols)
        assert (result.tokens, result.best.frames) == (tokens, frames)
        assert result.best.score == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("look_ahead", [(1, 1), (24, 2), (24, 5), (1000, 1000)])
@pytest.mark.parametrize("max_symbols", [1, 3])
def test_how_far_greedy_search_looks_ahead_changes_nothing(look_ahead, max_symbols, monkeypatch):
    model = toy_model(9, blank=2.5)
    encoder_out, lengths = toy_batch(12, 30)
    monkeypatch.setattr(greedy, "LOOK_AHEAD_CPU", look_ahead)
    results = make_search("greedy_search", *model, max_symbols=max_symbols)(encoder_out, lengths)
    distances = set()
    for n, result in enumerate(results):
        tokens, frames, score = slow_greedy(Scores(*model, encoder_out[n]), int(lengths[n]), max_symbols)
        assert (result.tokens, result.best.frames) == (tokens, frames)
        assert result.best.score == pytest.approx(score, abs=1e-4)
        distances |= {after - before for before, after in zip(frames, frames[1:])}
    assert {1, 2, 3, 5, 6} <= distances, "tokens must fall on both sides of where a look ahead ends"


@pytest.mark.parametrize("beam", [1, 2, 4, 11])
@pytest.mark.parametrize("context_size", [1, 2, 3, None])
def test_modified_beam_search_finds_what_a_search_over_dictionaries_finds(beam, context_size):
    model = toy_model(7, context_size=context_size)
    encoder_out, lengths = toy_batch(8, 14)
    search = make_search("modified_beam_search", *model, beam=beam, nbest=beam)
    for n, result in enumerate(search(encoder_out, lengths)):
        expected = slow_modified_beam(Scores(*model, encoder_out[n]), int(lengths[n]), beam)
        assert [(h.tokens, h.frames) for h in result.nbest] == [(tokens, frames) for tokens, frames, _ in expected]
        assert [h.score for h in result.nbest] == pytest.approx([score for _, _, score in expected], abs=1e-4)


def test_modified_beam_search_with_room_for_everything_gives_the_exact_probability_of_every_text():
    model = toy_model(3)
    encoder_out, _ = toy_batch(1, 5)
    exact = {}
    for tokens, _, score in all_alignments(Scores(*model, encoder_out[0]), 5, 3):
        exact[tokens] = log_add(exact.get(tokens, -math.inf), score)
    beam = len(exact)
    result = make_search("modified_beam_search", *model, beam=beam, nbest=beam)(encoder_out, torch.tensor([5]))[0]
    assert {tuple(h.tokens): h.score for h in result.nbest} == pytest.approx(exact, abs=1e-4)
    assert log_add(*(h.score for h in result.nbest)) == pytest.approx(0.0, abs=1e-5)


def test_a_beam_of_one_is_greedy_search_with_one_token_per_frame():
    model = toy_model(30, peaky=6.0)
    encoder_out, lengths = toy_batch(100, 40)
    assert_same(make_search("modified_beam_search", *model, beam=1)(encoder_out, lengths),
                make_search("greedy_search", *model, max_symbols=1)(encoder_out, lengths))


@pytest.mark.parametrize("context_size", [1, 2, 3])
@pytest.mark.parametrize("options", [
    dict(beam=20.0, max_contexts=8, max_states=64),
    dict(beam=8.0, max_contexts=4, max_states=64),
    dict(beam=4.0, max_contexts=4, max_states=8),
    dict(beam=2.0, max_contexts=8, max_states=64),
    dict(beam=0.5, max_contexts=8, max_states=64),
    dict(beam=8.0, max_contexts=1, max_states=2),
    dict(beam=8.0, max_contexts=4, max_states=5),
    dict(beam=8.0, max_contexts=8, max_states=6),
    dict(beam=1e9, max_contexts=60, max_states=200),
])
def test_fast_beam_search_follows_the_rules_of_k2(context_size, options):
    model = toy_model(7, context_size=context_size)
    encoder_out, lengths = toy_batch(6, 12)
    for partial in (False, True):
        search = make_search("fast_beam_search", *model, backend="torch", allow_partial=partial, **options)
        for n, result in enumerate(search(encoder_out, lengths)):
            tokens, score = slow_fast_beam(Scores(*model, encoder_out[n]), int(lengths[n]), context_size, **options,
                                           allow_partial=partial)
            assert result.tokens == tokens
            assert result.best.score == pytest.approx(score, abs=1e-4)


def test_fast_beam_search_with_room_for_everything_finds_the_best_alignments_of_the_best_texts():
    model = toy_model(3)
    encoder_out, _ = toy_batch(1, 6)
    best = {}  # the last frame decides nothing
    for tokens, places, score in all_alignments(Scores(*model, encoder_out[0]), 5, 3):
        best[tokens] = max(best.get(tokens, (-math.inf, [])), (score, places))
    result = make_search("fast_beam_search", *model, backend="torch", beam=1e9, max_contexts=999, max_states=9999,
                         nbest=len(best))(encoder_out, torch.tensor([6]))[0]
    assert {tuple(h.tokens): h.frames for h in result.nbest} == {tokens: places for tokens, (_, places) in best.items()}
    scores = [h.score for h in result.nbest]
    assert scores == sorted(scores, reverse=True)
    assert scores == pytest.approx(sorted((score for score, _ in best.values()), reverse=True), abs=1e-4)


def test_the_first_of_the_n_best_is_the_best():
    model = toy_model(20, peaky=5.0)
    encoder_out, lengths = toy_batch(30, 30)
    for method in ("modified beam", "fast beam", "fast beam, narrow"):
        one, several = (decode(method, model, encoder_out, lengths, nbest=nbest) for nbest in (1, 4))
        assert [r.best.tokens for r in one] == [r.best.tokens for r in several]
        assert [r.best.frames for r in one] == [r.best.frames for r in several]
        assert all(len({tuple(h.tokens) for h in r.nbest}) == len(r.nbest) for r in several)
        assert max(len(r.nbest) for r in several) == 4


@pytest.mark.parametrize("method", METHODS)
def test_an_utterance_is_decoded_alike_alone_and_in_any_batch_and_order(method):
    model = toy_model(20, peaky=5.0)
    encoder_out, lengths = toy_batch(10, 25)
    together = decode(method, model, encoder_out, lengths)
    order = torch.tensor([3, 9, 0, 7, 1, 8, 2, 6, 4, 5])
    shuffled = decode(method, model, encoder_out[order], lengths[order])
    assert_same([shuffled[i] for i in order.argsort()], together)
    assert_same([decode(method, model, encoder_out[n : n + 1, : max(1, lengths[n])], lengths[n : n + 1])[0]
                 for n in range(10)], together)


@pytest.mark.parametrize("method", METHODS)
def test_padding_is_not_looked_at(method):
    model = toy_model(20, peaky=5.0)
    encoder_out, lengths = toy_batch(10, 25)
    expected = decode(method, model, encoder_out, lengths)
    for n, length in enumerate(lengths):
        encoder_out[n, length:] = float("nan")
    assert_same(decode(method, model, encoder_out, lengths), expected)


@pytest.mark.parametrize(("method", "context_size"), [
    *((method, 2) for method in METHODS), *((method, None) for method in METHODS if not method.startswith("fast"))])
def test_feeding_chunks_of_any_length_gives_the_same_as_all_at_once(method, context_size, monkeypatch):
    monkeypatch.setattr(base, "MAX_ROWS", 10)  # so that the searches also forget on the way
    model = toy_model(20, peaky=5.0, context_size=context_size)
    encoder_out, lengths = toy_batch(10, 40)
    name, options = METHODS[method]
    search = make_search(name, *model, backend="torch", **options)
    state, fed = search.start(10), torch.zeros_like(lengths)
    generator = torch.Generator().manual_seed(5)
    while (fed < lengths).any():
        count = torch.minimum(torch.randint(0, 9, (10,), generator=generator), lengths - fed)
        chunk = torch.stack([encoder_out[n, torch.arange(at, at + 8).clamp(max=39)] for n, at in enumerate(fed)])
        search.feed(state, chunk, count)
        fed += count
        assert_same(search.result(state), search(encoder_out, fed))
    assert_same(search.result(state), search(encoder_out, lengths))


@pytest.mark.parametrize("method", METHODS)
def test_forgetting_contexts_changes_nothing(method, monkeypatch):
    model = toy_model(20, peaky=5.0)
    encoder_out, lengths = toy_batch(10, 60)
    expected = decode(method, model, encoder_out, lengths)
    monkeypatch.setattr(base, "MAX_ROWS", 1)
    monkeypatch.setattr(base, "BLOCK", 3)
    assert_same(decode(method, model, encoder_out, lengths), expected)


@pytest.mark.parametrize("method", METHODS)
def test_the_predictor_sees_every_context_once(method, monkeypatch):
    model = toy_model(6)
    seen = []
    step = model[0].step

    def watched(tokens, state):
        output, after = step(tokens, state)
        seen.extend(map(tuple, after[0].tolist()))
        return output, after

    monkeypatch.setattr(model[0], "step", watched)
    decode(method, model, *toy_batch(10, 40))
    assert len(seen) == len(set(seen)) > 5


@pytest.mark.parametrize("method", METHODS)
def test_blank_penalty_and_temperature_act_on_the_logits(method):
    model = toy_model(12)
    encoder_out, lengths = toy_batch(10, 25)
    tuned = decode(method, model, encoder_out, lengths, blank_penalty=1.5, temperature=2.0)
    with torch.no_grad():
        model[1].output_linear.bias[0] -= 1.5
        model[1].output_linear.weight /= 2
        model[1].output_linear.bias /= 2
    assert_same(tuned, decode(method, model, encoder_out, lengths))


@pytest.mark.parametrize("method", METHODS)
def test_extreme_logits_do_no_harm(method):
    model = toy_model(12)
    with torch.no_grad():
        model[1].output_linear.weight *= 1e4
        model[1].output_linear.bias[5] = float("-inf")
    for result in decode(method, model, *toy_batch(10, 25)):
        assert 5 not in result.tokens
        assert not math.isnan(result.best.score)
        assert result.best.frames == sorted(result.best.frames)


@pytest.mark.parametrize("method", METHODS)
def test_a_model_in_bfloat16_decodes_like_one_of_its_rounded_weights(method):
    model = tuple(part.bfloat16() for part in toy_model(12, peaky=6.0))
    encoder_out, lengths = toy_batch(20, 25)
    low = decode(method, model, encoder_out.bfloat16(), lengths)
    high = decode(method, tuple(part.float() for part in model), encoder_out.bfloat16().float(), lengths)
    assert sum(one.tokens == other.tokens for one, other in zip(low, high)) >= 16


@pytest.mark.parametrize("method", METHODS)
def test_a_beam_wider_than_the_vocabulary_and_a_single_frame_work(method):
    model = toy_model(2)
    for result in decode(method, model, *toy_batch(4, 1)):
        assert len(result.tokens) <= (3 if "three" in method else 1)


@pytest.mark.parametrize("method", METHODS)
def test_an_utterance_without_frames_has_the_empty_reading(method):
    for result in decode(method, toy_model(5), torch.zeros(2, 0, 16), torch.tensor([0, 0])):
        assert (result.tokens, result.best.frames, result.best.score) == ([], [], 0.0)


@pytest.mark.parametrize("method", METHODS)
def test_nan_in_the_encoder_output_is_reported_with_its_place(method):
    encoder_out, _ = toy_batch(3, 9)
    encoder_out[1, 4, 2] = float("nan")
    with pytest.raises(UserError, match="utterance 1 of the batch at frame 4"):
        decode(method, toy_model(5), encoder_out, torch.tensor([2, 9, 9]))


def test_impossible_requests_are_refused_in_one_line():
    predictor, joiner = toy_model(5)
    for options, message in (
        (dict(method="beam_search"), "modified_beam_search"),
        (dict(method="greedy_search", backend="tf"), "backends auto, torch, k2"),
        (dict(method="greedy_search", backend="k2"), "no k2 backend"),
        (dict(method="greedy_search", beam=4), "no option beam"),
        (dict(method="greedy_search", max_symbols=0), "max_symbols 0"),
        (dict(method="greedy_search", nbest=2), "modified_beam_search for more"),
        (dict(method="modified_beam_search", beam=0), "beam 0"),
        (dict(method="modified_beam_search", beam=2, nbest=3), "nbest 3"),
        (dict(method="modified_beam_search", temperature=0.0), "temperature 0.0"),
        (dict(method="greedy_search", temperature=float("nan")), "temperature nan"),
        (dict(method="fast_beam_search", beam=float("nan"), backend="torch"), "beam nan"),
        (dict(method="fast_beam_search", max_states=0, backend="torch"), "max_states 0"),
    ):
        with pytest.raises(UsageError, match=message):
            make_search(options.pop("method"), predictor, joiner, **options)
    with pytest.raises(UsageError, match="take modified_beam_search"):
        make_search("fast_beam_search", *toy_model(5, context_size=None), backend="torch")
    with pytest.raises(UsageError, match="do not fit an encoder output"):
        make_search("greedy_search", predictor, joiner)(torch.zeros(2, 5, 16), torch.tensor([5, 6]))


@pytest.mark.parametrize("method", METHODS)
def test_a_chunk_of_other_streams_than_the_state_has_is_refused(method):
    name, options = METHODS[method]
    search = make_search(name, *toy_model(5), backend="torch", **options)
    state = search.start(3)
    with pytest.raises(UsageError, match="2 streams does not fit a state of 3"):
        search.feed(state, torch.zeros(2, 4, 16), torch.tensor([4, 4]))


def test_without_k2_a_graph_is_refused_and_the_way_out_is_named(monkeypatch):
    monkeypatch.setattr(k2_fast_beam, "why_no_k2", lambda: "k2 is not installed")
    with pytest.raises(UsageError, match="k2 is not installed; a decoding graph needs it"):
        make_search("fast_beam_search", *toy_model(5), graph=object())
    with pytest.raises(UsageError, match="k2 is not installed; backend torch gives the same readings"):
        make_search("fast_beam_search", *toy_model(5), backend="k2")
