"""Candidates packed behind the prompt they share, against a copy of the prompt for each; and what S-DPO's cost."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlrecbench.bench.step import step
from rlrecbench.bench.timing import Result, compare
from rlrecbench.bench.titles import TitleWorld, catalogue
from rlrecbench.config import build
from rlrecbench.method import FineTune, methods
from rlrecbench.policy.decoder import DecoderPolicy
from rlrecbench.policy.score import score
from rlrecbench.registry import load

NEGATIVES = 3  # beside the target; S-DPO's script
TOLERANCE = 1e-4  # nats between two float32 computations of a title's log-probability
CLOSE = 1e-3  # of a gradient, relative to its length: float32 in another order of sums


class Pass(NamedTuple):
    """What one pass forward and backward gives.

    Attributes:
        logp: Log-probability of each candidate over the vocabulary, [B, C].
        gradient: Of the loss by all weights, in one row.
    """

    logp: Tensor
    gradient: Tensor


def score_packed(data: Path | None, repeats: int) -> Result:
    """One pass forward and backward of S-DPO's loss over a target and three other titles.

    Args:
        data: Folder with ``movies_and_tv``; the titles of ml-100k without it.
        repeats: Alternating repeats.
    """
    world = TitleWorld(catalogue(data))
    policy = world.policy().train()
    items = candidates(world)

    def ours() -> Pass:
        logp = score(policy, policy.encode(world.prompts.history), items).vocab.sum(-1)
        return _passed(policy, logp)

    def concatenated() -> Pass:
        return _passed(policy, apart(policy, world.prompts.history, items))

    one, other = ours(), concatenated()
    near = torch.allclose(one.logp, other.logp, rtol=0, atol=TOLERANCE)
    same = near and bool((one.gradient - other.gradient).norm() <= CLOSE * other.gradient.norm())
    return compare("score/decoder-packed", "a copy of the prompt for each candidate", ours, concatenated, same, repeats)


def step_s_dpo(data: Path | None, repeats: int) -> Result:
    """One step of S-DPO with three other titles, in turn with one ``sft`` step.

    Args:
        data: Folder with ``movies_and_tv``; the titles of ml-100k without it.
        repeats: Alternating repeats.
    """
    load()
    method: Any = build(methods["s-dpo"], {"negatives": NEGATIVES}, "step/s-dpo-titles")
    assert isinstance(method, FineTune)  # noqa: S101 - s-dpo trains
    return step("s-dpo-titles", method, TitleWorld(catalogue(data)), repeats)


def candidates(world: TitleWorld) -> Tensor:
    """The targets and random other titles, [B, C]."""
    made = torch.Generator().manual_seed(0)
    others = torch.randint(world.catalogue.n_items, (len(world.target), NEGATIVES), generator=made)
    return torch.cat([world.target[:, None], others], 1)


def apart(policy: DecoderPolicy, history: Tensor, items: Tensor) -> Tensor:
    """Log-probability of each candidate, each run behind its own copy of the prompt, [B, C].

    The output layer is applied to the titles' tokens only.
    """
    prompts = torch.tensor(policy.prompts(history.numpy())).repeat_interleave(items.shape[1], 0)
    paths = torch.from_numpy(policy.catalogue.paths)[items.flatten()]  # [B * C, L]
    paths = paths[:, : int((paths >= 0).sum(1).max())]
    there = paths >= 0
    model: Any = policy.model
    out = model(
        input_ids=torch.cat([prompts, paths.clamp(min=0)], 1)[:, :-1],
        attention_mask=torch.cat([torch.ones_like(prompts), there.long()], 1)[:, :-1],
        logits_to_keep=paths.shape[1],
        use_cache=False,
    )
    logp = out.logits.log_softmax(-1).gather(-1, paths.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return torch.where(there, logp, 0.0).sum(-1).view(items.shape)


def _passed(policy: DecoderPolicy, logp: Tensor) -> Pass:
    """Go back from S-DPO's loss; the reference's log-probabilities are constants, here zero."""
    policy.zero_grad()
    loss = torch.nn.functional.softplus((logp[:, 1:] - logp[:, :1]).logsumexp(1)).mean()
    loss.backward()
    return Pass(logp.detach(), torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None]))
