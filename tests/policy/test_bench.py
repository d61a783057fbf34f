"""The benchmark's record, on a model small enough to run in seconds."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rlrecbench import bench
from rlrecbench.errors import ConfigError
from rlrecbench.policy.t5 import PRESETS


def test_search_record(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A real run, tiny model, eight users: ours equals generate and the ratios are those of the seconds."""
    monkeypatch.setattr(bench, "USERS", 8)
    monkeypatch.setattr(bench, "PRESETS", {"paper": PRESETS["tiny"]})
    record = json.loads(json.dumps(bench.run("search/", tmp_path, repeats=1)))
    (line,) = record["benchmarks"]
    assert line["name"] == "search/t5"
    assert line["equal"] is True
    assert line["repeats"] == 1
    assert line["ratio"] == line["ratio_min"] == line["ratio_max"] == line["reference_s"] / line["ours_s"]
    assert record["machine"]["cores"] >= 1
    assert set(record["machine"]["matmul_gflops"]) == {"float32", "bfloat16"}


def test_median_and_extremes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clock readings by hand: ours 1, 2, 1 s, theirs 3, 4, 10 s; ratios 3, 2, 10."""
    ticks = iter([0, 1, 0, 3, 0, 2, 0, 4, 0, 1, 0, 10])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    line = bench.compare("x", "y", lambda: None, lambda: None, True, 3)
    assert (line.ours_s, line.reference_s) == (1, 4)
    assert (line.ratio, line.ratio_min, line.ratio_max) == (3, 2, 10)


def test_released_index_is_read(shared_data: Callable[[str], Path]) -> None:
    """Item 0 is (183, 70, 232, 6) in the released file."""
    index = bench._index(shared_data("beauty"), np.random.default_rng(0))
    assert index.shape == (12_101, 4)
    assert index[0].tolist() == [1 + 183, 1 + 256 + 70, 1 + 512 + 232, 1 + 768 + 6]


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match="no benchmark's name begins with 'serach'; there are: search/t5"):
        bench.run("serach")
