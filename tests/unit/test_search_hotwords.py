"""Hotwords are found, and no other text is lost for them."""

import math
from collections import defaultdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from icefall_ext.errors import UsageError, UserError
from icefall_ext.transducer.search import HotwordGraph, make_search
from icefall_ext.transducer.search.modified_beam import NOBODY, SEQUENCE
from tests.search_toys import log_add, speak, spelled_model, toy_batch, toy_model

one_of_3 = st.integers(1, 3)
some_hotwords = st.lists(st.lists(one_of_3, min_size=1, max_size=4).map(tuple), min_size=1, max_size=5, unique=True)
some_text = st.lists(one_of_3, max_size=12)


@given(hotwords=some_hotwords, text=some_text)
def test_the_bonus_of_a_text_is_that_of_every_place_where_a_hotword_occurs(hotwords, text):
    bonuses = [2.0**n for n in range(len(hotwords))]
    found = [
        bonus for hotword, bonus in zip(hotwords, bonuses) for at in range(len(text))
        if tuple(text[at : at + len(hotword)]) == hotword]
    assert HotwordGraph(hotwords, 4, bonuses=bonuses).bonus(text) == sum(found)


@given(hotwords=some_hotwords, text=some_text)
def test_stepping_gives_the_bonus_and_the_prospect_of_every_next_token(hotwords, text):
    graph = HotwordGraph(hotwords, 4, bonus_per_token=1.0)
    output, state = graph.start(1)
    for length in range(len(text) + 1):
        said = tuple(text[:length])
        completes, prospect = output[0].split(4)
        for token in range(4):
            after = said + (token,) if token else said
            assert completes[token].item() == graph.bonus(after) - graph.bonus(said)
            under_way = [n for hotword in hotwords for n in range(1, len(hotword)) if after[-n:] == hotword[:n]]
            assert prospect[token].item() == max(under_way, default=0)
        if length < len(text):
            output, state = graph.step(torch.tensor([text[length]]), state)


@pytest.mark.parametrize("beam", [1, 4, 5])
@pytest.mark.parametrize("bonus", [0.3, 1.5, 6.0, 40.0])
def test_a_reading_without_hotwords_is_untouched_and_one_with_them_costs_at_most_their_bonus(beam, bonus):
    with_hotwords = 0
    for seed in range(3):
        model = toy_model(12, peaky=5.0, blank=3.0, seed=seed)
        encoder_out, lengths = toy_batch(25, 20, seed)
        graph = HotwordGraph([[3, 4, 5], [4, 5], [7, 7, 8, 1], [2]], 12, bonus)
        plain = make_search("modified_beam_search", *model, beam=beam)(encoder_out, lengths)
        boosted = make_search("modified_beam_search", *model, beam=beam, hotwords=graph)(encoder_out, lengths)
        for before, after in zip(plain, boosted):
            earned = graph.bonus(after.tokens)
            if earned:
                with_hotwords += 1
                assert after.best.score - earned >= before.best.score - earned - 1e-3
            else:
                assert (after.tokens, after.best.frames) == (before.tokens, before.best.frames)
                assert after.best.score == pytest.approx(before.best.score, abs=1e-4)
    assert with_hotwords > 10


def test_hotwords_that_sound_nearly_like_what_was_heard_are_found_and_the_rest_stays():
    for seed in range(5):
        utterance = speak([1, 2, 3, 4, 5, 6, 7, 8], vocab_size=20, nearly={3: 13, 4: 14, 7: 17}, seed=seed)
        model = spelled_model(20)
        assert make_search("modified_beam_search", *model)(*utterance)[0].tokens == [1, 2, 3, 4, 5, 6, 7, 8]
        graph = HotwordGraph([[2, 13, 14], [17]], 20, 1.5)
        boosted = make_search("modified_beam_search", *model, hotwords=graph)(*utterance)[0]
        assert boosted.tokens == [1, 2, 13, 14, 5, 6, 17, 8]
        assert boosted.best.frames == [1, 4, 7, 10, 13, 16, 19, 22]


def test_a_long_hotword_under_way_is_kept_among_many_that_have_just_begun():
    begun = [[token, 19] for token in (1, *range(3, 19))]
    graph = HotwordGraph([[2, 13, 14, 15], *begun], 20, bonuses=[6.0] + [0.5] * len(begun))
    for seed in range(10):
        utterance = speak([1, 2, 3, 4, 5, 6, 7, 8], vocab_size=20, nearly={3: 13, 4: 14, 5: 15}, seed=seed)
        boosted = make_search("modified_beam_search", *spelled_model(20), hotwords=graph)(*utterance)[0]
        assert boosted.tokens == [1, 2, 13, 14, 15, 6, 7, 8]


