"""What training may spend, its learning-rate schedule, and the order of its batches."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Interval
from numpy.typing import NDArray

from rlrecbench.config import Count, Positive, Share, Weight
from rlrecbench.data.frame import Examples
from rlrecbench.seeds import stream

Ints = NDArray[np.int64]
_BUCKET = 50  # batches whose rows are sorted by length together


@dataclass(frozen=True)
class Budget:
    """The training budget: a suite's ``train:``, unless a method's class or its entry in the suite says otherwise.

    Source: LETTER's training script (lr, weight decay, warm-up, epochs, patience).
    """

    epochs: Count = 200  # passes over the training pairs
    batch_size: Count = 256  # prompts per gradient step
    epoch_share: Annotated[float, Interval(gt=0, le=1)] = 1.0  # share of the training pairs that an epoch visits
    max_steps: Count | None = None  # gradient steps at most
    max_examples: Count | None = None  # training pairs seen at most, over all epochs
    lr: Positive = 5e-4  # peak learning rate of AdamW
    weight_decay: Weight = 0.01  # not on norms, biases and heads
    schedule: Literal["cosine", "linear", "constant"] = "cosine"  # after the warm-up, down to 0
    warmup: Share = 0.01  # share of the steps
    clip: Positive | None = 1.0  # gradient norm
    patience: Count | None = 20  # evaluations without a better ndcg@10 before training stops
    eval_every: Count = 1  # epochs between evaluations on the validation part
    eval_examples: Count | None = None  # validation rows used, a fixed random subset; none: all
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # autocast (auto: on CUDA); weights stay float32

    def rows_per_epoch(self, rows: int) -> int:
        """Number of training pairs that one epoch visits, of ``rows``."""
        return math.ceil(self.epoch_share * rows)

    def steps_per_epoch(self, rows: int) -> int:
        """Number of draws (batches) in an epoch."""
        return math.ceil(self.rows_per_epoch(rows) / self.batch_size)

    def total_steps(self, rows: int) -> int:
        """Number of draws (batches) that the budget allows for ``rows`` training pairs."""
        per_epoch = self.steps_per_epoch(rows)
        total = per_epoch * self.epochs
        if self.max_steps is not None:
            total = min(total, self.max_steps)
        if self.max_examples is not None:
            full, rest = divmod(self.max_examples, self.rows_per_epoch(rows))
            total = min(total, full * per_epoch + math.ceil(rest / self.batch_size))
        return max(total, 1)

    def lr_factor(self, step: int, total: int) -> float:
        """Learning rate of a step as a share of the peak."""
        warm = round(self.warmup * total)
        if step < warm:
            return (step + 1) / (warm + 1)
        if self.schedule == "constant":
            return 1.0
        done = (step - warm) / max(1, total - warm)
        return 1 - done if self.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))


def epoch_batches(examples: Examples, budget: Budget, seed: int, epoch: int, subset: int | None = None) -> list[Ints]:
    """Split one epoch's rows into batches of similar history length.

    Rows are shuffled, sorted by length within buckets of 50 batches, cut, and the batches shuffled again:
    random enough for the gradient, and hardly any padding.

    Args:
        examples: The training pairs.
        budget: Its batch size, and the share of the pairs that an epoch visits.
        seed: Root seed.
        epoch: Epochs done.
        subset: Number of the random subset, if the share is below 1; None: the epoch's own.
    """
    rng = np.random.default_rng(stream(seed, "order", epoch))
    batch_size, n = budget.batch_size, budget.rows_per_epoch(len(examples))
    rows = rng.permutation(len(examples))
    if n < len(rows):
        of = np.random.default_rng(stream(seed, "subset", epoch if subset is None else subset))
        rows = rng.permutation(of.permutation(len(examples))[:n])
    batches: list[Ints] = []
    for at in range(0, len(rows), batch_size * _BUCKET):
        bucket = rows[at : at + batch_size * _BUCKET]
        bucket = bucket[np.argsort(examples.lengths[bucket], kind="stable")]
        batches += [bucket[i : i + batch_size] for i in range(0, len(bucket), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def by_length(examples: Examples, rows: Ints, batch_size: int) -> list[Ints]:
    """Cut rows into batches of similar history length, longest first, for ranking."""
    rows = rows[np.argsort(-examples.lengths[rows], kind="stable")]
    return [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
