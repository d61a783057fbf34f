"""The leaderboard as data: blocks, rows, values, comparisons. Nothing is rounded or worded here."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Literal

from rlrecbench.stats import Direction, Interval, StatsConfig, Tally, Test, Verdict
from rlrecbench.stats.blocks import CriticalDifference, WinTieLoss

Mark = Literal["", "best", "second"]
Level = Literal["user", "list"]


@dataclass(frozen=True)
class Column:
    """One metric.

    Attributes:
        metric: Full name, such as ``ndcg@10``.
        better: Which direction is better.
        level: "user" for a mean of per-user values, "list" for a value of all lists together.
    """

    metric: str
    better: Direction
    level: Level


@dataclass(frozen=True)
class Contrast:
    """A row against the baseline on a metric that is not the primary one: descriptive, no verdict.

    Attributes:
        test: Difference, interval and raw p.
        corrected_p: p after Benjamini and Hochberg, over all such comparisons of the block.
        notable: Whether corrected p lies below alpha, with more than one seed.
        family_p: p before that correction, none counted less noisy over seeds than the metric's other comparisons
            (:func:`~rlrecbench.stats.family_p`).
        swap_p: For a metric of all lists together: p of swapping users' lists between these checkpoints, uncorrected;
            None where the lists cannot be read.
    """

    test: Test
    corrected_p: float
    notable: bool
    family_p: float
    swap_p: float | None


@dataclass(frozen=True)
class Value:
    """One metric of one row.

    Attributes:
        mean: Mean over seeds; NaN where the metric is undefined.
        std: Standard deviation over seeds (S - 1 in the denominator); None with one seed.
        mark: Best or second of its block.
        seeds: Value of each of the row's seeds; NaN where undefined or not measured.
        contrast: Against the baseline; None for the baseline, for the primary metric, and where there is none.
    """

    mean: float
    std: float | None
    mark: Mark
    seeds: tuple[float, ...]
    contrast: Contrast | None


@dataclass(frozen=True)
class Comparison:
    """A row against the baseline on the primary metric.

    Attributes:
        test: Difference, interval and raw p.
        corrected_p: p after correction over the block's family.
        family_p: p before it (:func:`~rlrecbench.stats.family_p`).
        star: Whether to print one: corrected p below alpha, and more than one seed.
        verdict: What it came to.
        baseline_mean: The baseline's mean over the seeds that were compared.
        ratio: Difference as a share of that mean, with its own interval; None where there are no values per user, the
            test is not the two-way one, or the mean is 0.
        tally: Users and seeds won and lost; None where there are no per-user values.
        seeds_needed: About how many seeds would settle a "cannot tell"; None if not known.
    """

    test: Test
    corrected_p: float
    family_p: float
    star: bool
    verdict: Verdict
    baseline_mean: float
    ratio: Interval | None
    tally: Tally | None
    seeds_needed: int | None

    def relative(self, value: float) -> float | None:
        """A difference as a share of the baseline's mean; None where that is 0."""
        return value / abs(self.baseline_mean) if self.baseline_mean else None


@dataclass(frozen=True)
class Row:
    """What is compared: a method, or a backbone.

    Attributes:
        label: Of the method or the backbone; a ranker without a backbone has its own.
        seeds: Seeds that are done.
        bare: Whether it is a ranker without a backbone, and stands in every block of the data set.
        values: By metric; None where nothing is done or the metric was not measured.
        comparison: Against the baseline; None for the baseline, or where there is none.
        audit: Counts over all seeds.
        cost: Means over seeds.
    """

    label: str
    seeds: tuple[int, ...]
    bare: bool
    values: dict[str, Value | None]
    comparison: Comparison | None
    audit: dict[str, int]
    cost: dict[str, float]


@dataclass(frozen=True)
class Block:
    """One data set, and one backbone (rows are methods) or one method (rows are backbones).

    Attributes:
        dataset: Name.
        label: Of the backbone or the method; "none" where only rankers without a backbone have results.
        rows: In suite order.
        users: Test users.
        fingerprint: Identity of the protocol.
        missing: Seeds that are not done, by row.
        failed: How many of the missing cells failed in the last run.
        baseline: Label of the row that the others are compared with; "" where none could be chosen.
        remark: Why rows are not compared; "" if they are.
        contrasts: Number of secondary comparisons that their correction is over.
    """

    dataset: str
    label: str
    rows: tuple[Row, ...]
    users: int
    fingerprint: str
    missing: dict[str, tuple[int, ...]]
    failed: int
    baseline: str
    remark: str
    contrasts: int

    @property
    def family(self) -> int:
        """Number of comparisons that the correction is over."""
        return sum(row.comparison is not None for row in self.rows)


@dataclass(frozen=True)
class Across:
    """The primary metric over all blocks together.

    Attributes:
        rows: Labels of the rows with a result, in suite order.
        blocks: Number of blocks.
        pairs: By the labels of two rows, each pair in both orders; only pairs that share a block.
        ranked: Labels of the rows that every block has, in the order of ``ranks``.
        ranks: Average ranks with the groups that cannot be told apart; None with fewer than eight blocks.
    """

    rows: tuple[str, ...]
    blocks: int
    pairs: dict[tuple[str, str], WinTieLoss]
    ranked: tuple[str, ...]
    ranks: CriticalDifference | None


@dataclass(frozen=True)
class Table:
    """A leaderboard.

    Attributes:
        suite: Name of the suite.
        columns: Metrics, in order.
        config: What was declared about the comparisons, the baseline filled in; ``rows`` says what a row is.
        seeds: Seeds of the suite.
        blocks: In suite order.
        empty: Data set and label of the blocks in which nothing is done yet.
        across: All blocks together; None with fewer than two.
    """

    suite: str
    columns: tuple[Column, ...]
    config: StatsConfig
    seeds: tuple[int, ...]
    blocks: tuple[Block, ...]
    empty: tuple[tuple[str, str], ...]
    across: Across | None


def marks(values: Sequence[float | None], better: Direction) -> list[Mark]:
    """Mark the best and the second best values, ties alike; nothing where all are equal.

    Args:
        values: Unrounded; None and NaN are left out.
        better: Direction of the metric.
    """
    known = {v for v in values if v is not None and not isnan(v)}
    ranked = sorted(known, reverse=better == "higher")
    if len(ranked) < 2:
        return [""] * len(values)
    names: dict[float | None, Mark] = {ranked[0]: "best", ranked[1]: "second"}
    return [names.get(v, "") for v in values]
