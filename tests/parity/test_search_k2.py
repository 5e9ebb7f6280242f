"""The native fast beam search against k2's own, utterance by utterance."""

import pytest
import torch

from icefall_ext.transducer.predictor import StatelessPredictor
from icefall_ext.transducer.search import make_search
from tests.search_toys import DIM, toy_batch, toy_model

pytestmark = pytest.mark.k2

SETTINGS = [
    dict(beam=20.0, max_contexts=8, max_states=64), dict(beam=8.0, max_contexts=4, max_states=64),
    dict(beam=4.0, max_contexts=4, max_states=8), dict(beam=2.0, max_contexts=8, max_states=64),
    dict(beam=20.0, max_contexts=16, max_states=64), dict(beam=20.0, max_contexts=8, max_states=8),
]
MODELS = {  # vocabulary, how sure, bias of blank, context: from nearly flat to as sure as a trained model
    "flat": dict(vocab_size=12, peaky=1.0, blank=0.0),
    "middling": dict(vocab_size=30, peaky=4.0, blank=2.0),
    "sure": dict(vocab_size=60, peaky=12.0, blank=6.0),
    "one token of context": dict(vocab_size=30, peaky=4.0, blank=1.0, context_size=1),
    "three tokens of context": dict(vocab_size=12, peaky=4.0, blank=1.0, context_size=3),
}


def both(model, utterances, **options):
    searches = [make_search("fast_beam_search", *model, backend=backend, **options) for backend in ("torch", "k2")]
    return [search(*utterances) for search in searches]


@pytest.mark.parametrize("allow_partial", [False, True])
@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_readings_of_1000_utterances_are_k2s(options, allow_partial):
    """At least 99 % alike, and where they differ the scores tie."""
    count = different = spoken = 0
    for seed, name in enumerate(MODELS):
        model = toy_model(**MODELS[name], seed=seed)
        native, k2s = both(model, toy_batch(200, 20, seed), allow_partial=allow_partial, **options)
        for ours, theirs in zip(native, k2s):
            count += 1
            spoken += bool(theirs.tokens)
            assert ours.best.score == pytest.approx(theirs.best.score, abs=1e-4)
            if (ours.tokens, ours.best.frames) != (theirs.tokens, theirs.best.frames):
                different += 1
    assert count == 1000 and spoken > 100
    assert different <= 10


@pytest.mark.parametrize("beam", [20.0, 3.0])
@pytest.mark.parametrize("name", MODELS)
def test_n_best_readings_are_those_of_k2s_lattice(name, beam):
    model = toy_model(**MODELS[name], seed=3)
    several = 0
    for ours, theirs in zip(*both(model, toy_batch(20, 15), nbest=6, beam=beam)):
        several += len(theirs.nbest) > 1
        assert [h.score for h in ours.nbest] == pytest.approx([h.score for h in theirs.nbest], abs=1e-4)
        assert [(h.tokens, h.frames) for h in ours.nbest] == [(h.tokens, h.frames) for h in theirs.nbest]
    assert several > 5


def test_the_first_of_k2s_n_best_is_its_shortest_path():
    model = toy_model(**MODELS["middling"])
    one, several = (make_search("fast_beam_search", *model, backend="k2", nbest=n)(*toy_batch(30, 20)) for n in (1, 5))
    assert [(r.best.tokens, r.best.frames) for r in one] == [(r.best.tokens, r.best.frames) for r in several]
    assert [r.best.score for r in one] == pytest.approx([r.best.score for r in several], abs=1e-4)


def test_blank_penalty_and_temperature_mean_the_same():
    model = toy_model(**MODELS["middling"])
    for ours, theirs in zip(*both(model, toy_batch(50, 20), blank_penalty=1.0, temperature=1.5)):
        assert (ours.tokens, ours.best.frames) == (theirs.tokens, theirs.best.frames)


def test_a_stream_may_be_fed_to_k2_in_chunks_of_any_length():
    search = make_search("fast_beam_search", *toy_model(**MODELS["middling"]), backend="k2")
    encoder_out, lengths = toy_batch(8, 30)
    state, fed = search.start(8), torch.zeros_like(lengths)
    generator = torch.Generator().manual_seed(2)
    while (fed < lengths).any():
        count = torch.minimum(torch.randint(0, 9, (8,), generator=generator), lengths - fed)
        chunk = torch.stack([encoder_out[n, torch.arange(at, at + 8).clamp(max=29)] for n, at in enumerate(fed)])
        search.feed(state, chunk, count)
        fed += count
        for one, other in zip(search.result(state), search(encoder_out, fed)):
            assert (one.tokens, one.best.frames) == (other.tokens, other.best.frames)
            assert one.best.score == pytest.approx(other.best.score, abs=1e-4)


def test_a_decoding_graph_confines_the_readings_and_names_their_words():
    import k2

    # Two words, 10 = "1 2" and 11 = "3", in any order; weights of a unigram.
    graph = k2.Fsa.from_str("""
        0 1 1 10 -0.5
        0 0 3 11 -0.9
        0 2 -1 -1 -0.1
        1 0 2 0 0.0
        2""", num_aux_labels=1)
    model = toy_model(6, peaky=4.0, blank=1.0)
    search = make_search("fast_beam_search", *model, graph=graph, nbest=5)  # auto: a graph takes k2
    spoken = 0
    for result in search(*toy_batch(30, 20)):
        assert len({tuple(h.words) for h in result.nbest}) == len(result.nbest)
        for hypothesis in result.nbest:
            spelled = {10: [1, 2], 11: [3]}
            assert [token for word in hypothesis.words for token in spelled[word]] == hypothesis.tokens
            assert len(hypothesis.frames) == len(hypothesis.tokens)
            spoken += len(hypothesis.words)
    assert spoken > 20
    best = make_search("fast_beam_search", *model, graph=graph)(*toy_batch(30, 20))
    assert [r.best.words for r in best] == [r.best.words for r in search(*toy_batch(30, 20))]


def test_k2_sees_the_contexts_that_training_sees():
    """Also at the start, where k2 writes blank for what training pads with nothing."""
    predictor = StatelessPredictor(9, DIM, context_size=3)
    with torch.no_grad():
        predictor.embedding.weight[0] = 5.0  # an embedding of blank that would be noticed
    model = predictor.eval(), toy_model(9)[1]
    for ours, theirs in zip(*both(model, toy_batch(30, 12))):
        assert (ours.tokens, ours.best.frames) == (theirs.tokens, theirs.best.frames)
