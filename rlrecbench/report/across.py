"""All blocks together: who wins how often, by how much, and which ranks cannot be told apart."""

from itertools import combinations

import numpy as np

from rlrecbench import stats
from rlrecbench.metrics import parse
from rlrecbench.report.table import Across
from rlrecbench.results import Block, Results
from rlrecbench.stats import StatsConfig
from rlrecbench.stats.blocks import LEAST_BLOCKS, LEAST_METHODS, Judged, critical_difference, win_tie_loss


def across(results: Results, config: StatsConfig) -> Across | None:
    """Compare all pairs of rows in every block by the two-way test and count; None with fewer than two blocks.

    Within a block the p-values of all pairs are corrected together, as the suite declares. Blocks of one data set
    share its users and blocks of one backbone its model, so they are not independent: a count is a summary, not a
    test.
    """
    metric = config.primary
    blocks = [block for block in results.blocks(config.rows) if _measured(results, block, metric)]
    if len(blocks) < 2:
        return None
    axis = results.axes(config.rows).rows
    rows = tuple(label for label in axis if any(block.records.get(label) for block in blocks))
    ranked = tuple(label for label in rows if all(block.records.get(label) for block in blocks))
    ranks = None
    if len(blocks) >= LEAST_BLOCKS and len(ranked) >= LEAST_METHODS:
        scores = [[_mean(block, label, metric) for label in ranked] for block in blocks]
        ranks = critical_difference(scores, parse(metric).metric.better, config.alpha)
    pairs = win_tie_loss([_judge(results, block, config) for block in blocks])
    return Across(rows, len(blocks), pairs, ranked, ranks)


def _judge(results: Results, block: Block, config: StatsConfig) -> dict[tuple[str, str], Judged]:
    """What came of comparing every two rows of a block."""
    metric, better = config.primary, parse(config.primary).metric.better
    tests = {}
    for a, b in combinations(_measured(results, block, metric), 2):
        difference = results.difference(block.records[a], block.records[b], metric)
        if difference.size:
            tests[a, b] = stats.two_way(difference)
    corrected = stats.corrected(list(tests.values()), config.correction)
    out = {}
    for ((a, b), test), p in zip(tests.items(), corrected, strict=True):
        mean = _mean(block, b, metric)
        verdict = stats.verdict(test, mean, config.min_effect, config.alpha, p, better)
        out[a, b] = Judged(verdict, test.mean / abs(mean) if mean else None)
    return out


def _measured(results: Results, block: Block, metric: str) -> list[str]:
    """Labels of the rows that have the metric per user."""
    return [label for label, records in block.records.items() if records and results.has_users(records, metric)]


def _mean(block: Block, label: str, metric: str) -> float:
    return float(np.mean([r.metrics.get(metric, np.nan) for r in block.records[label]]))
