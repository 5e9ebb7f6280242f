"""Decoding methods for transducers; docs/transducer.md says which to take.

    search = make_search("modified_beam_search", predictor, joiner, beam=4)
    for result in search(encoder_out, lengths):
        print(result.best.tokens, result.best.frames, result.best.score)
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from icefall_ext.errors import UsageError
from icefall_ext.transducer.joiner import Joiner
from icefall_ext.transducer.predictor import Stepper
from icefall_ext.transducer.search.base import TransducerSearch
from icefall_ext.transducer.search.fast_beam import FastBeamSearch
from icefall_ext.transducer.search.greedy import GreedySearch
from icefall_ext.transducer.search.hotword_beam import HotwordBeamSearch
from icefall_ext.transducer.search.hotwords import HotwordGraph
from icefall_ext.transducer.search.k2_fast_beam import K2FastBeamSearch
from icefall_ext.transducer.search.lm import NeuralLm, NgramLm
from icefall_ext.transducer.search.modified_beam import ModifiedBeamSearch
from icefall_ext.transducer.search.types import Hypothesis, Result

__all__ = ["METHODS", "HotwordGraph", "Hypothesis", "NeuralLm", "NgramLm", "Result", "TransducerSearch", "make_search"]

METHODS = {  # by icefall's names
    "greedy_search": GreedySearch,
    "modified_beam_search": ModifiedBeamSearch,
    "fast_beam_search": FastBeamSearch,
}
BACKENDS = ("auto", "torch", "k2")


def make_search(
    method: str, predictor: Stepper, joiner: Joiner, backend: str = "auto", **options: Any
) -> TransducerSearch:
    """The search of that name; its options are its dataclass fields, and None stands for the default.

    Only fast_beam_search has a k2 backend. `auto` takes torch, which gives the same readings faster, except where there
    is a decoding `graph`, which needs k2.
    """
    if method not in METHODS or backend not in BACKENDS:
        raise UsageError(f"decoding method {method!r} with backend {backend!r}: methods are {', '.join(METHODS)}, "
                         f"backends {', '.join(BACKENDS)}")
    if backend == "k2" and method != "fast_beam_search":
        raise UsageError(f"{method} has no k2 backend; take backend torch, or fast_beam_search")
    kind = METHODS[method]
    if backend == "k2" or (kind is FastBeamSearch and backend == "auto" and options.get("graph") is not None):
        kind = K2FastBeamSearch
    elif kind is ModifiedBeamSearch and options.get("hotwords") is not None:
        kind = HotwordBeamSearch
    known = {field.name for field in fields(kind)} - {"predictor", "joiner"}
    options = {name: value for name, value in options.items() if value is not None}
    if unknown := sorted(options.keys() - known):
        raise UsageError(f"{method} ({backend}) has no option {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    return kind(predictor, joiner, **options)
