"""The rows of a block against its baseline: one family on the declared metric, and all other metrics beside it."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from math import isfinite, isnan

import numpy as np

from rlrecbench import stats
from rlrecbench.metrics import parse
from rlrecbench.metrics.reference import Floats
from rlrecbench.report.table import Column, Comparison, Contrast
from rlrecbench.results import Block, Record, Results
from rlrecbench.stats import BEST, StatsConfig, Test, TestName, lists
from rlrecbench.stats.draws import FEWEST, Draws
from rlrecbench.stats.lists import Resampled

PAIRED: dict[TestName, Callable[[Floats], Test]] = {
    "two-way": stats.two_way,
    "t-users": stats.t_users,
    "permutation": stats.permutation,
    "bootstrap": stats.bootstrap,
    "bca": partial(stats.bootstrap, kind="bca"),
    "wilcoxon": stats.wilcoxon,
}

_SWAPS = 499  # of users' lists for each comparison of a table; smallest p = 1/500


def baseline_of(block: Block, config: StatsConfig) -> str:
    """Return the label of a block's baseline: the declared one, or the best row on validation, never on test.

    Only rows that were trained have a validation value; "" where none has.
    """
    if config.baseline != BEST or BEST in block.records:
        return config.baseline or ""
    found = {label: _validation(records) for label, records in block.records.items()}
    known = {label: value for label, value in found.items() if value is not None}
    return max(known, key=lambda label: known[label], default="")


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
        if records and label != baseline and (test := _test(results, records, base, config.primary, config)) is not None
    }
    corrected = stats.corrected(list(tests.values()), config.correction)
    return {
        label: _judge(results, block.records[label], base, test, p, len(tests), config)
        for (label, test), p in zip(tests.items(), corrected, strict=True)
    }, ("" if tests else "nothing to compare the baseline with")


def contrasts(
    results: Results, block: Block, baseline: str, columns: Sequence[Column], config: StatsConfig
) -> dict[tuple[str, str], Contrast]:
    """Compare every row with the baseline on the metrics that are not the primary one.

    Per-user metrics take the declared test; metrics of all lists together a test over users and seeds that resamples
    the lists (:mod:`rlrecbench.stats.lists`), or over seeds alone where the lists cannot be read.

    Returns:
        By row and metric, corrected together after Benjamini and Hochberg.
    """
    base = block.records.get(baseline, [])
    others = {label: r for label, r in block.records.items() if r and label != baseline}
    found: dict[tuple[str, str], tuple[Test, float | None]] = {}
    if not base:
        return {}
    of_lists = [c.metric for c in columns if c.level == "list" and c.metric != config.primary]
    for label, records in others.items():
        for column in columns:
            if column.level == "user" and column.metric != config.primary:
                test = _of_users(results, records, base, column.metric, config)
                if test is not None:
                    found[label, column.metric] = test, None
    found |= _of_lists(results, others, base, of_lists)
    raw: dict[tuple[str, str], float] = {}
    for metric in dict.fromkeys(metric for _, metric in found):
        family = {key: test for key, (test, _) in found.items() if key[1] == metric}
        raw |= dict(zip(family, stats.family_p(list(family.values())), strict=True))
    corrected = stats.benjamini_hochberg([raw[key] for key in found])
    return {
        key: Contrast(test, p, p < config.alpha and not test.checkpoint_only, swap_p)
        for (key, (test, swap_p)), p in zip(found.items(), corrected, strict=True)
    }


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
    if config.test != "t-seeds" and not results.has_users(here, config.primary):
        return f"{config.test} needs values per user and {config.primary} has none; t-seeds compares seeds"
    return ""


def _test(results: Results, a: Sequence[Record], b: Sequence[Record], metric: str, config: StatsConfig) -> Test | None:
    """Test A against B; None where they share no seed or the metric is undefined."""
    if config.test == "t-seeds":
        x, y = (_values(records, metric) for records in (a, b))
        better = parse(metric).metric.better
        return stats.t_seeds(x, y, "greater" if better == "higher" else "less") if x and y else None
    difference = results.difference(a, b, metric)
    return PAIRED[config.test](difference) if difference.size and np.isfinite(difference).all() else None


def _of_users(
    results: Results, a: Sequence[Record], b: Sequence[Record], metric: str, config: StatsConfig
) -> Test | None:
    return _test(results, a, b, metric, config) if results.has_users([*a, *b], metric) else _of_seeds(a, b, metric)


def _of_seeds(a: Sequence[Record], b: Sequence[Record], metric: str) -> Test | None:
    """Welch's test of seed means; None with fewer than two seeds on a side."""
    x, y = _values(a, metric), _values(b, metric)
    return stats.t_seeds(x, y) if min(len(x), len(y)) > 1 else None


def _of_lists(
    results: Results, others: Mapping[str, Sequence[Record]], base: Sequence[Record], metrics: Sequence[str]
) -> dict[tuple[str, str], tuple[Test, float | None]]:
    """Tests of metrics of all lists together, with p of swapping users' lists where the lists can be read."""
    exposed = [m for m in metrics if parse(m).metric.level == "exposure"]
    found: dict[tuple[str, str], tuple[Test, float | None]] = {}
    users = results.n_users(base[0])
    if exposed and users >= FEWEST and results.reference(base[0].dataset) is not None:
        draws = _draws(users)
        own = {r.seed: _resampled(results, r, exposed, draws) for r in base}
        for label, records in others.items():
            shared = [r for r in records if r.seed in own]
            if shared:
                cells = [_resampled(results, r, exposed, draws) for r in shared]
                made = lists.difference(cells, [own[r.seed] for r in shared])
                found |= {(label, metric): (d.test, d.p_swap) for metric, d in made.items() if isfinite(d.mean)}
    resampled = {metric for _, metric in found}
    for label, records in others.items():
        for metric in metrics:
            test = _of_seeds(records, base, metric) if metric not in resampled else None
            if test is not None:
                found[label, metric] = test, None
    return found


@lru_cache(maxsize=4)
def _draws(users: int) -> Draws:
    """The same resamples for all blocks with so many users."""
    return Draws.of(users, _SWAPS)


def _resampled(results: Results, record: Record, metrics: Sequence[str], draws: Draws) -> Resampled:
    there = results.lists(record)
    if there is None:
        raise ValueError(f"{record.name} has no lists")
    return Resampled(there, metrics, draws)


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
