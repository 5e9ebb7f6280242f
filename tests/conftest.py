"""One suite for both lanes: tests marked `k2` run where k2 must be, and are left out by name where it need not be; so
are those marked `slurm`."""

import os

import pytest

from tests.slurm import missing

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: threads only get in the way of tensors this small


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The k2 lane (LANE=k2, set by tests/run.sh) runs the tests marked k2, and they fail if k2 does not load; so it is
    with REQUIRE_SLURM=1 (set by .ci/run) and Slurm."""
    marks = []
    if any(item.get_closest_marker("k2") for item in items) and os.environ.get("LANE") != "k2" and not _k2_loads():
        marks.append("k2")
    if os.environ.get("REQUIRE_SLURM") != "1" and missing():
        marks.append("slurm")
    if os.environ.get("LANE") == "k2":
        marks.append("kills")
    left_out = [item for item in items if any(item.get_closest_marker(mark) for mark in marks)]
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


def _k2_loads() -> bool:
    try:
        import k2  # noqa: F401
    except Exception:
        return False
    return True
