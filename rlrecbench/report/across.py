"""All blocks together: who wins how often, by how much, and which ranks cannot be told apart."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from rlrecbench import stats
from rlrecbench.metrics import parse
from rlrecbench.report.comparison import shared
from rlrecbench.report.table import Across
from rlrecbench.results import NO_BACKBONE, Block, Record, Results
from rlrecbench.stats import StatsConfig
from rlrecbench.stats.blocks import LEAST_BLOCKS, LEAST_METHODS, Judged, critical_difference, win_tie_loss


def across(results: Results, config: StatsConfig) -> Across | None:
    """Compare all pairs of rows in every block by the two-way test and count; None with fewer than two blocks.

    Within a block the p-values of all pairs are corrected together, as the suite declares. Two rankers without a
    backbone are compared once per data set, though they stand in all its blocks, and have no part in the ranks. Blocks
    of one data set share its users and blocks of one backbone its model, so they are not independent: a count is a
    summary, not a test.
    """
    metric = config.primary
    blocks = [block for block in results.blocks(config.rows) if _measured(results, block, metric)]
    if len(blocks) < 2:
        return None
    axis = results.axes(config.rows).rows
    there = [set(_measured(results, block, metric)) for block in blocks]
    rows = tuple(label for label in axis if any(label in labels for labels in there))
    bare = {label for block in blocks for label, records in block.records.items() if _is_bare(records)}
    ranked = tuple(label for label in rows if label not in bare and all(label in labels for labels in there))
    ranks = None
    if len(blocks) >= LEAST_BLOCKS and len(ranked) >= LEAST_METHODS:
        scores = [[_mean(block.records[label], metric) for label in ranked] for block in blocks]
        ranks = critical_difference(scores, parse(metric).metric.better, config.alpha)
    judged, seen = [], set()
    for block in blocks:
        judged.append(_judge(results, block, config, bare if block.dataset in seen else set()))
        seen.add(block.dataset)
    return Across(rows, len(blocks), win_tie_loss(judged), ranked, ranks)


def _judge(results: Results, block: Block, config: StatsConfig, again: set[str]) -> dict[tuple[str, str], Judged]:
    """What came of comparing every two rows of a block, but for two that were compared before."""
    metric, better = config.primary, parse(config.primary).metric.better
    tests, means = {}, {}
    for a, b in combinations(_measured(results, block, metric), 2):
        one, two = shared(block.records[a], block.records[b])
        if one and not {a, b} <= again:
            tests[a, b] = stats.two_way(results.difference(one, two, metric))
            means[a, b] = _mean(two, metric)
    corrected = stats.corrected(list(tests.values()), config.correction)
    out = {}
    for (pair, test), p in zip(tests.items(), corrected, strict=True):
        mean = means[pair]
        verdict = stats.verdict(test, mean, config.min_effect, config.alpha, p, better)
        out[pair] = Judged(verdict, test.mean / abs(mean) if mean else None)
    return out


def _measured(results: Results, block: Block, metric: str) -> list[str]:
    """Labels of the rows that have the metric per user, everywhere defined."""
    return [
        label
        for label, records in block.records.items()
        if records and results.has_users(records, metric) and np.isfinite(results.values(records, metric)).all()
    ]


def _is_bare(records: Sequence[Record]) -> bool:
    return bool(records) and records[0].backbone == NO_BACKBONE


def _mean(records: Sequence[Record], metric: str) -> float:
    return float(np.mean([r.metrics[metric] for r in records]))
