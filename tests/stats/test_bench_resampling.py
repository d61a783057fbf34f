"""The benchmarks of metrics and resampling, in a world small enough for a test run."""

from math import log2

import pytest

from rlrecbench import bench
from rlrecbench.bench import resampling


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"USERS": 1500, "ITEMS": 400, "VOCABULARY": 300, "RESAMPLES": 200, "LOOPED": 5}.items():
        monkeypatch.setattr(resampling, name, value)


@pytest.mark.parametrize("name", ["metrics", "bootstrap"])
def test_record(name: str) -> None:
    """Both ways agree, and the loop takes longer in this small world too."""
    line = bench.benchmarks()[name](1)
    assert line.name == name
    assert line.equal is True
    assert line.ratio == line.reference_s / line.ours_s
    assert line.ratio > 1


def test_loops_that_differ_are_said_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "log2", lambda x: 1.001 * log2(x))
    assert resampling.metrics(1).equal is False
