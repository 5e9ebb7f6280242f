"""Language models, and their fusion into the beam."""

import gzip
import itertools
import math

import pytest
import torch

from icefall_ext.errors import UsageError, UserError
from icefall_ext.transducer.predictor import LstmPredictor
from icefall_ext.transducer.search import NeuralLm, NgramLm, make_search
from tests.search_toys import Scores, slow_modified_beam, speak, spelled_model, toy_batch, toy_model

TOKENS = ["<blk>", "<sos/eos>", "<unk>", "a", "b", "c"]
ARPA = """
\\data\\
ngram 1=6
ngram 2=4
ngram 3=2

\\1-grams:
-99\t<s>\t-0.30
-1.0\t</s>
-1.5\t<unk>
-0.5\ta\t-0.20
-0.7\tb\t-0.10
-0.9\tword\t-0.40

\\2-grams:
-0.2\t<s> a\t-0.15
-0.4\ta b\t-0.25
-0.6\tb a\t-0.35
-0.3\tword a

\\3-grams:
-0.1\t<s> a b
-0.05\ta b a

\\end\\
"""


@pytest.fixture
def arpa(tmp_path):
    path = tmp_path / "lm.arpa"
    path.write_text(ARPA)
    return path


def by_the_book(history, token):
    """log10 p by the definition of back-off, from the numbers above; c is unseen and takes <unk>."""
    log_probs = {("a",): -0.5, ("b",): -0.7, ("<s>", "a"): -0.2, ("a", "b"): -0.4, ("b", "a"): -0.6,
                 ("<s>", "a", "b"): -0.1, ("a", "b", "a"): -0.05}
    backoffs = {("<s>",): -0.30, ("a",): -0.20, ("b",): -0.10, ("<s>", "a"): -0.15, ("a", "b"): -0.25,
                ("b", "a"): -0.35}
    history = tuple(history[-2:])
    if (*history, token) in log_probs:
        return log_probs[(*history, token)]
    if not history:
        return -1.5
    return backoffs.get(history, 0.0) + by_the_book(history[1:], token)


def test_every_n_gram_probability_is_that_of_the_back_off_rule(arpa):
    lm = NgramLm.from_arpa(arpa, TOKENS)
    for text in itertools.product("abc", repeat=4):
        values, state = lm.start(1)
        history = ["<s>"]
        for token in text:
            for follower in "abc":
                expected = by_the_book(history, follower) * math.log(10)
                assert values[0, TOKENS.index(follower)].item() == pytest.approx(expected, abs=1e-5)
            values, state = lm.step(torch.tensor([TOKENS.index(token)]), state)
            history.append(token)


def test_a_compressed_arpa_file_reads_the_same(arpa, tmp_path):
    with gzip.open(tmp_path / "lm.arpa.gz", "wt") as packed:
        packed.write(ARPA)
    one, other = (NgramLm.from_arpa(path, TOKENS) for path in (arpa, tmp_path / "lm.arpa.gz"))
    assert torch.equal(one.start(1)[0], other.start(1)[0])


def test_files_that_are_not_arpa_or_over_other_tokens_are_refused(tmp_path, arpa):
    broken = tmp_path / "broken.arpa"
    broken.write_text(ARPA.replace("-0.4\ta b\t-0.25", "-0.4\ta"))
    with pytest.raises(UserError, match="broken.arpa: line 17 is not a 2-gram"):
        NgramLm.from_arpa(broken, TOKENS)
    broken.write_bytes(b"\x80mmap lm")
    with pytest.raises(UserError, match="not UTF-8"):
        NgramLm.from_arpa(broken, TOKENS)
    broken.write_text(ARPA.replace("\\end\\", ""))
    with pytest.raises(UserError, match="cut short"):
        NgramLm.from_arpa(broken, TOKENS)
    with pytest.raises(UserError, match="over the tokens of tokens.txt"):
        NgramLm.from_arpa(arpa, ["<blk>", "x", "y"])
    with pytest.raises(UserError, match="no such file"):
        NgramLm.from_arpa(tmp_path / "none.arpa", TOKENS)


def neural_lm(vocab_size):
    torch.manual_seed(7)
    network, head = LstmPredictor(vocab_size, 8).eval(), torch.nn.Linear(8, vocab_size)

    def function(tokens, state):
        output, state = network.step(tokens, network.start(len(tokens))[1] if state is None else state)
        return head(output), state

    return NeuralLm(function, start_token=1)


@pytest.mark.parametrize("context_size", [1, 2, None])
def test_fusion_adds_the_scaled_scores_of_all_models_to_every_emission(arpa, context_size):
    model = toy_model(6, context_size=context_size)
    lms = [(NgramLm.from_arpa(arpa, TOKENS), 0.6), (neural_lm(6), 0.9), (NgramLm.from_arpa(arpa, TOKENS), -0.2)]
    encoder_out, lengths = toy_batch(5, 14)
    search = make_search("modified_beam_search", *model, beam=7, nbest=7, lms=lms)
    with torch.no_grad():
        for n, result in enumerate(search(encoder_out, lengths)):
            expected = slow_modified_beam(Scores(*model, encoder_out[n], lms), int(lengths[n]), 7)
            assert [(h.tokens, h.frames) for h in result.nbest] == [(tokens, frames) for tokens, frames, _ in expected]
            assert [h.score for h in result.nbest] == pytest.approx([score for _, _, score in expected], abs=1e-4)


def test_a_language_model_decides_between_readings_that_sound_alike(arpa):
    lms = [(NgramLm.from_arpa(arpa, TOKENS), 0.5)]
    for seed in range(5):
        utterance = speak([3, 5], vocab_size=6, nearly={5: 4}, seed=seed)  # "a c", or nearly "a b"
        assert make_search("modified_beam_search", *spelled_model(6))(*utterance)[0].tokens == [3, 5]
        assert make_search("modified_beam_search", *spelled_model(6), lms=lms)(*utterance)[0].tokens == [3, 4]


def test_a_language_model_over_other_tokens_is_refused(arpa):
    search = make_search("modified_beam_search", *toy_model(7), lms=[(NgramLm.from_arpa(arpa, TOKENS), 0.5)])
    with pytest.raises(UsageError, match="over 6 tokens does not fit a model of 7"):
        search(*toy_batch(2, 5))


def test_fusion_in_chunks_gives_the_same_as_at_once(arpa):
    model = toy_model(6)
    encoder_out, lengths = toy_batch(6, 21)
    lms = [(NgramLm.from_arpa(arpa, TOKENS), 0.6), (neural_lm(6), 0.9)]
    search = make_search("modified_beam_search", *model, lms=lms)
    state = search.start(6)
    for start in range(0, 21, 5):
        search.feed(state, encoder_out[:, start : start + 5], (lengths - start).clamp(0, min(5, 21 - start)))
    for one, other in zip(search.result(state), search(encoder_out, lengths)):
        assert (one.tokens, one.best.frames) == (other.tokens, other.best.frames)
