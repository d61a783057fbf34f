"""Does a method keep the plug-in contract? Each check says so with what it measured.

The world is small but real: 96 items, some of them sharing a leaf, collaborative scores, 256 training pairs. The items
are three codes under a T5 of two layers, or titles under a language model of one. A newcomer's method goes through the
same checks as ours.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, wraps
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from rlrecbench.backbones import BigrecQwen
from rlrecbench.catalogue import Catalogue
from rlrecbench.collab import Collab
from rlrecbench.config import build, plain
from rlrecbench.data.frame import Dataset, Examples
from rlrecbench.identifiers import models
from rlrecbench.identifiers.titles import Titles, make
from rlrecbench.method import Draw, FineTune, Prompts, Ranker, RankJob, check_declarations, methods
from rlrecbench.policy.base import Policy, trained
from rlrecbench.policy.language import TinyShape
from rlrecbench.policy.t5 import PRESETS, T5Policy
from rlrecbench.seeds import generator
from rlrecbench.train import Budget, TrainJob, train
from rlrecbench.train.loop import Batch, Learner, cut, draw_batch, prompts_of

_B = 24
_DECODER = BigrecQwen(tiny=TinyShape(layers=1, d_model=32, heads=2, kv_heads=1, d_ff=64))
Kind = Literal["codes", "titles"]
Check = Callable[["Probe"], str]


class Result(NamedTuple):
    """The verdict of one check."""

    name: str
    held: bool
    detail: str


class BrokenError(Exception):
    """A check did not hold."""


def check(name: str, settings: dict[str, object] | None = None, kind: Kind | None = None) -> Iterator[Result]:
    """Run all checks that apply to a method, one after another.

    Args:
        name: Registered name.
        settings: Hyper-parameters that differ from the defaults.
        kind: What the items are; None: codes, but titles for a ranker that reads texts with the untrained backbone.

    Raises:
        BenchError: No such method, or wrong settings.
    """
    method = build(methods[name], settings or {}, name)
    probe = Probe(method, kind or ("titles" if "base" in method.needs else "codes"))
    checks = _TUNER if isinstance(method, FineTune) else _RANKER
    for run in checks:
        label = (run.__doc__ or run.__name__).partition("\n")[0].rstrip(".")
        try:
            yield Result(label, True, run(probe))
        except BrokenError as e:
            yield Result(label, False, str(e))
        except Exception as e:
            yield Result(label, False, f"{type(e).__name__}: {e}")


class Probe:
    """A small world and the method in it."""

    def __init__(self, method: Ranker, kind: Kind = "codes") -> None:
        self.method, self.kind = method, kind
        rng = np.random.default_rng(7)
        self.data = _world(rng)
        self.collab = Collab(
            torch.as_tensor(rng.normal(size=(self.data.n_items, 8)), dtype=torch.float32),
            {
                p: torch.as_tensor(rng.normal(size=(len(self.data.part(p)), 8)), dtype=torch.float32)
                for p in ("train", "valid", "test")
            },
        )
        self.text = torch.nn.functional.normalize(
            torch.as_tensor(rng.normal(size=(self.data.n_items, 8)), dtype=torch.float32)
        )

    @property
    def tuner(self) -> FineTune:
        """The method, if it trains."""
        assert isinstance(self.method, FineTune)  # noqa: S101 - only tuners come here
        return self.method

    @property
    def epochs(self) -> range:
        """Epochs whose losses are looked at: a method with rounds may have two kinds."""
        rounds = isinstance(self.tuner.reference, int) or (self.tuner.redraw or 0) > 1
        return range(2 if rounds else 1)

    @cached_property
    def titles(self) -> Titles:
        """The items' titles as a language model's tokens."""
        titles = self.data.items.title.tolist()
        titles[:4] = titles[:1] * 4
        return make(titles, self.data.items.item_id.tolist(), _DECODER.ids, models.TINY, "things")

    def policy(self) -> Policy:
        """A fresh policy, the same at every call."""
        if self.kind == "titles":
            return _DECODER.policy(self.titles, 3, models.TINY)
        rng = np.random.default_rng(11)
        codes = rng.integers(0, 6, size=(self.data.n_items, 3))
        codes[:4] = codes[0]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            catalogue = Catalogue(1 + codes + 6 * np.arange(3), 19)
            return T5Policy(catalogue, replace(PRESETS["tiny"], dropout=0.1))

    def learner(self) -> Learner:
        """A fresh learner with a slightly different reference, so that gains are not all zero."""
        torch.manual_seed(5)
        policy, reference = self.policy(), None
        if self.tuner.reference is not None:
            reference = self.policy()
            with torch.no_grad():
                for p in reference.parameters():
                    p.add_(0.02 * torch.randn_like(p))
        return Learner(policy, self.tuner, reference.eval() if reference is not None else None).eval()

    def draw(self, policy: Policy, seed: int = 0, progress: float = 0.5, epoch: int = 0) -> Draw:
        """A batch of the first prompts, for which candidates can be drawn."""
        prompts, target = self.prompts()
        return Draw(
            prompts, target, policy, generator(seed, "check"), torch.as_tensor(self.data.popularity), progress, epoch,
            self.collab, torch.as_tensor(self.data.frequency), self.text, self.method.fit(self.data),
        )  # fmt: skip

    def batch(
        self, learner: Learner, seed: int = 0, progress: float = 0.5, epoch: int = 0, begin: bool = False
    ) -> Batch:
        """Draw for the first prompts, as the training loop does, for use in some epoch."""
        drawn_in = epoch // self.tuner.redraw * self.tuner.redraw if self.tuner.redraw else epoch
        draw = self.draw(learner.policy, seed, progress, drawn_in)
        drawn, kept = draw_batch(learner, draw, begin)
        return Batch(drawn, draw.prompts, kept, epoch, progress, {})

    def prompts(self) -> tuple[Prompts, Tensor]:
        """The first prompts and their targets."""
        rows = np.arange(_B)
        return prompts_of(self.data.train, "train", rows, torch.device("cpu")), torch.as_tensor(
            self.data.train.target[rows]
        )

    def train(self, folder: Path, epochs: int = 2, stop: bool = False) -> dict[str, Tensor]:
        """Train for some epochs; stop interrupts in the middle of the last one, with the state saved."""

        def report(done: float, total: float, note: str) -> None:
            if stop and note.startswith("epoch") and total * (epochs - 1) / epochs < done < total:
                raise KeyboardInterrupt

        whole = {"epochs": epochs, "batch_size": 32, "epoch_share": 1.0, "max_steps": None, "max_examples": None}
        budget = build(Budget, {**dict(self.tuner.budget), **whole}, "check")
        job = TrainJob(
            data=self.data, policy=self.policy(), method=self.tuner, budget=budget, seed=1, folder=folder,
            collab=self.collab, text=self.text, beams=10, device="cpu",
        )  # fmt: skip
        return train(job, report).weights


def round_trip(probe: Probe) -> str:
    """Settings survive a round trip through JSON, and what is declared exists."""
    check_declarations(probe.method, "check")
    again = build(type(probe.method), json.loads(json.dumps(plain(probe.method))), "check")
    _must(again == probe.method, f"{again} differs from {probe.method}")
    return f"{len(plain(probe.method))} settings"


def candidates(probe: Probe) -> str:
    """Candidates are [B, C] item ids, and the same stream draws the same."""
    learner = probe.learner()
    items = probe.batch(learner).drawn.items
    _must(items.shape[0] == _B and items.ndim == 2, f"shape {tuple(items.shape)}, expected [{_B}, C]")
    _must(items.dtype == torch.int64, f"dtype {items.dtype}, expected int64")
    _must(int(items.min()) >= -1 and int(items.max()) < probe.data.n_items, "an id is outside -1..N-1")
    _must(torch.equal(items, probe.batch(learner).drawn.items), "two draws from the same stream differ")
    return f"C = {items.shape[1]}"


def no_leak(probe: Probe) -> str:
    """No candidate but the first column is the target, shares its leaf, or comes from the history."""
    if probe.tuner.rollouts:
        return "not asked of a method that declares rollouts"
    learner = probe.learner()
    items = probe.batch(learner).drawn.items[:, 1:]
    prompts, target = probe.prompts()
    leaf = learner.policy.trie.leaf_of
    leaked = (leaf[items.clamp(min=0)] == leaf[target][:, None]) & (items >= 0)
    seen = (items[:, :, None] == prompts.history[:, None, :]).any(2) & (items >= 0)
    _must(not leaked.any(), f"{int(leaked.sum())} candidates are the target or share its leaf")
    _must(not seen.any(), f"{int(seen.sum())} candidates stand in the history")
    return f"{items.numel()} candidates"


def each_kind_of_epoch(run: Callable[[Probe, int], str]) -> Check:
    """Make a check of one that looks at a single epoch."""

    @wraps(run)
    def check(probe: Probe) -> str:
        return "; ".join(run(probe, epoch) for epoch in probe.epochs)

    return check


@each_kind_of_epoch
def scalar_loss(probe: Probe, epoch: int) -> str:
    """The loss is a finite scalar and its gradient reaches the backbone."""
    learner = probe.learner()
    loss = learner(probe.batch(learner, epoch=epoch))
    _must(loss.ndim == 0, f"the loss has shape {tuple(loss.shape)}")
    _must(bool(loss.isfinite()), f"the loss is {loss.detach()}")
    loss.backward()
    value = float(loss.detach())
    size = sum(float(p.grad.square().sum()) for p in learner.policy.parameters() if p.grad is not None)
    _must(0 < size < float("inf"), f"the squared gradient norm is {size}")
    return f"loss {value:.4f}, gradient norm {size**0.5:.4f}"


@each_kind_of_epoch
def permutation(probe: Probe, epoch: int) -> str:
    """Permuting the prompts changes nothing."""
    learner = probe.learner()
    batch = probe.batch(learner, epoch=epoch)
    order = torch.randperm(_B, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one, two = float(learner(batch)), float(learner(cut(batch, order)))
    _must(abs(one - two) <= 1e-4 * max(1.0, abs(one)), f"{one} became {two}")
    return f"{one:.6f} and {two:.6f}"


@each_kind_of_epoch
def micro_batches(probe: Probe, epoch: int) -> str:
    """Micro-batches of 1 x N and N x 1 prompts give the same gradient."""
    learner = probe.learner()
    batch = probe.batch(learner, epoch=epoch)
    whole = _gradient(learner, [batch])
    parts = _gradient(learner, [cut(batch, torch.arange(i, i + 4)) for i in range(0, _B, 4)])
    worst = float((whole - parts).abs().max() / whole.abs().max().clamp(min=1e-12))
    _must(worst < 1e-3, f"the largest gradient entry differs by {worst:.2e} (relative)")
    return f"largest relative difference {worst:.1e}"


@each_kind_of_epoch
def improves(probe: Probe, epoch: int) -> str:
    """Twenty steps on one batch improve the objective."""
    learner = probe.learner()
    batch = probe.batch(learner, epoch=epoch, begin=True)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=1e-3, weight_decay=0)
    losses = []
    for _ in range(21):
        optimizer.zero_grad()
        loss = learner(batch)
        losses.append(float(loss.detach()))
        loss.backward()
        optimizer.step()
    _must(losses[-1] < losses[0], f"the loss went from {losses[0]:.4f} to {losses[-1]:.4f}")
    return f"{losses[0]:.4f} to {losses[-1]:.4f}"


def same_bytes(probe: Probe) -> str:
    """The same seed twice gives the same bytes, other ones than before training."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        weights = probe.train(Path(one))
        _equal(weights, probe.train(Path(two)))
    start = trained(probe.policy())
    moved = [name for name, value in start.items() if not torch.equal(value, weights[f"policy.{name}"])]
    _must(bool(moved), "training left every weight as it was")
    return f"2 epochs, {len(moved)} of {len(start)} tensors moved"


