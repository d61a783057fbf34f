"""The leaderboard as CSV: one line per block and row; metrics are unrounded, what was tested has 12 digits."""

import csv as writer
import io
from math import isfinite, isnan

from rlrecbench.report import words
from rlrecbench.report.table import Block, Row, Table

COSTS = ("train_s", "start_train_s", "examples_per_s", "rank_s_per_1000", "peak_memory_mb", "parameters")
_OF_METRIC = ("", " std", " seeds", " difference", " low", " high", " p", " p_family", " p_bh", " p_swap")
AUDIT = ("invalid_entries", "duplicate_entries", "short_entries", "empty_users")
_TESTED = (
    "baseline", "primary", "test", "level", "difference", "low", "high", "relative", "relative_low", "relative_high",
    "seeds_compared", "p", "p_family", "p_corrected", "correction", "family", "star", "verdict", "seeds_needed",
    "users_won", "users_lost", "users_tied", "seeds_won",
)  # fmt: skip


def csv(table: Table) -> str:
    """Write the leaderboard as CSV; what is not known is empty."""
    metrics = [f"{c.metric}{end}" for c in table.columns for end in _OF_METRIC]
    heads = [
        "dataset",
        "backbone",
        "method",
        "seeds",
        "users",
        *metrics,
        *_TESTED,
        *COSTS,
        *AUDIT,
        "fingerprint",
    ]
    out = io.StringIO()
    lines = writer.DictWriter(out, heads, restval="", lineterminator="\n")
    lines.writeheader()
    for block in table.blocks:
        for row in block.rows:
            lines.writerow({k: _text(k, v) for k, v in _line(table, block, row).items()})
    return out.getvalue()


def _line(table: Table, block: Block, row: Row) -> dict[str, object]:
    of_row = words.ROW[table.config.rows]
    of_block = next(noun for noun in words.ROW.values() if noun != of_row)
    out: dict[str, object] = {
        "dataset": block.dataset,
        of_block: block.label,
        of_row: row.label,
        "seeds": len(row.seeds),
        "users": block.users,
        "fingerprint": block.fingerprint,
    }
    for metric, value in row.values.items():
        if value is not None:
            out |= {metric: value.mean, f"{metric} std": value.std}
            out[f"{metric} seeds"] = sum(not isnan(v) for v in value.seeds)
            c = value.contrast
            if c is not None:
                out |= {f"{metric} p": c.test.p, f"{metric} p_family": c.family_p}
                out |= {f"{metric} p_bh": c.corrected_p, f"{metric} p_swap": c.swap_p}
                out |= {f"{metric} difference": c.test.mean, f"{metric} low": c.test.low, f"{metric} high": c.test.high}
    out |= {name: row.cost.get(name) for name in COSTS}
    out |= {name: row.audit.get(name) for name in AUDIT}
    return out | _tested(table, block, row)


def _tested(table: Table, block: Block, row: Row) -> dict[str, object]:
    c = row.comparison
    if c is None:
        return {}
    out: dict[str, object] = {
        "baseline": block.baseline,
        "primary": table.config.primary,
        "test": c.test.name,
        "level": c.test.level,
        "difference": c.test.mean,
        "low": c.test.low,
        "high": c.test.high,
        "relative": c.relative(c.test.mean),
        "relative_low": c.ratio and c.ratio.low,
        "relative_high": c.ratio and c.ratio.high,
        "seeds_compared": c.test.seeds,
        "p": c.test.p,
        "p_family": c.family_p,
        "p_corrected": c.corrected_p,
        "correction": table.config.correction,
        "family": block.family,
        "star": "*" if c.star else "",
        "verdict": c.verdict,
        "seeds_needed": c.seeds_needed,
    }
    return out | (c.tally._asdict() if c.tally is not None else {})


def _text(name: str, value: object) -> object:
    """A float so that it reads back as itself, or to 12 digits where it was tested: the last ones are the machine's.

    Nothing for what is unknown, undefined or unbounded.
    """
    if isinstance(value, float):
        exact = name not in _TESTED and name.partition(" ")[2] in ("", "std", "seeds")
        return (repr(value) if exact else f"{value:.12g}") if isfinite(value) else ""
    return "" if value is None else value
