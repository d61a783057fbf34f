"""Supervised training of TIGER on Beauty, against loops around ``T5ForConditionalGeneration`` on the same weights.

All take gradient steps in float32 with the same dropout rate, AdamW and clipping, on as many training pairs. The
padded loop shuffles the pairs and fills every history up to 20 items; the bucketed one takes the very batches of
similar length that ours takes. Equal means that both give the same loss for a batch, dropout off.
"""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlrecbench import registry
from rlrecbench.bench.step import TOLERANCE
from rlrecbench.bench.timing import Result, compare
from rlrecbench.bench.world import ITEMS, Ints, index
from rlrecbench.catalogue import Catalogue
from rlrecbench.config import build
from rlrecbench.data.frame import Examples
from rlrecbench.data.prepare import DataOptions, prepare
from rlrecbench.method import Drawn, methods
from rlrecbench.policy.t5 import PAD, PRESETS, T5Policy, T5Shape
from rlrecbench.train.budget import Budget, epoch_batches
from rlrecbench.train.loop import Batch, Learner, prompts_of

PAIRS, LONGEST = 131_413, 20  # training pairs of Beauty; items of a history: LETTER
QUARTILES = (1, 2, 4, 9, LONGEST)  # of the lengths of Beauty's training histories
EVERY = 10  # of a bucket's fifty batches one in ten is trained on: all lengths, five gradient steps
CPU = torch.device("cpu")