def resumed(probe: Probe) -> str:
    """A training stopped in the middle of an epoch and resumed equals one that was not."""
    periods = [p for p in (probe.tuner.redraw, probe.tuner.reference) if isinstance(p, int)]
    epochs = max([1, *periods]) + 1
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        whole = probe.train(Path(one), epochs)
        try:
            probe.train(Path(two), epochs, stop=True)
        except KeyboardInterrupt:
            _equal(whole, probe.train(Path(two), epochs))
            return f"stopped in epoch {epochs}"
    raise BrokenError("the training ended before it could be stopped")


def lists(probe: Probe) -> str:
    """Lists are [B, K], of distinct items, best first."""
    items, scores = _rank(probe, np.arange(_B))
    _must(
        items.shape == (_B, 10) and scores.shape == items.shape,
        f"shapes {tuple(items.shape)}, {tuple(scores.shape)}",
    )
    _must(int(items.max()) < probe.data.n_items and int(items.min()) >= -1, "an id is outside -1..N-1")
    _must(all(len(set(row.tolist())) == len(row) for row in items), "a list holds an item twice")
    _must(bool((scores.diff(dim=1) <= 1e-6).all()), "scores rise along a list")
    return "10 items each"


def batch_free(probe: Probe) -> str:
    """A list does not depend on the batch it was made in."""
    together, _ = _rank(probe, np.arange(_B))
    alone = torch.cat([_rank(probe, np.array([i]))[0] for i in range(_B)])
    _must(torch.equal(together, alone), "lists made one by one differ from lists made together")
    return f"{_B} prompts"


