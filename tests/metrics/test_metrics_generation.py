"""GFlowGR's diversity analysis: generation probabilities and collaborative scores, by hand and end to end."""

import json
from collections.abc import Callable
from math import exp, log, sqrt
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy
from scipy.stats import norm, zscore

from rlrecbench import identifiers, report, results, stages
from rlrecbench import suite as suites
from rlrecbench.collab import Collab
from rlrecbench.data.frame import Dataset
from rlrecbench.execute.export import export
from rlrecbench.metrics import Lists, Reference, evaluate, metrics, standard
from rlrecbench.metrics.generation import normal_masses
from rlrecbench.metrics.reference import Floats
from rlrecbench.report import words
from rlrecbench.report.table import Value
from rlrecbench.store import Store, closure

A, B, C, D = range(4)
MakeDataset = Callable[..., Dataset]
GENERATION = ["kl-normal", "kl-normal-rank", "generation-std"]
COLLAB = ["collab-mean", "collab-std", "collab-range", "collab-user-range"]
JUNK = 99.0  # beside a place that holds no item


def reference_of(frequency: list[int]) -> Reference:
    n = len(frequency)
    return Reference([f"t{i}" for i in range(n)], np.arange(n), np.array(frequency), np.zeros(n, np.int64))


def lists_of(ranked: list[list[int]], frequency: list[int], **beside: list[list[float]]) -> Lists:
    arrays: dict[str, Any] = {name: np.array(values) for name, values in beside.items()}
    return Lists(np.array(ranked), np.zeros(len(ranked), np.int64), reference_of(frequency), **arrays)


def spread_over(p: Floats, frequency: list[int] | None = None) -> Lists:
    """One user whose list is the whole catalogue, [1, N]."""
    return lists_of([list(range(len(p)))], frequency or list(range(len(p))), probability=[p.tolist()])


def value(lists: Lists, name: str) -> float:
    return evaluate(lists, [name]).values[name]


@pytest.fixture
def table() -> Lists:
    """Top 2 of three users: A 1/2, B 1/4 | A 1/4, C 1/8 | B 1/8, nothing; training frequencies 4 2 2 0.

    a = 3/4, 3/8, 1/8, 0 of 5/4, so p = .6, .3, .1, 0.
    """
    ranked = [[A, B, 7], [A, C, -1], [B, -1, -1]]
    probability = [[1 / 2, 1 / 4, JUNK], [1 / 4, 1 / 8, JUNK], [1 / 8, JUNK, JUNK]]
    collab = [[0.9, 0.4, JUNK], [0.8, 0.6, -JUNK], [0.1, JUNK, -JUNK]]
    return lists_of(ranked, [4, 2, 2, 0], probability=probability, collab=collab)


def test_standard_deviation_of_the_generation_probability(table: Lists) -> None:
    """Around the mean 1/4: .35, .05, -.15, -.25. First places only: A 3/4, B 1/8, so p = 6/7, 1/7, 0, 0."""
    assert value(table, "generation-std@2") == pytest.approx(sqrt((0.1225 + 0.0025 + 0.0225 + 0.0625) / 4))
    first = [6 / 7 - 1 / 4, 1 / 7 - 1 / 4, -1 / 4, -1 / 4]
    assert value(table, "generation-std@1") == pytest.approx(sqrt(sum(x * x for x in first) / 4))


def test_divergence_from_a_normal_over_standardised_values(table: Lists) -> None:
    """Standardised by sqrt(.0525) = .2291: 1.527, .218, -.655, -1.091, each with a quarter in a bin of its own."""
    cdf = NormalDist().cdf
    bins = [(1.5, 1.6), (0.2, 0.3), (-0.7, -0.6), (-1.1, -1.0)]
    by_hand = sum(1 / 4 * log((1 / 4) / (cdf(b) - cdf(a))) for a, b in bins)
    assert value(table, "kl-normal@2") == pytest.approx(by_hand, abs=1e-6)
    assert value(table, "kl-normal@3") == pytest.approx(by_hand, abs=1e-6)  # place 3 holds no item


