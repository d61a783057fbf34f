"""The rows of a block against its baseline: one family, on the declared metric."""

from collections.abc import Callable, Sequence
from functools import partial
from math import isnan

import numpy as np

from rlrecbench import stats
from rlrecbench.metrics import parse
from rlrecbench.metrics.reference import Floats
from rlrecbench.report.table import Comparison
from rlrecbench.results import Block, Record, Results
from rlrecbench.stats import BEST, StatsConfig, Test, TestName

PAIRED: dict[TestName, Callable[[Floats], Test]] = {
    "two-way": stats.two_way,
    "t-users": stats.t_users,
    "permutation": stats.permutation,
    "bootstrap": stats.bootstrap,
    "bca": partial(stats.bootstrap, kind="bca"),
    "wilcoxon": stats.wilcoxon,
}


def baseline_of(block: Block, config: StatsConfig) -> str:
    """Return the label of a block's baseline: the declared one, or the best row on validation, never on test.

    Only rows that were selected on validation have such a value, and of these only those with the most seeds are
    compared; "" where none has.
    """
    if config.baseline != BEST or BEST in block.records:
        return config.baseline or ""
    found = {label: _validation(records) for label, records in block.records.items()}
    known = {label: value for label, value in found.items() if value is not None}
    most = max((len(block.records[label]) for label in known), default=0)
    whole = [label for label in known if len(block.records[label]) == most]
    return max(whole, key=lambda label: known[label], default="")


def against_baseline(
    results: Results, block: Block, baseline: str, config: StatsConfig
) -> tuple[dict[str, Comparison], str]:
    """Compare every row of a block with the baseline on the primary metric.

    Returns:
        The comparisons by row, and why there are none ("" if there are).
    """
    base = block.records.get(baseline, [])
    remark = _obstacle(results, block, base, baseline, config)
    if remark:
        return {}, remark
    tests = {
        label: test
        for label, records in block.records.items()
        if records and label != baseline and (test := compared(results, records, base, config.primary, config))
    }
    before = stats.family_p(list(tests.values()))
    after = stats.corrected(list(tests.values()), config.correction)
    return {
        label: _judge(results, block.records[label], base, test, (p, q), len(tests), config)
        for (label, test), p, q in zip(tests.items(), before, after, strict=True)
    }, ("" if tests else f"no other row shares a seed and {config.primary} with {baseline}")


def _validation(records: Sequence[Record]) -> float | None:
    """Mean over seeds of the validation value that training selected its checkpoint by; None without one."""
    found = [v for r in records for name, v in r.cost.items() if name.startswith("valid_") and v is not None]
    return float(np.mean(found)) if found and len(found) == len(records) else None


def _obstacle(results: Results, block: Block, base: Sequence[Record], baseline: str, config: StatsConfig) -> str:
    here = [r for records in block.records.values() for r in records]
    if not baseline:
        return "no row has a validation value to choose the baseline by"
    if not base:
        return f"the baseline {baseline} has no result here"
    if not any(config.primary in r.metrics for r in here):
        return f"{config.primary} was not measured"
    if config.test != "t-seeds" and not any(results.has_users([r], config.primary) for r in here):
        return f"{config.test} needs values per user and {config.primary} has none; t-seeds compares seeds"
    return ""


def compared(
    results: Results, a: Sequence[Record], b: Sequence[Record], metric: str, config: StatsConfig
) -> Test | None:
    """Test A against B; None where they share no seed, or the metric has no value in one of their cells."""
    if config.test == "t-seeds":
        x, y = (_values(records, metric) for records in (a, b))
        better = parse(metric).metric.better
        return stats.t_seeds(x, y, "greater" if better == "higher" else "less") if x and y else None
    if any(isnan(r.metrics.get(metric, np.nan)) for r in (*a, *b)) or not results.has_users([*a, *b], metric):
        return None
    difference = results.difference(a, b, metric)
    return PAIRED[config.test](difference) if difference.size and np.isfinite(difference).all() else None


def _judge(
    results: Results,
    a: Sequence[Record],
    b: Sequence[Record],
    test: Test,
    p: tuple[float, float],
    family: int,
    config: StatsConfig,
) -> Comparison:
    better = parse(config.primary).metric.better
    family_p, corrected_p = p
    one, two = shared(a, b)
    mean = float(np.mean(_values(b if config.test == "t-seeds" else two, config.primary)))
    verdict = stats.verdict(test, mean, config.min_effect, config.alpha, corrected_p, better)
    effect = None
    if one and results.has_users([*one, *two], config.primary):
        values = results.values(one, config.primary), results.values(two, config.primary, one[0])
        effect = stats.effect(*values, better) if np.isfinite(values).all() else None
    needed = stats.seeds_needed(test, mean, config.min_effect, config.alpha / family)
    return Comparison(
        test=test,
        corrected_p=corrected_p,
        family_p=family_p,
        star=corrected_p < config.alpha and not test.checkpoint_only,
        verdict=verdict,
        baseline_mean=mean,
        ratio=effect.relative if effect is not None and config.test == "two-way" else None,
        tally=effect.tally if effect is not None else None,
        seeds_needed=needed if verdict == "cannot tell" else None,
    )


def shared(a: Sequence[Record], b: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """The cells of both rows on their common seeds, in the order of the seeds."""
    seeds = sorted({r.seed for r in a} & {r.seed for r in b})
    one, two = ({r.seed: r for r in side} for side in (a, b))
    return [one[s] for s in seeds], [two[s] for s in seeds]


def _values(records: Sequence[Record], metric: str) -> list[float]:
    return [v for r in records if not isnan(v := r.metrics.get(metric, np.nan))]
