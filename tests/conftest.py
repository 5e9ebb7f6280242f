"""One suite for both lanes: tests marked `k2` run where k2 must be, and are left out by name where it need not be."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: threads only get in the way of tensors this small


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The k2 lane (LANE=k2, set by tests/run.sh) runs the marked tests, and they fail if k2 does not load."""
    if os.environ.get("LANE") == "k2" or _k2_loads():
        return
    left_out = [item for item in items if item.get_closest_marker("k2")]
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


def _k2_loads() -> bool:
    try:
        import k2  # noqa: F401
    except Exception:
        return False
    return True
