"""One training step of every method, against one ``sft`` step on the same prompts.

What a step is follows the training loop. A method that draws at every step is timed with its draw; for one
whose candidates are drawn ahead, the draw (and a reference's log-probabilities that are kept with it) comes
before the clock starts. All gradient steps of one draw belong to one step. Float32, dropout as the method says.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlrecbench import registry
from rlrecbench.bench.timing import Result, compare
from rlrecbench.bench.world import World, index
from rlrecbench.config import build
from rlrecbench.method import Drawn, FineTune, methods
from rlrecbench.policy.score import score
from rlrecbench.train import Budget
from rlrecbench.train.loop import Batch, Learner, draw_batch

TOLERANCE = 1e-4  # nats between two float32 computations of a target's log-probability
VARIANTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "gflowgr-tb-3": ("gflowgr-tb", {"trajectories": 3}),  # GFlowGR's Fig. 3
    "gflowgr-db-3": ("gflowgr-db", {"trajectories": 3}),
}


def steps(data: Path | None, plugins: Sequence[Path] = ()) -> dict[str, Callable[[int], Result]]:
    """The benchmarks ``step/<method>`` of all fine-tuning methods but ``sft``, and of some of their settings."""
    registry.load(plugins)
    registry.load_entry_points()
    trained = [e.name for e in methods if issubclass(e.value, FineTune) and e.name != "sft"]
    named: dict[str, tuple[str, Mapping[str, Any]]] = {name: (name, {}) for name in trained}

    @cache
    def world() -> World:
        return World(index(data, np.random.default_rng(0)))

    return {
        f"step/{name}": partial(_step, name, method, settings, world)
        for name, (method, settings) in sorted({**named, **VARIANTS}.items())
    }


def _step(name: str, method: str, settings: Mapping[str, Any], world: Callable[[], World], repeats: int) -> Result:
    return step(name, _built(method, settings), world(), repeats)


def step(name: str, method: FineTune, world: World, repeats: int) -> Result:
    """Time one step of a method in turn with one ``sft`` step.

    Args:
        name: Of the method or of its settings; the benchmark is ``step/<name>``.
        method: The method.
        world: The batch of both.
        repeats: How often each is timed.
    """
    ours, sft = Training(method, world), Training(_built("sft", {}), world)
    equal = bool((ours.target() - sft.target()).abs().max() <= TOLERANCE)
    for training in (ours, sft):
        training.step()
    timed = "a draw and " if method.redraw == 0 else ""
    timed += f"{method.updates} gradient steps" if method.updates > 1 else "a gradient step"
    reference = f"one sft step on the same {len(world.target)} prompts (ours: {timed})"
    return compare(f"step/{name}", reference, ours.step, sft.step, equal, repeats, cost=True)


class Training:
    """A method in training on one batch, over and over.

    Args:
        method: The method; its own budget gives learning rate and clipping.
        world: The batch.
    """

    def __init__(self, method: FineTune, world: World) -> None:
        self.method, self.world = method, world
        budget = build(Budget, dict(method.budget), "budget")
        policy = world.policy()
        reference = policy.frozen() if method.reference is not None else None
        self.learner = Learner(policy, method, reference)
        self.optimizer = torch.optim.AdamW(
            self.learner.parameters(), lr=budget.lr, weight_decay=budget.weight_decay, fused=True
        )
        self.clip = budget.clip
        self.seed, self.fitted = 0, method.fit(world.data)
        first = self.draw(begin=True)
        self.pool = None if method.redraw == 0 else first

    def draw(self, begin: bool = False) -> Batch:
        """Draw for the batch, as the training loop does."""
        self.seed += 1
        self.learner.eval()
        draw = self.world.draw(self.learner.policy, self.seed, self.fitted)
        drawn, kept = draw_batch(self.learner, draw, begin)
        return Batch(drawn, draw.prompts, kept, draw.epoch, draw.progress, None)

    def step(self) -> None:
        """Draw, if each step draws, and make all gradient steps of the draw."""
        batch = self.draw() if self.pool is None else self.pool
        self.learner.train(self.method.dropout)
        for _ in range(self.method.updates):
            self.optimizer.zero_grad(set_to_none=True)
            self.learner(batch).backward()
            if self.clip is not None:
                torch.nn.utils.clip_grad_norm_(self.learner.parameters(), self.clip)
            self.optimizer.step()

    def target(self) -> Tensor:
        """Log-probability of the targets, scored beside the candidates, over the vocabulary, [B]."""
        batch = self.pool or self.draw()
        items = torch.cat([self.world.target[:, None], batch.drawn.items], 1)
        step = self.learner.eval().step(batch._replace(drawn=Drawn(items)))
        with torch.no_grad():
            return score(step.policy, step.encoded, items).vocab[:, 0].sum(-1)


def _built(method: str, settings: Mapping[str, Any]) -> FineTune:
    made = build(methods[method], dict(settings), f"step/{method}")
    if not isinstance(made, FineTune):
        raise TypeError(f"{method} does not train")
    return made
