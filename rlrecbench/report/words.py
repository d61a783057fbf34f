"""Numbers as a table shows them; the only place that rounds."""

from math import isfinite, isnan

from rlrecbench.report.table import Comparison, Row, Value
from rlrecbench.stats import Direction, Rows

ABSENT = "—"
ARROW: dict[Direction, str] = {"higher": "↑", "lower": "↓"}
ROW: dict[Rows, str] = {"methods": "method", "backbones": "backbone"}


def number(value: float) -> str:
    """A metric: four decimals, "n/a" where it is undefined; three digits below 0.001, such as 2.13e-4."""
    return "n/a" if isnan(value) else _decimal(value, like=value)


def spread(value: Value) -> str:
    """The standard deviation behind a mean, "" with one seed."""
    return "" if value.std is None or isnan(value.std) else f" ± {_decimal(value.std, like=value.mean)}"


def p_value(p: float) -> str:
    """A p-value: three decimals, never 0."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def effect(comparison: Comparison) -> str:
    """The difference relative to the baseline with its interval; absolute where the baseline's mean is 0."""
    test, ratio = comparison.test, comparison.ratio
    parts = list(ratio) if ratio is not None else [comparison.relative(v) for v in (test.mean, test.low, test.high)]
    if None in parts:
        mean, low, high = (f"{v:+.4f}" for v in (test.mean, test.low, test.high))
    else:
        mean, low, high = (f"{100 * v:+.1f}" for v in parts if v is not None)
        mean += " %"
    return f"{mean} [{low}, {high}]" if isfinite(test.low) else mean


def conclusion(comparison: Comparison) -> str:
    """The verdict, and how many seeds would settle it."""
    if comparison.test.checkpoint_only:
        return "checkpoint-level only"
    if comparison.seeds_needed is not None:
        return f"{comparison.verdict} (~{comparison.seeds_needed} seeds)"
    return comparison.verdict


def users(comparison: Comparison) -> str:
    """Users won, lost and tied."""
    t = comparison.tally
    return f"{t.users_won:,} / {t.users_lost:,} / {t.users_tied:,}" if t is not None else ABSENT


def cost(row: Row) -> str:
    """Seconds of training, and of ranking for 1,000 users."""
    return " · ".join(_seconds(row.cost.get(name)) for name in ("train_s", "rank_s_per_1000"))


def _decimal(value: float, like: float) -> str:
    """Four decimals, or three digits and an exponent where those of ``like`` would be lost."""
    return f"{value:.2e}".replace("e-0", "e-") if value and 0 < abs(like) < 0.001 else f"{value:.4f}"


def _seconds(value: float | None) -> str:
    if value is None:
        return ABSENT
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 10 else f"{value:.0f}"
