"""Decoding methods for transducers; docs/transducer.md says which to take.

    search = make_search("modified_beam_search", predictor, joiner, beam=4)
    for result in search(encoder_out, lengths):
        print(result.best.tokens, result.best.frames, result.best.score)
"""

from __future__ import annotations

import logging
from dataclasses import fields
from typing import Any

from icefall_ext.errors import UsageError
from icefall_ext.transducer.joiner import Joiner
from icefall_ext.transducer.k2_here import why_no_k2
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
log = logging.getLogger(__name__)


def choose_backend(method: str, backend: str, graph: Any = None) -> str:
    """torch or k2. Only fast_beam_search has k2, and `auto` takes it there where it imports."""
    if method not in METHODS or backend not in BACKENDS:
        raise UsageError(f"decoding method {method!r} with backend {backend!r}: methods are {', '.join(METHODS)}, "
                         f"backends {', '.join(BACKENDS)}")
    if method != "fast_beam_search":
        if backend == "k2":
            raise UsageError(f"{method} has no k2 backend; take backend torch, or fast_beam_search")
        return "torch"
    if backend == "auto":
        missing = None if graph is not None else why_no_k2()  # a graph needs k2, which will say what it lacks
        backend = "torch" if missing else "k2"
        log.info("fast beam search: %s backend (%s)", backend, missing or "k2 imports")
    return backend


def make_search(
    method: str, predictor: Stepper, joiner: Joiner, backend: str = "auto", **options: Any
) -> TransducerSearch:
    """The search of that name; its options are its dataclass fields, and None stands for the default.

    Both backends of fast_beam_search give the same readings, and torch is the faster; `auto` takes the reference, k2,
    where it imports. A decoding `graph` needs k2.
    """
    kind, backend = METHODS.get(method), choose_backend(method, backend, options.get("graph"))
    if backend == "k2":
        kind = K2FastBeamSearch
    elif kind is ModifiedBeamSearch and options.get("hotwords") is not None:
        kind = HotwordBeamSearch
    known = {field.name for field in fields(kind)} - {"predictor", "joiner"}
    options = {name: value for name, value in options.items() if value is not None}
    if unknown := sorted(options.keys() - known):
        raise UsageError(f"{method} ({backend}) has no option {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    return kind(predictor, joiner, **options)