def test_places_for_hotwords_hold_different_texts_and_hardly_any_of_the_plain_beam():
    model = toy_model(12, peaky=5.0, blank=3.0)
    encoder_out, _ = toy_batch(25, 20)
    graph = HotwordGraph([[3, 4, 5], [4, 5], [7, 7, 8, 1]], 12, 2.0)
    search = make_search("modified_beam_search", *model, hotwords=graph)
    state, held, also_plain = search.start(25), 0, 0
    for frame in range(20):
        search.feed(state, encoder_out[:, frame : frame + 1], torch.ones(25, dtype=torch.int64))
        for sequences in state.streams.ids[:, :, SEQUENCE].tolist():
            plain, others = sequences[:4], [sequence for sequence in sequences[4:] if sequence != NOBODY]
            assert len(set(others)) == len(others)
            held += len(others)
            also_plain += len(set(others) & set(plain))
    assert held > 500 and also_plain < held / 50


@pytest.mark.parametrize("bonus", [1.0, 1.5])
def test_a_hotword_that_only_begins_like_the_text_takes_no_text_away_though_the_usual_search_lets_it(bonus):
    said, hotword = [1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 15, 16, 17, 18]
    model, graph = spelled_model(20), HotwordGraph([hotword], 20, bonus)
    lost_by_usual = 0
    for seed in range(5):
        utterance = speak(said, vocab_size=20, seed=seed)
        assert make_search("modified_beam_search", *model, hotwords=graph)(*utterance)[0].tokens == said
        lost_by_usual += not set(said) <= set(usual_hotword_search(utterance[0][0], graph))
    assert bonus < 1.5 or lost_by_usual, "the usual search must lose text here, else this test proves nothing"


def usual_hotword_search(logits, graph, beam=4):
    """A beam ranked by log-probability, bonus and prospect together: how it is commonly done."""
    known = {(): graph.start(1)}

    def outlook(tokens):
        if tokens not in known:
            outlook(tokens[:-1])
            known[tokens] = graph.step(torch.tensor(tokens[-1:]), known[tokens[:-1]][1])
        return graph.bonus(tokens) + known[tokens][0][0, graph.vocab_size].item()

    hypotheses = {(): 0.0}
    for log_probs in logits.log_softmax(-1).tolist():
        reached = defaultdict(lambda: -math.inf)
        for tokens, score in hypotheses.items():
            for token, log_prob in enumerate(log_probs):
                after = (*tokens, token) if token else tokens
                reached[after] = log_add(reached[after], score + log_prob)
        hypotheses = dict(sorted(reached.items(), key=lambda item: -item[1] - outlook(item[0]))[:beam])
    return max(hypotheses, key=lambda tokens: hypotheses[tokens] + graph.bonus(tokens))


def test_a_stream_with_hotwords_may_be_fed_in_chunks_and_gives_n_best():
    model = toy_model(12, peaky=5.0, blank=3.0)
    encoder_out, lengths = toy_batch(10, 30)
    graph = HotwordGraph([[3, 4, 5], [4, 5], [2]], 12, 1.0)
    search = make_search("modified_beam_search", *model, nbest=3, hotwords=graph)
    whole = search(encoder_out, lengths)
    state = search.start(10)
    for start in range(0, 30, 7):
        chunk = encoder_out[:, start : start + 7]
        search.feed(state, chunk, (lengths - start).clamp(0, chunk.shape[1]))
    for one, other in zip(search.result(state), whole):
        assert [(h.tokens, h.frames) for h in one.nbest] == [(h.tokens, h.frames) for h in other.nbest]
        assert [h.score for h in one.nbest] == pytest.approx([h.score for h in other.nbest], abs=1e-4)
        assert len({tuple(h.tokens) for h in one.nbest}) == len(one.nbest)


def test_hotwords_that_cannot_be_are_refused():
    with pytest.raises(UserError, match=r"hotword \[3, 12\]"):
        HotwordGraph([[3, 12]], 12)
    with pytest.raises(UserError, match=r"hotword \[\]"):
        HotwordGraph([[]], 12)
    with pytest.raises(UserError, match="above 0"):
        HotwordGraph([[3]], 12, bonuses=[-1.0])
    with pytest.raises(UsageError, match="do not fit a model of 5"):
        make_search("modified_beam_search", *toy_model(5), hotwords=HotwordGraph([[3]], 12))
    with pytest.raises(UsageError, match="no option hotwords"):
        make_search("greedy_search", *toy_model(12), hotwords=HotwordGraph([[3]], 12))
