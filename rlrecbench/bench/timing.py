"""Two functions timed in turn, and how much of the machine's speed ours reaches."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from rlrecbench.allocator import keep_memory


@dataclass(frozen=True)
class Result:
    """One line of ``bench --json``.

    Attributes:
        name: Which benchmark.
        ours_s: Median seconds.
        reference: What it is compared with.
        reference_s: Median seconds.
        ratio: Median of reference / ours (ours / reference for ``step/``).
        ratio_min: Smallest of the repeats.
        ratio_max: Largest of the repeats.
        repeats: Number of alternating repeats.
        equal: Both gave the same result.
        gflop: Operations of our matrix products, in 1e9; None where torch computes none.
        peak_share: Their speed, as a share of the matrix product's that :func:`machine` measures in float32.
    """

    name: str
    ours_s: float
    reference: str
    reference_s: float
    ratio: float
    ratio_min: float
    ratio_max: float
    repeats: int
    equal: bool
    gflop: float | None = None
    peak_share: float | None = None


def compare(
    name: str,
    reference: str,
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    equal: bool,
    repeats: int,
    cost: bool = False,
) -> Result:
    """Time two functions in turn; both must have run once before.

    Ours holds memory as the workers of a run do, the reference as programs do by default.

    Args:
        name: Of the benchmark.
        reference: What ``theirs`` is, in words.
        ours: The first function.
        theirs: The second.
        equal: Whether both gave the same result.
        repeats: How often.
        cost: The ratio says how many times the reference's seconds ours takes, not how much faster it is.
    """
    with FlopCounterMode(display=False) as counted:
        ours()
    mine, other = [], []
    for _ in range(repeats):
        keep_memory()
        mine.append(seconds(ours))
        keep_memory(cost)  # where both are ours, both hold memory alike
        other.append(seconds(theirs))
    keep_memory(False)
    ratios = [a / b if cost else b / a for a, b in zip(mine, other, strict=True)]
    gflop = counted.get_total_flops() / 1e9 or None
    return Result(
        name, median(mine), reference, median(other), median(ratios), min(ratios), max(ratios), repeats, equal, gflop
    )


def seconds(function: Callable[[], Any]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def machine() -> dict[str, Any]:
    """Number of cores, and measured speed of a matrix product in GFLOP/s."""
    speeds = {str(t).removeprefix("torch."): _gflops(t) for t in (torch.float32, torch.bfloat16)}
    return {"cores": len(os.sched_getaffinity(0)), "matmul_gflops": speeds}


def _gflops(dtype: torch.dtype) -> float:
    """With the largest matrices that keep one product below a second: without bfloat16 in hardware they are small."""
    speed, took = 0.0, 0.0
    for size in (256, 512, 1024, 2048):
        if 8 * took > 0.5:
            break
        a = torch.randn(size, size).to(dtype)
        torch.mm(a, a)
        took = min(seconds(lambda a=a: torch.mm(a, a)) for _ in range(5))  # type: ignore[misc]
        speed = 2 * size**3 / took / 1e9
    return round(speed, 1)
