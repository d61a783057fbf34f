"""What a suite declares about its statistics, and the names it may use."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval

from rlrecbench.config import Weight

TestName = Literal["two-way", "t-seeds", "t-users", "permutation", "bootstrap", "bca", "wilcoxon"]
Correction = Literal["holm", "bh", "none"]
Direction = Literal["higher", "lower"]
Rows = Literal["methods", "backbones"]
BEST = "best"  # as a baseline: the row of each block with the best validation value; test is not looked at


@dataclass(frozen=True)
class StatsConfig:
    """What a suite declares before it runs: one metric, one baseline, one family of comparisons per block."""

    primary: str = "ndcg@10"  # metric on which rows are compared
    rows: Rows = "methods"  # what is compared in a block: methods on one backbone, or backbones under one method
    baseline: str | None = None  # label of the row to compare with, or "best"; none: sft, or the first backbone
    alpha: Annotated[float, Interval(gt=0, lt=1)] = 0.05  # level of the corrected test
    correction: Correction = "holm"  # over all rows of a block against the baseline
    min_effect: Weight = 0.02  # share of the baseline's mean below which a difference does not matter
    test: TestName = "two-way"  # the others exist for comparison with papers
