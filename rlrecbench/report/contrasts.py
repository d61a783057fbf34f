"""All other metrics of a block: every row against the baseline, described and never judged."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import isnan, nan

from rlrecbench import stats
from rlrecbench.metrics import parse
from rlrecbench.report.comparison import compared, shared
from rlrecbench.report.table import Column, Contrast
from rlrecbench.results import Block, Record, Results
from rlrecbench.stats import StatsConfig, Test, lists
from rlrecbench.stats.draws import FEWEST, Draws
from rlrecbench.stats.lists import Resampled

SWAPS = 499  # of users' lists for each comparison; smallest p = 1/500


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
        key: Contrast(test, p, p < config.alpha and not test.checkpoint_only, raw[key], swap_p)
        for (key, (test, swap_p)), p in zip(found.items(), corrected, strict=True)
    }


def _of_users(
    results: Results, a: Sequence[Record], b: Sequence[Record], metric: str, config: StatsConfig
) -> Test | None:
    """The declared test; without values per user, or where only seeds are compared, Welch's, two-sided."""
    if config.test == "t-seeds" or not results.has_users([*a, *b], metric):
        return _of_seeds(a, b, metric)
    return compared(results, a, b, metric, config)


def _of_seeds(a: Sequence[Record], b: Sequence[Record], metric: str) -> Test | None:
    """Welch's test of seed means; None with fewer than two seeds on a side."""
    x, y = ([v for r in side if not isnan(v := r.metrics.get(metric, nan))] for side in (a, b))
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
        own = {r.seed: _resampled(results, r, base[0], exposed, draws) for r in base}
        for label, records in others.items():
            one, two = shared(records, base)
            if one:
                cells = [_resampled(results, r, base[0], exposed, draws) for r in one]
                made = lists.difference(cells, [own[r.seed] for r in two])
                found |= {(label, m): (d.test, d.p_swap) for m, d in made.items() if _complete([*one, *two], m)}
    resampled = {metric for _, metric in found}
    for label, records in others.items():
        for metric in metrics:
            test = _of_seeds(records, base, metric) if metric not in resampled else None
            if test is not None:
                found[label, metric] = test, None
    return found


def _complete(records: Sequence[Record], metric: str) -> bool:
    """Tell whether all cells have a value, so that what is compared is what the table shows."""
    return not any(isnan(r.metrics.get(metric, nan)) for r in records)


@lru_cache(maxsize=4)
def _draws(users: int) -> Draws:
    """The same resamples for all blocks with so many users."""
    return Draws.of(users, SWAPS)


def _resampled(results: Results, record: Record, like: Record, metrics: Sequence[str], draws: Draws) -> Resampled:
    there = results.lists(record, like)
    if there is None:
        raise ValueError(f"{record.name} has no lists")
    return Resampled(there, metrics, draws)
