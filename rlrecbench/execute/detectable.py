"""The smallest difference from the baseline that a suite's users and seeds can find, before it is run.

Variances come from the records that the results folder already has; without any they are taken to grow with the
baseline's mean m as they do in our runs: those over users and of the interaction with m, that over seeds with m^2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple

import numpy as np

from rlrecbench import stats
from rlrecbench.errors import BenchError
from rlrecbench.execute.estimate import data_of
from rlrecbench.execute.runner import Planned
from rlrecbench.metrics import parse
from rlrecbench.report.comparison import baseline_of
from rlrecbench.results import NO_BACKBONE, Block, Record, Results, load
from rlrecbench.stats import BEST, StatsConfig, Variance
from rlrecbench.suite import Cell

POWER = 0.8  # Source: Cohen, 1988


class Scale(NamedTuple):
    """What is assumed of a metric before anything is measured."""

    mean: float  # m, of the baseline
    users: float  # standard deviation over users of the differences, divided by sqrt(m)
    seeds: float  # that over seeds, divided by m
    interaction: float  # that of users and seeds together, divided by sqrt(m)


# Standard deviations: ours, root mean squares over the pairs of three methods on MovieLens-100k (943 users) and of
# three kinds of identifiers on Movies and TV (2,743 users), a tiny T5 and three seeds each, at 10 places.
# Means: GFlowGR, Table 1, Beauty, average of the rows at 10 places; mrr: ours, beside such an ndcg.
SCALES = {
    "recall": Scale(mean=0.056, users=0.44, seeds=0.075, interaction=0.75),
    "ndcg": Scale(mean=0.030, users=0.36, seeds=0.11, interaction=0.52),
    "mrr": Scale(mean=0.022, users=0.36, seeds=0.14, interaction=0.54),
}


@dataclass(frozen=True)
class Detectable:
    """The smallest difference that one block can find.

    Attributes:
        dataset: Name.
        label: Of the block: a backbone, or a method where rows are backbones.
        metric: The primary metric.
        baseline: Label of the row that the others are compared with; "" where it is not known yet.
        comparisons: Rows that are compared with it.
        users: Test users; None where the data cannot be read.
        seeds: Number of seeds.
        alpha: Level of one comparison: the suite's, divided by the number of comparisons as in the first step of Holm's
            correction and of Benjamini and Hochberg's; the suite's own without a correction.
        power: Probability of finding it.
        mean: The baseline's mean; None where it is neither measured nor assumed.
        absolute: The smallest difference that the two-way test finds, in units of the metric; None where there is none.
        relative: As a share of ``mean``.
        source: Where mean and variances come from.
        remark: Why there is no difference to name; "" if there is.
    """

    dataset: str
    label: str
    metric: str
    baseline: str
    comparisons: int
    users: int | None
    seeds: int
    alpha: float
    power: float
    mean: float | None
    absolute: float | None
    relative: float | None
    source: str
    remark: str


def detectable(planned: Planned) -> list[Detectable]:
    """Compute the smallest difference of every block of a plan."""
    config = planned.suite.stats
    done = _records(planned)
    out = []
    for dataset in dict.fromkeys(c.dataset for c in planned.cells):
        here = [c for c in planned.cells if c.dataset == dataset]
        for label, rows in _blocks(here, config).items():
            block = None if done is None else _find(done, config, dataset, label)
            out.append(_one(here, label, rows, config, done, block))
    return out


def assumed(metric: str, mean: float | None = None) -> tuple[float, Variance]:
    """The baseline's mean and the variances that are assumed of a metric; names that are not known count as recall.

    Args:
        metric: Name without the cut-off.
        mean: The baseline's mean, where it is known.
    """
    scale = SCALES.get(metric, SCALES["recall"])
    m = scale.mean if mean is None else mean
    return m, Variance(users=scale.users**2 * m, seeds=(scale.seeds * m) ** 2, interaction=scale.interaction**2 * m)


def _one(
    cells: Sequence[Cell],
    label: str,
    rows: Sequence[str],
    config: StatsConfig,
    done: Results | None,
    block: Block | None,
) -> Detectable:
    spec = parse(config.primary)
    baseline = _baseline(rows, config, block)
    comparisons = len(rows) - 1 if baseline in (*rows, "") else 0
    seeds = len({c.seed for c in cells})
    users = _users(cells[0])
    mean = variance = None
    source = ""
    if done is not None and block is not None and baseline:
        mean, variance, source = _measured(done, block, baseline, str(spec))
    per_user = spec.metric.level == "user"
    if variance is None and per_user:
        had = mean
        mean, variance = assumed(spec.name, mean)
        source = (
            f"the mean from {baseline}'s records, variances assumed as in our own runs"
            if had is not None
            else "assumed, as in our own runs; records in the results folder will replace them"
        )
    remark = _obstacle(per_user, seeds, users, comparisons, config)
    alpha = config.alpha if config.correction == "none" else config.alpha / max(comparisons, 1)
    effect = None
    if not remark and users is not None and variance is not None:
        effect = stats.smallest_effect(variance, users, seeds, alpha, POWER)
        if not isfinite(effect):
            effect, remark = None, "too few users or seeds"
    return Detectable(
        dataset=cells[0].dataset,
        label=label,
        metric=str(spec),
        baseline=baseline,
        comparisons=comparisons,
        users=users,
        seeds=seeds,
        alpha=alpha,
        power=POWER,
        mean=mean,
        absolute=effect,
        relative=effect / mean if effect is not None and mean else None,
        source=source,
        remark=remark,
    )


def _obstacle(per_user: bool, seeds: int, users: int | None, comparisons: int, config: StatsConfig) -> str:
    if not per_user:
        return f"{config.primary} has no value per user"
    if comparisons == 0:
        return "no row to compare with the baseline"
    if seeds == 1:
        return f"one seed: nothing can be said about {config.rows}, only about checkpoints"
    return "the number of test users is unknown" if users is None else ""


def _blocks(cells: Sequence[Cell], config: StatsConfig) -> dict[str, list[str]]:
    """Rows by block, as in the leaderboard: rankers without a backbone are rows of every block."""
    axis = ("backbone", "method") if config.rows == "methods" else ("method", "backbone")
    trained = [c for c in cells if c.backbone != NO_BACKBONE]
    bare = list(dict.fromkeys(c.method for c in cells if c.backbone == NO_BACKBONE))
    blocks: dict[str, list[str]] = {}
    for cell in trained:
        rows = blocks.setdefault(getattr(cell, axis[0]), [])
        if getattr(cell, axis[1]) not in rows:
            rows.append(getattr(cell, axis[1]))
    return {label: [*rows, *bare] for label, rows in blocks.items()} or {NO_BACKBONE: bare}


def _baseline(rows: Sequence[str], config: StatsConfig, block: Block | None) -> str:
    if config.baseline is None:
        return "sft" if config.rows == "methods" else rows[0]
    if config.baseline == BEST and BEST not in rows:
        return "" if block is None else baseline_of(block, config)
    return config.baseline


def _users(cell: Cell) -> int | None:
    rank = cell.score.rank
    try:
        return len(data_of(rank.data).test.head(rank.limit_users))
    except BenchError:
        return None


def _records(planned: Planned) -> Results | None:
    """What is done; None where there is no results folder yet or it cannot be read, which ``run`` will say."""
    try:
        return load(planned.results)
    except BenchError:
        return None


def _find(results: Results, config: StatsConfig, dataset: str, label: str) -> Block | None:
    try:
        blocks = list(results.blocks(config.rows))
    except BenchError:
        return None
    return next((b for b in blocks if b.dataset == dataset and b.label == label), None)


def _measured(results: Results, block: Block, baseline: str, metric: str) -> tuple[float | None, Variance | None, str]:
    """The baseline's mean, the mean variances of the differences from it, and how many they come from."""
    base = [r for r in block.records.get(baseline, []) if metric in r.metrics]
    if not base:
        return None, None, ""
    mean = float(np.mean([r.metrics[metric] for r in base]))
    rows = {label: records for label, records in block.records.items() if records and label != baseline}
    trained = {label: records for label, records in rows.items() if records[0].backbone != NO_BACKBONE}
    found = [
        v for records in (trained or rows).values() if (v := _variance(results, records, base, metric)) is not None
    ]
    if not found:
        return mean, None, ""
    users, seeds, interaction = np.mean(found, 0)
    n = len({r.seed for r in base})
    comparisons = f"{len(found)} comparison{'s' * (len(found) > 1)}"
    return (
        mean,
        Variance(users, seeds, interaction),
        f"from {comparisons} with {baseline} over {n} seeds in the results folder",
    )


def _variance(results: Results, a: Sequence[Record], b: Sequence[Record], metric: str) -> Variance | None:
    if not results.has_users([*a, *b], metric):
        return None
    try:
        difference = results.difference(a, b, metric)
    except BenchError:
        return None
    finite = len(difference) > 1 and np.isfinite(difference).all()
    return stats.two_way(difference).variance if finite else None