class TrainingWorld:
    """Some batches of an epoch, and a model that starts from the same weights in every loop.

    Args:
        pairs: Training pairs.
        catalogue: Items and their codes.
        shape: Size of the T5.
        budget: Batch size, learning rate and clipping.
    """

    def __init__(
        self, pairs: Examples, catalogue: Catalogue, shape: T5Shape = PRESETS["paper"], budget: Budget | None = None
    ) -> None:
        self.pairs, self.catalogue, self.shape, self.budget = pairs, catalogue, shape, budget or Budget()
        batches = [b for b in epoch_batches(pairs, self.budget, 0, 0) if len(b) == self.budget.batch_size][:50]
        self.bucketed = sorted(batches, key=lambda b: int(pairs.lengths[b].max()))[EVERY // 2 :: EVERY]
        rows = np.random.default_rng(0).permutation(np.concatenate(self.bucketed))
        self.shuffled = np.split(rows, len(self.bucketed))

    def policy(self) -> T5Policy:
        """The model before training."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return T5Policy(self.catalogue, self.shape)

    def optimizer(self, model: torch.nn.Module) -> torch.optim.AdamW:
        """The optimiser of every loop."""
        return torch.optim.AdamW(model.parameters(), self.budget.lr, weight_decay=self.budget.weight_decay, fused=True)

    def descend(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        """One gradient step, the same in every loop."""
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.budget.clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), self.budget.clip)
        optimizer.step()


def trainings(data: Path | None) -> dict[str, Callable[[int], Result]]:
    """The benchmarks ``train/t5-padded`` and ``train/t5-bucketed``.

    Args:
        data: Folder with ``beauty``; without it pairs of as many items and histories of about the same lengths.
    """

    @cache
    def world() -> TrainingWorld:
        paths = index(data, np.random.default_rng(0))
        return TrainingWorld(_pairs(data), Catalogue(paths, vocab=int(paths.max()) + 1))

    return {
        "train/t5-padded": lambda repeats: padded(world(), repeats),
        "train/t5-bucketed": lambda repeats: bucketed(world(), repeats),
    }


def padded(world: TrainingWorld, repeats: int) -> Result:
    """Ours against the loop that fills every history up to 20 items.

    Args:
        world: What is trained on.
        repeats: Alternating repeats.
    """
    words = f"T5ForConditionalGeneration, histories padded to {LONGEST} items"
    return _against("train/t5-padded", words, world, Plain(world, world.shuffled, LONGEST), repeats)


def bucketed(world: TrainingWorld, repeats: int) -> Result:
    """Ours against the loop that takes batches of similar length.

    Args:
        world: What is trained on.
        repeats: Alternating repeats.
    """
    words = "T5ForConditionalGeneration, batches of similar length"
    return _against("train/t5-bucketed", words, world, Plain(world, world.bucketed), repeats)


def _against(name: str, words: str, world: TrainingWorld, plain: "Plain", repeats: int) -> Result:
    ours, first = Ours(world), world.bucketed[0]
    same = abs(ours.evaluated(first) - plain.evaluated(first)) < TOLERANCE
    ours.step(first)
    plain.step(first)
    words += f", {len(world.bucketed) * world.budget.batch_size:,} training pairs"
    return compare(name, words, ours, plain, same, repeats)


class Ours:
    """Gradient steps as the training loop takes them.

    Args:
        world: What is trained on.
    """

    def __init__(self, world: TrainingWorld) -> None:
        registry.load()
        self.world = world
        method: Any = build(methods["sft"], {}, "train/")
        self.learner = Learner(world.policy(), method, None)
        self.optimizer = world.optimizer(self.learner)

    def loss(self, rows: Ints) -> Tensor:
        """Negative log-likelihood per token, in nats."""
        pairs = self.world.pairs
        drawn = Drawn(torch.from_numpy(pairs.target[rows])[:, None])
        loss: Tensor = self.learner(Batch(drawn, prompts_of(pairs, "train", rows, CPU), {}, 0, 0.0, None))
        return loss

    def evaluated(self, rows: Ints) -> float:
        """The loss without dropout."""
        self.learner.eval()
        with torch.no_grad():
            return float(self.loss(rows))

    def step(self, rows: Ints) -> None:
        """One gradient step."""
        self.learner.train()
        self.world.descend(self.learner, self.optimizer, self.loss(rows))

    def __call__(self) -> None:
        """All steps."""
        for rows in self.world.bucketed:
            self.step(rows)


class Plain:
    """The same as a user of transformers writes it.

    Args:
        world: What is trained on.
        batches: Rows of each gradient step.
        width: Items that histories are filled up to; None: the longest of the batch.
    """

    def __init__(self, world: TrainingWorld, batches: Sequence[Ints], width: int | None = None) -> None:
        self.world, self.batches, self.width = world, batches, width
        self.model: Any = world.policy().t5
        self.optimizer = world.optimizer(self.model)
        self.codes = torch.from_numpy(world.catalogue.paths)

    def loss(self, rows: Ints) -> Tensor:
        """Negative log-likelihood per token, in nats."""
        history = torch.from_numpy(self.world.pairs.padded(rows))
        codes = torch.where(history[..., None] >= 0, self.codes[history.clamp(min=0)], PAD)
        if self.width is not None:
            codes = torch.nn.functional.pad(codes, (0, 0, 0, self.width - codes.shape[1]), value=PAD)
        prompt = codes.flatten(1)
        labels = self.codes[torch.from_numpy(self.world.pairs.target[rows])]
        loss: Tensor = self.model(input_ids=prompt, attention_mask=(prompt != PAD).long(), labels=labels).loss
        return loss

    def evaluated(self, rows: Ints) -> float:
        """The loss without dropout."""
        self.model.eval()
        with torch.no_grad():
            return float(self.loss(rows))

    def step(self, rows: Ints) -> None:
        """One gradient step."""
        self.model.train()
        self.world.descend(self.model, self.optimizer, self.loss(rows))

    def __call__(self) -> None:
        """All steps."""
        for rows in self.batches:
            self.step(rows)


def _pairs(data: Path | None) -> Examples:
    """Training pairs of Beauty, or random ones."""
    if data is not None and (data / "beauty").is_dir():
        return prepare("beauty", DataOptions(), [data]).train
    rng = np.random.default_rng(0)
    lengths = np.floor(np.interp(rng.random(PAIRS), np.linspace(0, 1, len(QUARTILES)), QUARTILES)).astype(np.int64)
    offsets = np.concatenate([[0], lengths.cumsum()])
    return Examples(
        np.arange(PAIRS), offsets, rng.integers(ITEMS, size=int(offsets[-1])), rng.integers(ITEMS, size=PAIRS)
    )
