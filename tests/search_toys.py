"""Small transducers and slow, obvious decoders to hold the searches against."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import torch
from torch import Tensor

from icefall_ext.transducer.joiner import Joiner
from icefall_ext.transducer.predictor import LstmPredictor, StatelessPredictor

DIM = 16


def toy_model(vocab_size: int, peaky: float = 3.0, blank: float = 1.0, context_size: int | None = 2, seed: int = 0):
    """Predictor and joiner; a larger `peaky` makes surer predictions, a larger `blank` fewer tokens."""
    torch.manual_seed(seed)
    if context_size is None:
        predictor = LstmPredictor(vocab_size, DIM)
    else:
        predictor = StatelessPredictor(vocab_size, DIM, context_size)
    joiner = Joiner(DIM, DIM, DIM, vocab_size)
    with torch.no_grad():
        joiner.encoder_proj.weight.mul_(4)
        joiner.decoder_proj.weight.mul_(8 if context_size else 30)
        joiner.output_linear.weight.mul_(peaky)
        joiner.output_linear.bias[0] += blank
    return predictor.eval(), joiner.eval()


def toy_batch(batch: int, frames: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    encoder_out = torch.randn(batch, frames, DIM, generator=generator) * 2
    lengths = torch.randint(0, frames + 1, (batch,), generator=generator)
    lengths[0] = frames
    return encoder_out, lengths


class Scores:
    """log p(. | frame, tokens so far) of one utterance, computed from scratch each time."""

    def __init__(self, predictor, joiner, encoder_out: Tensor, lms=()):
        self.predictor, self.joiner, self.frames, self.lms = predictor, joiner, encoder_out, lms
        self._known: dict = {}

    @torch.no_grad()
    def __call__(self, frame: int, tokens: tuple[int, ...]) -> list[float]:
        if (frame, tokens) not in self._known:
            output = self.predictor(torch.tensor([[0, *tokens]]))[:, -1]
            log_probs = self.joiner(self.frames[frame : frame + 1], output)[0].log_softmax(-1)
            for lm, scale in self.lms:
                values, state = lm.start(1)
                for token in tokens:
                    values, state = lm.step(torch.tensor([token]), state)
                log_probs[1:] += scale * values[0, 1:]
            self._known[frame, tokens] = log_probs.tolist()
        return self._known[frame, tokens]


def all_alignments(scores: Scores, frames: int, vocab_size: int):
    """Every way to take blank or one token per frame: its tokens, their frames, its score."""
    for path in itertools.product(range(vocab_size), repeat=frames):
        tokens, places, score = (), [], 0.0
        for frame, token in enumerate(path):
            score += scores(frame, tokens)[token]
            if token:
                tokens += (token,)
                places.append(frame)
        yield tokens, places, score


def log_add(*values: float) -> float:
    top = max(values)
    return top if top == -math.inf else top + math.log(sum(math.exp(v - top) for v in values))


def slow_greedy(scores: Scores, frames: int, max_symbols: int):
    tokens, places, score = (), [], 0.0
    for frame in range(frames):
        for said in range(max_symbols + 1):
            if said == max_symbols:
                break
            log_probs = scores(frame, tokens)
            token = max(range(len(log_probs)), key=log_probs.__getitem__)
            score += log_probs[token]
            if token == 0:
                break
            tokens += (token,)
            places.append(frame)
    return list(tokens), places, score


def slow_modified_beam(scores: Scores, frames: int, beam: int) -> list[tuple[list[int], list[int], float]]:
    hypotheses = {(): (0.0, [])}
    for frame in range(frames):
        arriving = defaultdict(list)
        for tokens, (score, places) in hypotheses.items():
            for token, log_prob in enumerate(scores(frame, tokens)):
                after = (*tokens, token) if token else tokens
                arriving[after].append((score + log_prob, [*places, frame] if token else places))
        reached = {tokens: (log_add(*(score for score, _ in ways)), max(ways)[1]) for tokens, ways in arriving.items()}
        hypotheses = dict(sorted(reached.items(), key=lambda item: -item[1][0])[:beam])
    ranked = sorted(hypotheses.items(), key=lambda item: -item[1][0])
    return [(list(tokens), places, score) for tokens, (score, places) in ranked]


def slow_fast_beam(scores: Scores, frames: int, context_size: int, beam: float, max_contexts: int, max_states: int,
                   allow_partial: bool) -> tuple[list[int], float]:
    """k2's rules in words: states (context, graph state), the graph having state 0 and a final state."""
    if not frames:
        return [], 0.0
    states = {((0,) * context_size, "0"): (0.0, ())}
    for frame in range(frames):
        best = max(score for score, _ in states.values())
        arcs = []  # source, destination, score after it, tokens after it, whether it is a final arc
        for (context, graph), (score, tokens) in states.items():
            log_probs = scores(frame, tokens)
            arcs.append(((context, graph), (context, graph), score + log_probs[0], tokens, False))
            if graph == "0":
                for token in range(1, len(log_probs)):
                    if score + log_probs[token] >= best - beam:
                        to = ((*context[1:], token), "0")
                        arcs.append(((context, graph), to, score + log_probs[token], (*tokens, token), False))
                arcs.append(((context, graph), (context, "final"), score + log_probs[0], tokens, True))
        reached: dict = {}
        for _, to, score, tokens, _ in arcs:
            if to not in reached or score > reached[to][0]:
                reached[to] = score, tokens
        top = max(score for score, _ in reached.values())
        kept = sorted((to for to in reached if reached[to][0] >= top - beam), key=lambda to: (-reached[to][0], to[1]))
        kept = kept[:max_states]
        contexts = list(dict.fromkeys(context for context, _ in kept))[:max_contexts]
        kept = {to for to in kept if to[0] in contexts}
        if frame == frames - 1:
            ends = [source for source, to, _, _, final in arcs if final and to in kept]
            if not ends and allow_partial:
                ends = [source for source, to, _, _, _ in arcs if to in kept]
            if not ends:
                return [], -math.inf
            score, tokens = max((states[source] for source in ends), key=lambda state: state[0])
            return list(tokens), score
        states = {to: reached[to] for to in kept}


class _FramesAreLogits(Joiner):
    def forward(self, am: Tensor, lm: Tensor, project_input: bool = True) -> Tensor:
        return am + 0.0 * lm


def spelled_model(vocab_size: int):
    """A model whose encoder frames are the logits, whatever was said before."""
    predictor = StatelessPredictor(vocab_size, 4)
    joiner = _FramesAreLogits(vocab_size, 4, vocab_size, vocab_size)
    with torch.no_grad():
        joiner.encoder_proj.weight.copy_(torch.eye(vocab_size))
        joiner.encoder_proj.bias.zero_()
    return predictor, joiner


def speak(tokens: list[int], vocab_size: int, sure: float = 5.0, nearly: dict[int, int] | None = None, seed: int = 0):
    """Logits of one noisy utterance, and its length: blank, a token and blank for each of `tokens`; `nearly` names
    others that are nearly as probable as those."""
    torch.manual_seed(seed)
    logits = torch.randn(1, 3 * len(tokens), vocab_size)
    logits[:, :, 0] += sure
    for n, token in enumerate(tokens):
        logits[0, 3 * n + 1, 0] -= sure
        logits[0, 3 * n + 1, token] += sure
        if nearly and token in nearly:
            logits[0, 3 * n + 1, nearly[token]] = logits[0, 3 * n + 1, token] - 1.0
    return logits, torch.tensor([3 * len(tokens)])
