"""From a data set and settings to identifiers."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlrecbench.config import build
from rlrecbench.data.frame import Dataset, Examples
from rlrecbench.data.prepare import DataOptions, prepare
from rlrecbench.errors import ConfigError, DataError
from rlrecbench.identifiers import IdSettings, identify
from rlrecbench.store import silent


def dataset(texts: list[str]) -> Dataset:
    """A data set with the given item texts and item ids i0, i1, ..."""
    ids = [f"i{n}" for n in range(len(texts))]
    none = Examples.make([], [], [])
    items = pd.DataFrame({"item_id": ids, "title": ids, "text": texts})
    return Dataset("toy", "leave-one-out", items, np.array([], str), none, none, none, {}, "")


def test_films_get_unique_identifiers_of_four_codes() -> None:
    data = prepare("ml-100k", DataOptions(), [])
    ids = identify(data, IdSettings(), 42, [], silent)
    report = ids.report()
    assert ids.codes.shape == (1682, 4)
    assert (report["unique"], ids.content) == (1682, 3)
    assert report["used"][:3] == [256] * 3
    assert min(report["perplexity"][:3]) > 150  # of 256; no level collapses
    same = data.items["text"].duplicated(keep=False).to_numpy()
    assert same.any()
    for _, group in data.items[same].groupby("text"):
        assert len(np.unique(ids.codes[group.index, :3], axis=0)) == 1


def test_same_seed_gives_the_same_identifiers() -> None:
    data = dataset([f"word{i % 7} word{i % 11}" for i in range(100)])
    settings = IdSettings(levels=2, codes=4, dim=8)
    first, second = (identify(data, settings, 1, [], silent).codes for _ in range(2))
    assert (first == second).all()


def test_without_the_collision_code_items_share_leaves() -> None:
    data = dataset(["tea", "tea", "coffee"])
    ids = identify(data, IdSettings(levels=2, dedup=False), 1, [], silent)
    assert ids.codes.shape == (3, 2)
    assert (ids.codes[0] == ids.codes[1]).all()
    assert ids.report()["colliding"] == 2


def test_released_codes_stay_as_released(tmp_path: Path) -> None:
    (tmp_path / "toy").mkdir()
    index = {"i1": ["<a_0>", "<b_1>"], "i0": ["<a_0>", "<b_1>"]}
    (tmp_path / "toy" / "toy.letter_index.json").write_text(json.dumps(index))
    settings = build(IdSettings, {"kind": "released", "codes": 2}, "ids")
    ids = identify(dataset(["", ""]), settings, 1, [tmp_path / "elsewhere", tmp_path], silent)
    assert ids.codes.tolist() == [[0, 1], [0, 1]]


def test_items_without_text_are_an_error_that_names_the_way_out() -> None:
    with pytest.raises(DataError, match=r"toy: no item has any text.*kind: released"):
        identify(dataset(["", " "]), IdSettings(), 1, [], silent)


def test_misspelt_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"ids: level: unknown setting; did you mean 'levels'"):
        build(IdSettings, {"level": 4}, "ids")


def test_beauty_has_the_published_catalogue(shared_data: Callable[[str], Path]) -> None:
    folder = shared_data("beauty")
    data = prepare("beauty", DataOptions(), [folder])
    ids = identify(data, IdSettings(kind="released"), 1, [folder], silent)
    assert ids.report()["unique"] == 12_088


@pytest.mark.slow
def test_beauty_identifiers_from_text(shared_data: Callable[[str], Path]) -> None:
    folder = shared_data("beauty")
    report = identify(prepare("beauty", DataOptions(), [folder]), IdSettings(), 42, [folder], silent).report()
    assert report["unique"] == 12_101
    assert report["prefixes"][2] > 8_500  # distinct before the collision code
    assert report["sizes"][3] < 40
