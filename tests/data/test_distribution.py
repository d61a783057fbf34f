"""A distribution to fit: which titles, how often they are drawn, and that it is a data set like the others."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from rlrecbench.config import build
from rlrecbench.data.datasets import DatasetSpec, datasets
from rlrecbench.data.distribution import draw
from rlrecbench.data.frame import PARTS, Dataset, Examples
from rlrecbench.data.prepare import DataOptions, prepare
from rlrecbench.errors import ConfigError, DataError
from rlrecbench.metrics import Reference
from rlrecbench.train.budget import Budget, by_length, epoch_batches

EXAMPLES = "user_id:token\titem_id_list:token_seq\titem_id:token\n"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Write released examples: histories c b | c a b d | e, items a and d of one title, f in no history."""

    @datasets.register("toy")
    def toy() -> DatasetSpec:
        return DatasetSpec("toy", "Toy", "examples", 4)

    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "toy.train.inter").write_text(EXAMPLES + "u\tc b\ta\nu\tc a b d\tf\nv\te\tb\n")
    (folder / "toy.valid.inter").write_text(EXAMPLES + "w\tf\ta\n")
    (folder / "toy.test.inter").write_text(EXAMPLES + "v\te\tf\n")
    titles = "f\tF\ne\tE\nd\tA\nc\tC\nb\tB\na\tA\n"
    (folder / "toy.item").write_text("item_id:token\ttitle:token_seq\n" + titles)
    yield tmp_path
    datasets._entries.pop("toy", None)


def test_the_most_frequent_titles_by_hand(folder: Path) -> None:
    """C, B and A twice each, A under two ids of which d is the first; C is named first, then B, then A. E once."""
    data = prepare("toy", DataOptions(titles=4), [folder])
    assert data.items["title"].tolist() == ["C", "B", "A", "E"]
    assert data.items["item_id"].tolist() == ["c", "b", "d", "e"]
    assert data.frequency.tolist() == data.popularity.tolist() == [2, 2, 2, 1]
    assert prepare("toy", DataOptions(titles=2), [folder]).items["title"].tolist() == ["C", "B"]


def test_what_histories_count_follows_the_other_options(folder: Path) -> None:
    """Of each history the newest item only: b, d, e."""
    data = prepare("toy", DataOptions(max_history=1, titles=3), [folder])
    assert data.items["item_id"].tolist() == ["b", "d", "e"]
    assert data.frequency.tolist() == [1, 1, 1]
    assert data.settings == {"max_history": 1, "last": None, "titles": 3, "rows": 6400}


def test_sizes_and_empty_histories(folder: Path) -> None:
    data = prepare("toy", DataOptions(titles=3, rows=50), [folder])
    assert data.protocol == "distribution"
    assert [len(data.part(p)) for p in PARTS] == [50, 2, 60]
    for name in PARTS:
        part = data.part(name)
        assert not len(part.values)
        assert part.lengths.tolist() == [0] * len(part)
        assert set(part.target.tolist()) <= {0, 1, 2}
    assert len(prepare("toy", DataOptions(titles=3, rows=1), [folder]).valid) == 1
    assert data.test_ids()[[0, 59]].tolist() == ["0", "59"]


def test_draws_are_fixed_and_parts_are_drawn_apart(folder: Path) -> None:
    first, again = (prepare("toy", DataOptions(titles=4), [folder]) for _ in range(2))
    assert all(np.array_equal(first.part(p).target, again.part(p).target) for p in PARTS)
    shorter = prepare("toy", DataOptions(titles=4, rows=100), [folder])
    assert np.array_equal(shorter.train.target, first.train.target[:100])  # more rows begin with the same ones
    assert not np.array_equal(first.train.target[:80], first.test.target)


def test_draws_are_in_proportion_to_the_weights() -> None:
    weight = np.array([500, 300, 0, 150, 50])
    found = np.bincount(draw(weight, 20_000, "x"), minlength=5)
    assert found[2] == 0
    there = weight > 0
    assert chisquare(found[there], 20 * weight[there]).pvalue > 1e-3


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any))
def test_every_title_with_weight_comes_up_and_no_other(weight: list[int]) -> None:
    assert set(draw(np.array(weight), 2000, "x").tolist()) == {i for i, w in enumerate(weight) if w}


def test_too_few_titles_and_wrong_options_are_refused(folder: Path) -> None:
    message = "data set toy: 'titles' asks for 5 titles, but the training histories hold 4; lower it"
    with pytest.raises(DataError, match=message):
        prepare("toy", DataOptions(titles=5), [folder])
    with pytest.raises(ConfigError, match="titles is 1, a distribution needs at least 2"):
        build(DataOptions, {"titles": 1}, "x")
    with pytest.raises(ConfigError, match="rows is 10, but only a distribution has rows to draw; give 'titles' too"):
        build(DataOptions, {"rows": 10}, "x")
    with pytest.raises(ConfigError, match="rows is -1, it must be at least 1"):
        DataOptions(titles=2, rows=-1)


def test_what_is_written_is_read(folder: Path, tmp_path: Path) -> None:
    data = prepare("toy", DataOptions(titles=4, rows=30), [folder])
    data.write(tmp_path)
    back = Dataset.read(tmp_path)
    assert back.items.equals(data.items)
    assert back.frequency.tolist() == [2, 2, 2, 1]
    for name in PARTS:
        assert back.part(name).target.tolist() == data.part(name).target.tolist()
        assert back.part(name).offsets.tolist() == data.part(name).offsets.tolist()


def test_rows_without_history_are_padded_cut_and_batched() -> None:
    part = Examples(np.zeros(5, np.int64), np.zeros(6, np.int64), np.zeros(0, np.int64), np.arange(5))
    assert part.padded(np.array([4, 0])).tolist() == [[-1], [-1]]
    assert part.padded(np.zeros(0, np.int64)).shape == (0, 1)
    assert len(part.head(2)) == 2
    assert np.concatenate(by_length(part, np.arange(5), 2)).tolist() == [0, 1, 2, 3, 4]
    assert sorted(np.concatenate(epoch_batches(part, Budget(batch_size=2), 1, 0)).tolist()) == [0, 1, 2, 3, 4]


def test_metrics_see_the_weights(folder: Path) -> None:
    reference = Reference.of(prepare("toy", DataOptions(titles=4), [folder]))
    assert reference.titles == ["C", "B", "A", "E"]
    assert reference.title_frequency.tolist() == reference.item_frequency.tolist() == [2, 2, 2, 1]


def test_movies_and_tv(shared_data: Callable[[str], Path]) -> None:
    """Counts from the released rows, one by one: 2,571 titles, 106,178 occurrences, at most 788 (methods 1.8, 1.10)."""
    dirs = [shared_data("movies_and_tv")]
    plain, data = (prepare("movies_and_tv", DataOptions(titles=n), dirs) for n in (None, 2571))
    titles: dict[Any, int] = {}
    for item in plain.train.values.tolist():
        title = plain.items["title"][item]
        titles[title] = titles.get(title, 0) + 1
    assert dict(zip(data.items["title"], data.frequency.tolist(), strict=True)) == titles
    assert (len(titles), sum(titles.values()), max(titles.values())) == (2571, 106_178, 788)
    with pytest.raises(DataError, match="asks for 2572 titles, but the training histories hold 2571"):
        prepare("movies_and_tv", DataOptions(titles=2572), dirs)
