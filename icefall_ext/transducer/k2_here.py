"""Whether k2 imports here: a binary built for another torch fails in many ways, and only at the attempt."""

from __future__ import annotations

import functools
import importlib
import importlib.util


@functools.lru_cache
def why_no_k2() -> str | None:
    """What stands between this Python and k2; None if it imports."""
    if importlib.util.find_spec("k2") is None:
        return "k2 is not installed"
    try:
        importlib.import_module("k2")
    except Exception as error:
        return f"k2 does not load ({type(error).__name__}: {error})"
    return None