def test_divergence_from_a_normal_over_popularity_ranks(table: Lists) -> None:
    """D, B and C (a tie), A stand at -3, -1, 1, 3: densities e^-4.5, e^-.5, e^-.5, e^-4.5; D adds nothing."""
    low, high = exp(-4.5), exp(-0.5)
    total = 2 * (low + high)
    by_hand = 0.6 * log(0.6 * total / low) + 0.3 * log(0.3 * total / high) + 0.1 * log(0.1 * total / high)
    assert value(table, "kl-normal-rank@2") == pytest.approx(by_hand)


def test_items_of_equal_popularity_share_their_places() -> None:
    """Frequencies 5, 1, 5: item 1 stands at -3, items 0 and 2 at 0 and 3 with (1 + e^-4.5) / 2 each."""
    lists = lists_of([[2, 1]], [5, 1, 5], probability=[[0.25, 0.75]])
    low = exp(-4.5)
    total, shared = 2 * low + 1, (1 + low) / 2
    by_hand = 0.25 * log(0.25 * total / shared) + 0.75 * log(0.75 * total / low)
    assert value(lists, "kl-normal-rank@2") == pytest.approx(by_hand)


def test_collaborative_scores_of_what_is_recommended(table: Lists) -> None:
    """.9 .4 | .8 .6 | .1: mean 2.8 / 5 = .56; squares .1156 .0256 .0576 .0016 .2116; ranges .5, .2, 0."""
    names = [f"{name}@2" for name in COLLAB]
    result = evaluate(table, names)
    assert list(result.values.values()) == pytest.approx([0.56, sqrt(0.412 / 5), 0.8, 0.7 / 3])
    assert result.per_user["collab-user-range@2"] == pytest.approx([0.5, 0.2, 0])
    assert evaluate(table, [f"{name}@3" for name in COLLAB]).values.keys() == {f"{name}@3" for name in COLLAB}
    assert list(evaluate(table, [f"{name}@3" for name in COLLAB]).values.values()) == list(result.values.values())
    first = evaluate(table, [f"{name}@1" for name in COLLAB])  # .9 | .8 | .1
    assert list(first.values.values()) == pytest.approx([0.6, sqrt((0.09 + 0.04 + 0.25) / 3), 0.8, 0])


@pytest.mark.parametrize("seed", range(5))
def test_against_another_implementation(seed: int) -> None:
    """Searching the bin's edges, scipy's z-score, normal and relative entropy; some values lie beyond +-5."""
    rng = np.random.default_rng(seed)
    U, K, N = 40, 6, 300
    ranked = np.array([rng.choice(N, K, replace=False) for _ in range(U)])
    probability = rng.dirichlet(np.ones(K), U) ** 3
    frequency = rng.permutation(N)
    lists = Lists(ranked, ranked[:, 0], reference_of(frequency.tolist()), probability=probability)
    p = np.zeros(N)
    for u in range(U):
        for j in range(K):
            p[ranked[u, j]] += probability[u, j]
    p /= p.sum()
    z = zscore(p)
    assert (z > 5).any()
    edges = np.linspace(-5, 5, 101)
    counts = np.zeros(100)
    for x in z:
        counts[min(max(int(np.searchsorted(edges, x, side="right")) - 1, 0), 99)] += 1
    cdf = norm.cdf(edges)
    cdf[0], cdf[-1] = 0, 1
    assert value(lists, "kl-normal@6") == pytest.approx(scipy_entropy(counts / N + 1e-10, np.diff(cdf)), rel=1e-10)
    place = np.linspace(-3, 3, N)[frequency]  # frequencies are 0..N-1, so they are the ranks
    assert value(lists, "kl-normal-rank@6") == pytest.approx(scipy_entropy(p, norm.pdf(place)))
    assert value(lists, "generation-std@6") == pytest.approx(p.std())


