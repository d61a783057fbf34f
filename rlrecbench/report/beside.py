"""The papers' values beside ours, as data: interval, difference, and why the two may not compare."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite, isnan

import numpy as np

from rlrecbench.metrics import parse
from rlrecbench.published import Fact, Reason, find, match, reasons
from rlrecbench.report.captions import title
from rlrecbench.report.table import Block, Column, Row, Table
from rlrecbench.results import Record, Results
from rlrecbench.stats import two_way
from rlrecbench.stats.draws import FEWEST, Draws
from rlrecbench.stats.lists import Interval, Resampled, intervals
from rlrecbench.stats.paired import student


@dataclass(frozen=True)
class Line:
    """One metric of one row beside one published value.

    Attributes:
        row: Label of the row.
        metric: Our metric's full name.
        fact: What the paper prints.
        seeds: Number of ours.
        mean: Mean over our seeds.
        low: Lower end of its 95 % interval; None where nothing is known of it.
        high: Upper end.
        level: What the interval is over: "users and seeds", "users" (one seed) or "seeds" (several, a metric of all
            lists).
        difference: Ours less theirs.
        relative: The difference as a share of theirs; None where that is 0.
        within: Whether a value that rounds to the published one lies in our interval; None without an interval.
        reasons: Why the two may not compare.
    """

    row: str
    metric: str
    fact: Fact
    seeds: int
    mean: float
    low: float | None
    high: float | None
    level: str
    difference: float
    relative: float | None
    within: bool | None
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Section:
    """One block of the leaderboard."""

    title: str  # data set and backbone, or method
    lines: tuple[Line, ...]  # in the order of rows, tables and columns; none: no row has a published counterpart
    rest: tuple[str, ...]  # labels of the rows with results but without a counterpart


@dataclass(frozen=True)
class Beside:
    """All blocks."""

    suite: str  # its name
    sections: tuple[Section, ...]  # in suite order


def beside(results: Results, table: Table) -> Beside:
    """Put the papers' values beside a leaderboard's.

    Args:
        results: The folder the leaderboard was built from.
        table: The leaderboard; its columns are compared.

    Raises:
        StoreError: A per-user table is broken.
    """
    sections = []
    for block, records in paired(results, table):
        lines = {row.label: _lines(results, row, records[row.label], table.columns) for row in block.rows}
        found = tuple(line for row in block.rows for line in lines[row.label])
        rest = tuple(row.label for row in block.rows if row.seeds and not lines[row.label])
        sections.append(Section(title(block), found, rest))
    return Beside(table.suite, tuple(sections))


def paired(results: Results, table: Table) -> Iterator[tuple[Block, dict[str, list[Record]]]]:
    """Yield each block of a leaderboard with the records of its rows."""
    records = {(b.dataset, b.label): b.records for b in results.blocks(table.config.rows)}
    for block in table.blocks:
        yield block, records[block.dataset, block.label]


def _lines(results: Results, row: Row, records: list[Record], columns: Sequence[Column]) -> list[Line]:
    """Every published value of the rows that these records stand for."""
    out = []
    for found in match(results, records[0]) if records else []:
        facts = {c: find(found.dataset, found.backbone, found.variant.published, c.metric) for c in columns}
        resampled = _resampled(results, records, [column for column in columns if facts[column]])
        for column in columns:
            measured = [r for r in records if not isnan(r.metrics.get(column.metric, np.nan))]
            if facts[column] and measured:
                mean, low, high, level = _own(results, measured, column, resampled)
                for fact in facts[column]:
                    why = tuple(reasons(results, measured, found, fact, column.metric))
                    out.append(_line(row.label, column.metric, fact, len(measured), (mean, low, high), level, why))
    return sorted(out, key=lambda line: line.fact.table)


def _resampled(results: Results, records: list[Record], columns: Sequence[Column]) -> Mapping[str, Interval]:
    """Intervals over users of one seed's metrics of all lists, by name; none where its lists cannot be read."""
    specs = [parse(column.metric) for column in columns]
    names = [str(s) for s in specs if s.metric.level == "exposure" and s.metric.needs is None]
    names = [name for name in names if name in records[0].metrics]
    if len(records) > 1 or not names or results.n_users(records[0]) < FEWEST:
        return {}
    lists = results.lists(records[0])
    return {} if lists is None else intervals([Resampled(lists, names, _draws(len(lists)))])


@lru_cache(maxsize=4)
def _draws(users: int) -> Draws:
    """The same resamples for all rows with so many users; nothing changes sides."""
    return Draws.of(users, resamples=0)


def _own(
    results: Results, records: list[Record], column: Column, resampled: Mapping[str, Interval]
) -> tuple[float, float | None, float | None, str]:
    """Mean of a row with its interval: users and seeds crossed.

    For a metric of all lists t over seeds, or over users where there is one seed.
    """
    seeds = np.array([r.metrics[column.metric] for r in records])
    if column.level == "user" and results.has_users(records, column.metric):
        values = results.values(records, column.metric)
        if np.isfinite(values).all():
            test = two_way(values)
            return test.mean, *_ends(test.low, test.high), "users" if len(seeds) == 1 else "users and seeds"
    mean, S = float(seeds.mean()), len(seeds)
    if column.metric in resampled:
        found = resampled[column.metric]
        return mean, *_ends(found.low, found.high), "users"
    se = float(seeds.std(ddof=1)) / S**0.5 if S > 1 else 0.0
    test = student("t-seeds", mean, se, S - 1, 0, S, "methods")
    return mean, *_ends(test.low, test.high), "seeds"


def _ends(low: float, high: float) -> tuple[float | None, float | None]:
    return (low, high) if isfinite(low) and isfinite(high) else (None, None)


def _line(
    row: str,
    metric: str,
    fact: Fact,
    seeds: int,
    own: tuple[float, float | None, float | None],
    level: str,
    why: tuple[Reason, ...],
) -> Line:
    mean, low, high = own
    within = None
    if low is not None and high is not None:
        within = low - fact.half_unit <= fact.value <= high + fact.half_unit
    difference = mean - fact.value
    relative = difference / fact.value if fact.value else None
    return Line(row, metric, fact, seeds, mean, low, high, level, difference, relative, within, why)
