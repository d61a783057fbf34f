"""How far our order of the methods agrees with the papers', as data, block by block."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import isnan
from typing import NamedTuple

import numpy as np

from rlrecbench.errors import ConfigError
from rlrecbench.metrics import parse
from rlrecbench.published import Fact, Match, find, match
from rlrecbench.report.beside import paired
from rlrecbench.report.captions import title
from rlrecbench.report.table import Block, Table
from rlrecbench.results import Record, Results
from rlrecbench.stats import Agreement, order_agreement
from rlrecbench.stats.paired import Floats

LEAST = 3  # methods of which an order says something


class Ranked(NamedTuple):
    """A row that the paper has too."""

    row: str  # label
    fact: Fact  # what the paper prints
    mean: float  # ours over the seeds in common
    place: int  # in our order, 1 the best; equal values share the best place
    published_place: int  # in the paper's


class Swap(NamedTuple):
    """Two rows that stand the other way round in the paper."""

    better: str  # label of the one that is better in ours
    worse: str  # label of the other
    told_apart: bool  # whether our corrected test does; of pairs with the baseline on the primary metric only


@dataclass(frozen=True)
class Order:
    """One block.

    Attributes:
        title: Data set and backbone, or method.
        metric: Our metric's full name; "" where no column is published.
        ranked: Rows in our order, the best first.
        seeds: Seeds that they have in common.
        agreement: Kendall's tau-b; None where there is too little to compare.
        over: What its interval resamples: "users and seeds", "users" or "seeds"; "" for one seed of a metric of all
            lists, which leaves nothing to resample and no interval.
        swaps: Pairs that the paper has the other way round.
        twice: Labels of rows that stand for a published row for which a closer one is ranked.
        remark: Why there is no agreement to speak of; "" if there is.
    """

    title: str
    metric: str
    ranked: tuple[Ranked, ...]
    seeds: tuple[int, ...]
    agreement: Agreement | None
    over: str
    swaps: tuple[Swap, ...]
    twice: tuple[str, ...]
    remark: str


def order(results: Results, table: Table, metric: str | None = None) -> list[Order]:
    """Compare our order of the methods with the papers', for each block of a leaderboard.

    Args:
        results: The folder the leaderboard was built from.
        table: The leaderboard.
        metric: On which methods are ordered; None: the primary metric, or where the paper lacks it the first column
            that it has.

    Raises:
        ConfigError: The metric is unknown, or was not measured.
        StoreError: A per-user table is broken.
    """
    if metric is not None:
        metric = str(parse(metric))
        if not any(metric in r.metrics for r in results.records):
            raise ConfigError(
                f"metric {metric!r} is in no record of {results.root}; measured: {', '.join(results.metrics)}"
            )
    names = [metric] if metric is not None else [table.config.primary, *(c.metric for c in table.columns)]
    return [_order(results, table, block, records, names) for block, records in paired(results, table)]


def _order(
    results: Results, table: Table, block: Block, records: dict[str, list[Record]], metrics: Sequence[str]
) -> Order:
    matches = {label: match(results, found[0]) for label, found in records.items() if found}
    metric = next((m for m in metrics if any(_fact(found, m) for found in matches.values())), "")
    measured = {
        label: {r.seed: r for r in records[label] if not isnan(r.metrics.get(metric, np.nan))} for label in matches
    }
    facts, twice = _chosen({label: found for label, found in matches.items() if measured[label]}, metric)
    labels = list(facts)
    seeds = sorted(set.intersection(*(set(measured[label]) for label in labels))) if labels else []
    remark = _obstacle(labels, seeds, metric)
    if not seeds:
        return Order(title(block), metric, (), (), None, "", (), twice, remark)
    values, over = _values(results, [[measured[label][s] for s in seeds] for label in labels], metric)
    sign = 1 if parse(metric).metric.better == "higher" else -1
    ranked = _ranked(labels, list(facts.values()), values.mean((0, 1)), sign)
    agreement = None if remark else order_agreement(values, [fact.value for fact in facts.values()])
    if agreement is not None and not over:
        agreement = replace(agreement, low=None, high=None)
    if agreement is not None and agreement.tau is None:
        remark = "One of the two sides has no order: all values are equal."
    swaps = _swaps(ranked, table, block, metric)
    return Order(title(block), metric, ranked, tuple(seeds), agreement, over, swaps, twice, remark)


def _chosen(matches: dict[str, list[Match]], metric: str) -> tuple[dict[str, Fact], tuple[str, ...]]:
    """Give each published row the one of ours that is closest to it, the first of equals; and name the others."""
    chosen: dict[str, tuple[int, str, Fact]] = {}  # by published name
    twice = []
    for label, found in matches.items():
        fact = _fact(found, metric)
        if fact is None:
            continue
        distance = min(len(m.remarks) for m in found)
        known = chosen.get(fact.method)
        if known is not None and known[0] <= distance:
            twice.append(label)
            continue
        if known is not None:
            twice.append(known[1])
        chosen[fact.method] = (distance, label, fact)
    facts = {label: fact for _, label, fact in chosen.values()}
    return {label: facts[label] for label in matches if label in facts}, tuple(twice)


def _fact(found: Sequence[Match], metric: str) -> Fact | None:
    """Return the published value of the paper's first table that has the row."""
    facts = [f for m in found for f in find(m.dataset, m.backbone, m.variant.published, metric)]
    return min(facts, key=lambda fact: fact.table, default=None)


def _obstacle(labels: Sequence[str], seeds: Sequence[int], metric: str) -> str:
    if not metric:
        return "No row and column of this block are published."
    if len(labels) < LEAST:
        return f"{len(labels)} {'row' if len(labels) == 1 else 'rows'} in common; an order needs {LEAST}."
    return "" if seeds else "The rows in common have no seed in common."


def _values(results: Results, cells: list[list[Record]], metric: str) -> tuple[Floats, str]:
    """Values of M rows on their common seeds, [S, U, M], and over what they may be resampled.

    Metrics of all lists have one "user".
    """
    S, flat = len(cells[0]), [r for row in cells for r in row]
    if parse(metric).metric.level == "user" and results.has_users(flat, metric):
        values = results.values(flat, metric)
        if np.isfinite(values).all():
            return values.reshape(len(cells), S, -1).transpose(1, 2, 0), "users and seeds" if S > 1 else "users"
    values = np.array([r.metrics[metric] for r in flat]).reshape(len(cells), S)
    return values.T[:, None, :], "seeds" if S > 1 else ""


def _ranked(labels: Sequence[str], facts: Sequence[Fact], means: Floats, sign: int) -> tuple[Ranked, ...]:
    theirs = [fact.value for fact in facts]
    rows = [
        Ranked(
            row=label,
            fact=fact,
            mean=float(mean),
            place=1 + int((sign * means > sign * mean).sum()),
            published_place=1 + sum(sign * v > sign * fact.value for v in theirs),
        )
        for label, fact, mean in zip(labels, facts, means, strict=True)
    ]
    return tuple(sorted(rows, key=lambda r: r.place))


def _swaps(ranked: Sequence[Ranked], table: Table, block: Block, metric: str) -> tuple[Swap, ...]:
    """Pairs in our order that the paper has the other way round."""
    starred = {row.label for row in block.rows if row.comparison is not None and row.comparison.star}
    tested = metric == table.config.primary
    return tuple(
        Swap(a.row, b.row, tested and block.baseline in (a.row, b.row) and bool(starred & {a.row, b.row}))
        for a, b in combinations(ranked, 2)
        if a.place < b.place and a.published_place > b.published_place
    )