def test_normal_masses_hold_all_of_it_and_the_tails_are_in_the_outer_bins() -> None:
    masses = normal_masses()
    assert masses.sum() == pytest.approx(1, abs=1e-15)
    assert masses == pytest.approx(masses[::-1], rel=1e-6)
    assert masses[0] == pytest.approx(float(norm.cdf(-4.9)), rel=1e-12)


def test_a_spread_that_is_normal_does_not_diverge() -> None:
    quantiles = norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    assert 0 <= value(spread_over(1 + 0.1 * quantiles), "kl-normal@20000") < 2e-3
    bell = norm.pdf(np.linspace(-3, 3, 50))
    assert value(spread_over(0.01 * bell), "kl-normal-rank@50") == pytest.approx(0, abs=1e-12)
    assert value(spread_over(0.01 * bell[::-1] + 0.001), "kl-normal-rank@50") > 1e-3


def test_equal_probabilities_have_no_spread() -> None:
    """KL of the uniform distribution to q is -mean ln(N q); .1 three times is .3 but for rounding."""
    lists = spread_over(np.full(7, 0.1))
    bell = norm.pdf(np.linspace(-3, 3, 7))
    assert value(lists, "generation-std@7") == pytest.approx(0, abs=1e-15)
    assert value(lists, "kl-normal-rank@7") == pytest.approx(-np.log(7 * bell / bell.sum()).mean())
    assert np.isnan(value(lists, "kl-normal@7"))
    rounded = lists_of([[0, 1], [0, -1], [0, -1]], [1, 1], probability=[[0.1, 0.3], [0.1, JUNK], [0.1, JUNK]])
    assert np.isnan(value(rounded, "kl-normal@2"))


def test_a_spread_of_a_ten_billionth_is_a_spread() -> None:
    """Half of a thousand items above the mean and half below: +-1 standard deviations, in the bins [1, 1.1) and -1."""
    lists = spread_over(1 + 1e-10 * np.where(np.arange(1000) % 2, 1.0, -1.0))
    assert 2.0 < value(lists, "kl-normal@1000") < 3.5


def test_more_of_the_mass_on_one_item_is_less_even() -> None:
    even, uneven = (spread_over(np.array([x, 0.1, 0.1, 0.1])) for x in (0.2, 0.7))
    assert value(even, "generation-std@4") < value(uneven, "generation-std@4")


PROBABILITIES = st.lists(st.integers(0, 1000), min_size=2, max_size=12).filter(any)


@given(PROBABILITIES, st.integers(-8, 0), st.randoms(use_true_random=False))
def test_neither_the_scale_nor_the_numbering_of_items_matters(counts: list[int], power: int, random: Any) -> None:
    """Halving is exact, so no value may cross a bin's edge; equal popularity is frequent here."""
    p = np.array(counts, float)
    n = len(p)
    frequency = [random.randrange(3) for _ in range(n)]
    order = list(range(n))
    random.shuffle(order)
    names = [f"{name}@{n}" for name in ("kl-normal-rank", "generation-std")]
    found = evaluate(spread_over(p, frequency), [*names, f"kl-normal@{n}"]).values
    scaled = evaluate(spread_over(p * 2.0**power, frequency), list(found)).values
    assert scaled == pytest.approx(found, nan_ok=True, rel=1e-12)
    renumbered = evaluate(spread_over(p[order], [frequency[i] for i in order]), names).values
    assert renumbered == pytest.approx({name: found[name] for name in names}, abs=1e-12)
    assert found[names[0]] > -1e-12


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=5))
def test_a_list_ranges_no_further_than_all_lists_together(scores: list[list[float]]) -> None:
    lists = lists_of([[0, 1, 2]] * len(scores), [1, 1, 1], collab=scores)
    found = evaluate(lists, [f"{name}@3" for name in COLLAB])
    mean, std, pooled, _ = found.values.values()
    assert (found.per_user["collab-user-range@3"] <= pooled).all()
    assert std <= pooled / 2 + 1e-12  # Popoviciu's inequality
    assert np.min(scores) - 1e-12 <= mean <= np.max(scores) + 1e-12


