"""Fronts, costs and shares of popularity groups: what the page and the figures count alike."""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlrecbench import report, results
from rlrecbench.report.fronts import Point, front, measured, quality, with_start
from rlrecbench.report.shares import group_shares
from rlrecbench.stats import Direction

Cell = Callable[..., Path]
Suite = Callable[..., None]


def test_front_by_hand() -> None:
    # Higher y and lower x is better: c is beaten by a, d equals b, e has no value, f is not finite.
    points: list[Point | None] = [(0.2, 0.5), (0.4, 0.9), (0.3, 0.4), (0.4, 0.9), None, (0.9, 0.9), (0.1, np.inf)]
    assert front(points, ("lower", "higher")) == [0, 1, 3]
    assert front(points, ("higher", "higher")) == [5]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12),
    st.sampled_from(list(product(("higher", "lower"), repeat=2))),
)
def test_front_against_the_definition(points: list[tuple[int, int]], better: tuple[Direction, Direction]) -> None:
    def beats(a: tuple[int, int], b: tuple[int, int]) -> bool:
        gains = [(p - q) * (1 if way == "higher" else -1) for p, q, way in zip(a, b, better, strict=True)]
        return min(gains) >= 0 and max(gains) > 0

    expected = {i for i, p in enumerate(points) if not any(beats(q, p) for q in points)}
    found = front([(float(x), float(y)) for x, y in points], better)
    assert set(found) == expected
    assert len(found) == len(expected)
    assert [points[i][0] for i in found] == sorted(points[i][0] for i in found)


def test_training_with_its_start(tmp_path: Path, suite: Suite, cell: Cell) -> None:
    """100 s after 50, 200 s after nothing; a seed without a time is left out: mean 175, deviation 25 sqrt 2."""
    suite(tmp_path)
    costs = ({"train_s": 100, "start_train_s": 50}, {"train_s": 200, "start_train_s": None}, {"train_s": None})
    for seed, cost in zip((42, 43, 44), costs, strict=True):
        cell(tmp_path, "beauty", "tiger", "sft", seed, cost=cost)
    records = results.load(tmp_path).records
    assert with_start(records) == pytest.approx((175, 25 * np.sqrt(2)))
    assert with_start(records[:1]) == (150, 0)
    assert with_start(records[2:]) is None
    assert with_start([]) is None


def test_measured_and_quality(tmp_path: Path, suite: Suite, cell: Cell) -> None:
    suite(tmp_path)
    cell(tmp_path, "beauty", "tiger", "sft", 42, metrics={"ndcg@10": 0.5, "recall@10": None, "dgu@10": 0.25})
    found = results.load(tmp_path)
    table = report.build(found)
    row = table.blocks[0].rows[0]
    value = measured(row, "ndcg@10")
    assert value is not None
    assert value.mean == 0.5
    assert measured(row, "recall@10") is None
    assert measured(row, "mrr@10") is None
    assert quality(table).metric == "ndcg@10"
    assert quality(report.build(found, ["dgu@10", "recall@10"])).metric == "dgu@10"


def test_shares_are_of_the_first_places(complete: Path) -> None:
    """Counted by hand from the files, for two depths."""
    found = results.load(complete)
    record = found.records[0]
    items = pd.read_parquet(complete / "data" / record.dataset / "items.parquet").set_index("item_id")
    ranked = pd.read_parquet(record.path / "ranked.parquet")
    for k in (1, 10):
        group = items.loc[ranked.loc[ranked["rank"] <= k, "item_id"], "group"].to_numpy()
        expected = [(group == g).mean() for g in range(8)]
        assert group_shares(found, record, k) == pytest.approx(np.array(expected))
    a, b = group_shares(found, record, 1), group_shares(found, record, 10)
    assert a is not None
    assert b is not None
    assert np.abs(a - b).max() > 0.01


def test_what_recommends_nothing_has_no_shares(complete: Path) -> None:
    found = results.load(complete)
    fitted, empty, unknown = found.records[0], found.records[1], found.records[-1]
    (fitted.path / "titles.parquet").write_bytes(b"")
    assert group_shares(found, fitted, 10) is None
    ranked = pd.read_parquet(empty.path / "ranked.parquet")
    ranked.assign(item_id="").to_parquet(empty.path / "ranked.parquet", index=False)
    assert group_shares(found, empty, 10) is None
    (complete / "data" / unknown.dataset / "items.parquet").unlink()
    assert group_shares(results.load(complete), unknown, 10) is None
