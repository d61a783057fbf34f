"""Candidates that are drawn ahead of the steps: once and fixed, or every n epochs.

For these the reference's log-probabilities can be computed once, too, so that a method such as DPO trains
without running its reference at all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlrecbench import checkpoint
from rlrecbench.method import Drawn


@dataclass(frozen=True)
class Pool:
    """Draws for many training rows.

    Attributes:
        place: Position of each training row in the tensors; -1 where nothing was drawn, [R].
        tensors: "items" and, where they exist, "rewards", "paths", "ref_tokens", "old_tokens" and "extra.*".
    """

    place: Tensor
    tensors: dict[str, Tensor]

    def of(self, rows: NDArray[np.int64], device: torch.device) -> tuple[Drawn, dict[str, Tensor]]:
        """Return the draw of some rows and the token log-probabilities that were kept with it."""
        at = self.place[torch.as_tensor(rows)]
        got = {name: value[at].to(device) for name, value in self.tensors.items()}
        extra = {name.removeprefix("extra."): got.pop(name) for name in list(got) if name.startswith("extra.")}
        return Drawn(got.pop("items"), got.pop("rewards", None), extra, got.pop("paths", None)), got

    def write(self, path: Path) -> None:
        """Write through a temporary name."""
        checkpoint.write(path, {**self.tensors, "place": self.place})

    @staticmethod
    def join(pools: "Sequence[Pool]") -> "Pool":
        """Put pools of different rows together."""
        place, size = torch.full_like(pools[0].place, -1), 0
        for pool in (full := [p for p in pools if p.tensors]):
            place = torch.where(pool.place < 0, place, pool.place + size)
            size += len(pool.tensors["items"])
        return Pool(place, {name: torch.cat([p.tensors[name] for p in full]) for name in full[0].tensors})

    @staticmethod
    def read(path: Path) -> "Pool":
        """Read what :meth:`write` wrote.

        Raises:
            StoreError: It is damaged.
        """
        tensors = checkpoint.read(path)
        return Pool(tensors.pop("place"), tensors)


def fill(
    batches: Sequence[NDArray[np.int64]],
    n_rows: int,
    draw: Callable[[NDArray[np.int64]], tuple[Drawn, dict[str, Tensor]]],
    tick: Callable[[int, int], None],
) -> Pool:
    """Draw for all rows of the batches.

    Args:
        batches: Rows, each at most once.
        n_rows: Number of training rows R.
        draw: Draws for one batch; returns the draw and log-probabilities to keep with it.
        tick: Called with batches done and batches in all.
    """
    place = torch.full((n_rows,), -1, dtype=torch.int64)
    kept: dict[str, list[Tensor]] = {}
    at = 0
    for i, rows in enumerate(batches):
        drawn, more = draw(rows)
        tensors = {"items": drawn.items, **more, **{f"extra.{k}": v for k, v in drawn.extra.items()}}
        if drawn.rewards is not None:
            tensors["rewards"] = drawn.rewards
        if drawn.paths is not None:
            tensors["paths"] = drawn.paths
        for name, value in tensors.items():
            kept.setdefault(name, []).append(value.cpu())
        place[torch.as_tensor(rows)] = torch.arange(at, at + len(rows))
        at += len(rows)
        tick(i + 1, len(batches))
    return Pool(place, {name: torch.cat(values).contiguous() for name, values in kept.items()})