def test_undefined_without_what_a_metric_needs(table: Lists) -> None:
    bare = Lists(table.ranked, table.target, table.reference)
    names = [f"{name}@2" for name in GENERATION + COLLAB]
    result = evaluate(bare, [*names, "coverage@2"])
    assert np.isnan([result.values[name] for name in names]).all()
    assert np.isnan(result.per_user["collab-user-range@2"]).all()
    assert len(result.per_user["collab-user-range@2"]) == 3
    assert result.values["coverage@2"] == 3 / 4
    with pytest.raises(ValueError, match="the lists have no probability"):
        bare.beside("probability", 2)


def test_nothing_recommended_has_only_empty_ranges() -> None:
    lists = lists_of([[-1, -2]], [1, 1], probability=[[JUNK, JUNK]], collab=[[JUNK, JUNK]])
    found = evaluate(lists, [f"{name}@2" for name in GENERATION + COLLAB]).values
    assert found.pop("collab-user-range@2") == 0
    assert np.isnan(list(found.values())).all()


@pytest.mark.parametrize("name", ["probability", "collab"])
def test_what_stands_beside_the_lists_has_their_shape(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be \[U, K\] like ranked, \(1, 2\), not \(1, 1\)"):
        lists_of([[0, 0]], [1], **{name: [[0.5]]})


def test_some_rows_only(table: Lists) -> None:
    """The table without its first user: A 1/4, C 1/8 | B 1/8, so p = 1/2, 1/4, 1/4, 0; scores .8 .6 | .1."""
    some = table.select(np.array([1, 2]))
    deviations = (1 / 4, 0, 0, -1 / 4)
    assert value(some, "generation-std@2") == pytest.approx(sqrt(sum(x * x for x in deviations) / 4))
    assert value(some, "collab-mean@2") == pytest.approx(0.5)
    bare = Lists(table.ranked, np.array([C, C, B]), table.reference, leaf=np.array([0, 1, 0, 3]))
    assert bare.select(np.array([2, 1])).rank.tolist() == [1, 2]
    assert bare.select(np.array([2, 1])).string_rank.tolist() == [1, 1]
    assert not bare.select(np.array([0])).has("collab")


def test_foreign_lists_are_not_asked_for_what_they_lack() -> None:
    plain, all_of_them = standard([10]), standard([10], beside=("probability", "collab"))
    assert {s.name for s in all_of_them} - {s.name for s in plain} == {*GENERATION, *COLLAB}
    assert {s.name for s in standard([10], beside=["collab"])} - {s.name for s in plain} == set(COLLAB)
    assert {e.name: e.value.needs for e in metrics if e.value.needs not in (None, "fit")} == {
        **dict.fromkeys(GENERATION, "probability"),
        **dict.fromkeys(COLLAB, "collab"),
    }


def test_tables_show_digits_of_small_numbers() -> None:
    assert words.number(0.000213449) == "2.13e-4"
    assert words.number(-0.000213449) == "-2.13e-4"
    assert (words.number(0.0), words.number(0.001), words.number(0.0072)) == ("0.0000", "0.0010", "0.0072")
    assert words.spread(Value(0.000213, 0.0000051, "", (), None)) == " ± 5.10e-6"
    assert words.spread(Value(0.0213, 0.0000051, "", (), None)) == " ± 0.0000"


PLUGIN = '''
from dataclasses import dataclass
from rlrecbench.api import RankJob, Ranked, Ranker, method


@method("own-rank")
@dataclass(frozen=True)
class OwnRank(Ranker):
    """Has a rank of its own, whose scores may mean anything."""

    def rank(self, job: RankJob) -> Ranked:
        return super().rank(job)
'''
SUITE: dict[str, Any] = {
    "name": "diversity",
    "seeds": [3],
    "datasets": [{"ml-100k": {"last": 12, "max_history": 5}}],
    "backbones": [{"tiger": {"preset": "tiny", "ids": {"levels": 2, "codes": 16, "dim": 16, "dedup": False}}}],
    "methods": ["sft", "own-rank", "most-popular", "sasrec"],
    "train": {"batch_size": 32, "max_steps": 10, "eval_examples": 20, "lr": 2e-3},
    "rank": {"beams": 10},
    "collab": {"layers": 1, "heads": 1, "hidden": 16, "inner": 16, "epochs": 1, "dropout": 0.0},
    "metrics": ["recall@10", *(f"{name}@10" for name in GENERATION + COLLAB)],
    "stats": {"primary": "recall@10"},
    "plugins": ["own.py"],
}


def test_end_to_end_on_real_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the lists as they lie on disk and recompute the values item by item; items share codes here."""
    monkeypatch.setattr(stages, "_SCORES_AT_ONCE", 10_000)  # a few rows at a time
    (tmp_path / "own.py").write_text(PLUGIN)
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(SUITE))
    suite = suites.load(tmp_path / "x.yaml")
    cells = suites.expand(suite, [], device="cpu", limit_users=60)
    store, folder = Store(tmp_path / "store"), tmp_path / "results"
    order = closure([c.score for c in cells])
    assert sum(s.name == "collab" for s in order) == 1  # the metrics and the ranker share it
    for stage in order:
        store.ensure(stage)
    for cell in cells:
        export(cell, folder, store)
    (folder / "suite.json").write_text(json.dumps(suite.as_json()))
    found = results.load(folder)
    records = {r.method: r for r in found.records}
    values = {method: record.metrics for method, record in records.items()}
    for cell in cells:
        rank, train, collab = cell.score.rank, cell.score.rank.train, cell.score.collab
        assert collab is not None
        data = rank.data.load(store)
        table = pd.read_parquet(store.path(rank) / "ranked.parquet")
        raw = Collab.read(store.path(collab)).score("test", torch.arange(60)).numpy().astype(float)
        scaled = (raw - raw.min(1, keepdims=True)) / np.ptp(raw, axis=1, keepdims=True)
        pairs = [(int(r), scaled[r, i]) for r, i in zip(table["row"], table["item"], strict=True)]
        scores = [s for _, s in pairs]
        per_user = [np.ptp([s for r, s in pairs if r == u]) for u in range(60)]
        assert found.users(records[cell.method])["collab-user-range@10"].to_numpy() == pytest.approx(per_user, rel=1e-5)
        expected = dict(zip(COLLAB, [np.mean(scores), np.std(scores), np.ptp(scores), np.mean(per_user)], strict=True))
        if cell.method == "sft":
            assert train is not None
            catalogue = identifiers.read(store.path(train.ids)).catalogue()
            assert catalogue.collisions > 100
            sharing = [int((catalogue.leaf_of == catalogue.leaf_of[i]).sum()) for i in table["item"]]
            probability = np.exp(table["score"].to_numpy(float)) / sharing
            assert pd.Series(probability).groupby(table["row"]).sum().max() <= 1 + 1e-6
            p = np.zeros(data.n_items)
            for item, x in zip(table["item"], probability, strict=True):
                p[item] += x / probability.sum()
            expected |= {"generation-std": p.std()}
            assert np.isfinite([values["sft"][f"{name}@10"] for name in GENERATION]).all()
        else:
            assert np.isnan([values[cell.method][f"{name}@10"] for name in GENERATION]).all()
        for name, number in expected.items():
            assert values[cell.method][f"{name}@10"] == pytest.approx(number, rel=1e-5), (cell.method, name)
    lines = report.render(found, "md").splitlines()
    heads = next(line for line in lines if line.startswith("| method"))
    assert all(f"{name}@10 ↓" in heads for name in GENERATION)
    assert all(f"{name}@10 ↑" in heads for name in COLLAB)
    assert next(line for line in lines if line.startswith("| most-popular")).count("n/a") == 3
    assert "NaN" not in report.render(found, "json")
    assert not any("NaN" in path.read_text() for path in folder.rglob("metrics.json"))
