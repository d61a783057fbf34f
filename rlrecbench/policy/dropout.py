"""Dropout whose random numbers are cheap on a CPU: one 64-bit draw decides four elements.

torch draws one Mersenne Twister number per element, which is a quarter of a small T5's training step.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_LANES = 4  # 16-bit numbers in a 64-bit draw
_STEPS = 1 << 16


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Zero each element with probability p (to 1/65536 on a CPU) and scale the others up to keep the mean.

    The stream is seeded from torch's global generator, so ``torch.manual_seed`` fixes it.
    """
    if not training or p == 0.0:
        return x
    dropped = round(p * _STEPS)
    if x.device.type != "cpu" or dropped == _STEPS:
        return F.dropout(x, p)
    seed = int(torch.randint(1 << 62, ()))
    n = x.numel()
    lanes = np.random.SFC64(seed).random_raw(-(-n // _LANES)).view(np.int16)[:n]
    keep = (torch.from_numpy(lanes) >= dropped - _STEPS // 2).to(x.dtype)
    return x * keep.view(x.shape).mul_(_STEPS / (_STEPS - dropped))
