"""The rows of a block against the declared baseline, on the declared metric, as one family."""

from collections.abc import Sequence
from math import isnan

import numpy as np

from rlrecbench import stats
from rlrecbench.metrics import parse
from rlrecbench.report.table import Comparison
from rlrecbench.results import Block, Record, Results
from rlrecbench.stats import StatsConfig, Test

_PAIRED = {
    "two-way": stats.two_way,
    "t-users": stats.t_users,
    "permutation": stats.permutation,
    "bootstrap": stats.bootstrap,
}


def against_baseline(results: Results, block: Block, config: StatsConfig) -> tuple[dict[str, Comparison], str]:
    """Compare every row of a block with the baseline.

    Returns:
        The comparisons by row, and why there are none ("" if there are).
    """
    baseline = block.records.get(config.baseline or "", [])
    remark = _obstacle(results, block, baseline, config)
    if remark:
        return {}, remark
    tests = {
        label: test
        for label, records in block.records.items()
        if records and label != config.baseline and (test := _test(results, records, baseline, config)) is not None
    }
    corrected = stats.CORRECTIONS[config.correction]([t.p for t in tests.values()])
    return {
        label: _judge(results, block.records[label], baseline, test, p, len(tests), config)
        for (label, test), p in zip(tests.items(), corrected, strict=True)
    }, ("" if tests else "nothing to compare the baseline with")


def _obstacle(results: Results, block: Block, baseline: Sequence[Record], config: StatsConfig) -> str:
    here = [r for records in block.records.values() for r in records]
    if not baseline:
        return f"the baseline {config.baseline} has no result here"
    if not any(config.primary in r.metrics for r in here):
        return f"{config.primary} was not measured"
    if config.test != "t-seeds" and not results.has_users(here, config.primary):
        return f"{config.test} needs values per user and {config.primary} has none; t-seeds compares seeds"
    return ""


def _test(results: Results, a: Sequence[Record], b: Sequence[Record], config: StatsConfig) -> Test | None:
    """Test A against B; None where they share no seed or the metric is undefined."""
    if config.test == "t-seeds":
        x, y = (_values(records, config.primary) for records in (a, b))
        better = parse(config.primary).metric.better
        return stats.t_seeds(x, y, "greater" if better == "higher" else "less") if x and y else None
    difference = results.difference(a, b, config.primary)
    return _PAIRED[config.test](difference) if difference.size else None


def _judge(
    results: Results,
    a: Sequence[Record],
    b: Sequence[Record],
    test: Test,
    corrected_p: float,
    family: int,
    config: StatsConfig,
) -> Comparison:
    better = parse(config.primary).metric.better
    shared = {r.seed for r in a} if config.test != "t-seeds" else {r.seed for r in b}
    mean = float(np.mean(_values([r for r in b if r.seed in shared], config.primary)))
    verdict = stats.verdict(test, mean, config.min_effect, config.alpha, corrected_p, better)
    paired = results.has_users([*a, *b], config.primary)
    difference = results.difference(a, b, config.primary) if paired else np.zeros((0, 0))
    needed = stats.seeds_needed(test, mean, config.min_effect, config.alpha / family)
    return Comparison(
        test=test,
        corrected_p=corrected_p,
        star=corrected_p < config.alpha and not test.checkpoint_only,
        verdict=verdict,
        baseline_mean=mean,
        tally=stats.tally(difference, better) if difference.size else None,
        seeds_needed=needed if verdict == "cannot tell" else None,
    )


def _values(records: Sequence[Record], metric: str) -> list[float]:
    return [v for r in records if not isnan(v := r.metrics.get(metric, np.nan))]