_RANKER: tuple[Check, ...] = (round_trip, lists, batch_free)
_TUNER: tuple[Check, ...] = (
    round_trip, candidates, no_leak, scalar_loss, permutation, micro_batches,
    improves, same_bytes, resumed, lists, batch_free,
)  # fmt: skip


def _rank(probe: Probe, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    fitted = probe.method.fit(probe.data)
    policy = probe.policy().eval() if probe.method.generative else None
    prompts = prompts_of(probe.data.test, "test", rows, torch.device("cpu"))
    base = probe.policy().eval() if "base" in probe.method.needs else None
    return probe.method.rank(RankJob(prompts, 10, 20, 0, policy, probe.collab, fitted, base=base))


def _gradient(learner: Learner, batches: list[Batch]) -> Tensor:
    learner.zero_grad()
    for batch in batches:
        (learner(batch) * len(batch.prompts.rows) / _B).backward()
    return torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None])


def _equal(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    different = [k for k in one if not torch.equal(one[k], two[k])]
    _must(not different, f"{len(different)} tensors differ, {different[0] if different else ''} first")


def _must(held: bool, detail: str) -> None:
    if not held:
        raise BrokenError(detail)


def _world(rng: np.random.Generator) -> Dataset:
    """96 items, 64 users who walk along a ring with some noise."""
    n, users = 96, 64

    def rows(count: int) -> Examples:
        histories, targets = [], []
        for _ in range(count):
            start, length = rng.integers(n), rng.integers(1, 6)
            walk = (start + np.cumsum(rng.integers(1, 3, size=length + 1))) % n
            histories.append(walk[:-1])
            targets.append(int(walk[-1]))
        return Examples.make([i % users for i in range(count)], histories, targets)

    ids = [str(i) for i in range(n)]
    items = pd.DataFrame({"item_id": ids, "title": [f"title {i}" for i in ids], "text": ids})
    return Dataset(
        "check",
        "examples",
        items,
        np.array([str(u) for u in range(users)]),
        rows(256),
        rows(48),
        rows(48),
        {},
        "check",
    )
