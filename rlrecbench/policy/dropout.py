"""Dropout whose random numbers are cheap on a CPU: one 64-bit draw decides four elements.

torch draws one Mersenne Twister number per element, which is a quarter of a small T5's training step.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_LANES = 4  # 16-bit numbers in a 64-bit draw
_STEPS = 1 << 16
_AT_ONCE = 1 << 18  # elements in a part that stays in cache; 1 MiB


class Lots:
    """A stream of decisions which elements to drop, on the CPU.

    It is seeded from torch's global generator, so ``torch.manual_seed`` fixes it.

    Args:
        p: Probability of dropping, below 1; rounded to 1/65536.
    """

    def __init__(self, p: float) -> None:
        dropped = _lots(p)
        self._below = dropped - _STEPS // 2  # as a signed number
        self._random = np.random.SFC64(int(torch.randint(1 << 62, ())))
        self.scale = _STEPS / (_STEPS - dropped)  # of what is kept, so that the mean stays

    def dropped(self, shape: Sequence[int]) -> Tensor:
        """The next decisions, True where an element is dropped."""
        n = int(np.prod(shape))
        lanes = self._random.random_raw(-(-n // _LANES)).view(np.int16)[:n]
        return (torch.from_numpy(lanes) < self._below).view(*shape)


def cheap(x: Tensor, p: float) -> bool:
    """Tell whether decisions come from :class:`Lots`: on a CPU, unless p rounds to 1."""
    return x.device.type == "cpu" and _lots(p) < _STEPS


def _lots(p: float) -> int:
    """How many of the 65,536 lots drop."""
    return round(p * _STEPS)


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Zero each element with probability p (to 1/65536 on a CPU) and scale the others up to keep the mean."""
    if not training or p == 0.0:
        return x
    if not cheap(x, p):
        return F.dropout(x, p)
    lots = Lots(p)
    keep = (~lots.dropped(x.shape)).to(x.dtype)
    return x * keep.mul_(lots.scale)


def relu_dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Dropout of max(x, 0). On a CPU in training x itself is overwritten: no mask is kept, as zeros say enough."""
    if not training or p == 0.0 or not cheap(x, p):
        return dropout(F.relu(x), p, training)
    out: Tensor = _ReluDropout.apply(x, Lots(p))
    return out


class _ReluDropout(torch.autograd.Function):
    """In parts that stay in cache; the gradient passes where the result is not zero."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, lots: Lots) -> Tensor:
        for part in x.view(-1).split(_AT_ONCE):
            part.relu_().masked_fill_(lots.dropped(part.shape), 0.0).mul_(lots.scale)
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        ctx.scale = lots.scale
        return x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        out = torch.empty_like(x)
        parts = (y.view(-1).split(_AT_ONCE) for y in (gradient.contiguous(), x, out))
        for given, result, passed in zip(*parts, strict=True):
            torch.mul(torch.ops.aten.threshold_backward(given, result, 0.0), ctx.scale, out=passed)
        return out, None
