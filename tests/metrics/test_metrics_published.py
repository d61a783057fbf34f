"""Released popularity groups, group masses and the popularity floor, on the real data."""

import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rlrecbench.data.prepare import DataOptions, prepare
from rlrecbench.metrics import Lists, Reference, evaluate, standard

SharedData = Callable[[str], Path]
MASS = {  # Source: constants in Flower's calc.py
    "cds_and_vinyl": [0.429191, 0.170719, 0.118092, 0.090899, 0.071239, 0.056427, 0.041347, 0.022087],
    "video_games": [0.480978, 0.172522, 0.109910, 0.079473, 0.061128, 0.046734, 0.033189, 0.016066],
    "movies_and_tv": [0.392671, 0.179736, 0.127475, 0.097638, 0.078133, 0.060719, 0.043097, 0.020532],
}
FLOOR = {  # Source: counted on the released files
    "beauty": {"recall@5": 0.0072, "ndcg@5": 0.0040, "recall@10": 0.0114, "ndcg@10": 0.0053},
    "yelp": {"recall@5": 0.0058, "ndcg@5": 0.0038, "recall@10": 0.0100, "ndcg@10": 0.0051},
}


@pytest.mark.parametrize(("name", "titles"), [("cds_and_vinyl", 5364), ("video_games", 3751)])
def test_groups_equal_the_released_ones(name: str, titles: int, shared_data: SharedData) -> None:
    folder = shared_data(name)
    reference = Reference.of(prepare(name, DataOptions(), [folder]))
    with gzip.open(folder / name / f"{name}.groups8.json.gz") as file:
        released = json.load(file)
    group = {t: int(g) for g, members in released.items() for t in members}
    found = dict(zip(reference.titles, reference.group_of.tolist(), strict=True))
    assert len(group) == titles
    assert {t: found[t] for t in group} == group
    unseen = found.keys() - group.keys()
    assert {found[t] for t in unseen} == {7}
    assert reference.title_frequency[[reference.titles.index(t) for t in unseen]].sum() == 0


@pytest.mark.parametrize("name", MASS)
def test_group_masses(name: str, shared_data: SharedData) -> None:
    reference = Reference.of(prepare(name, DataOptions(), [shared_data(name)]))
    assert reference.group_share == pytest.approx(MASS[name], abs=6e-7)


@pytest.mark.parametrize("name", FLOOR)
def test_most_popular_gives_the_known_floor(name: str, shared_data: SharedData) -> None:
    data = prepare(name, DataOptions(), [shared_data(name)])
    top = np.argsort(-data.popularity, kind="stable")[:10]
    lists = Lists(np.tile(top, (len(data.test), 1)), data.test.target, Reference.of(data))
    assert evaluate(lists, list(FLOOR[name])).values == {
        metric: pytest.approx(value, abs=1e-4) for metric, value in FLOOR[name].items()
    }


def test_all_metrics_of_beautys_lists_take_well_under_a_second(shared_data: SharedData) -> None:
    data = prepare("beauty", DataOptions(), [shared_data("beauty")])
    ranked = np.random.default_rng(0).integers(0, data.n_items, (len(data.test), 10))
    beside = np.random.default_rng(1).random(ranked.shape)
    lists = Lists(ranked, data.test.target, Reference.of(data), probability=beside, collab=beside)
    start = time.process_time()
    evaluate(lists, standard([5, 10], "string", ("probability", "collab")))
    assert time.process_time() - start < 1.0
