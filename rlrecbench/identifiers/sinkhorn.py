"""Uniform semantic mapping: a batch of vectors spread evenly over the codes, by Sinkhorn's scaling in logarithms.

Each vector would take its nearest code; scaling rows and columns in turn gives every code the same share of the
batch. With distances d [B, K] centred to d' in [-1, 1] and Q = exp(-d' / epsilon), one iteration divides rows by
their sums and columns by theirs, so that a row sums to 1 and a column to B / K; a vector takes the largest entry
of its row. At epsilon = 0.003, exp(1 / epsilon) is 1e145; below 0.0014 the direct form overflows float64.

Here log Q = -d' / epsilon + row + column, with one potential for each row and column. An iteration costs two
products of a kept kernel exp(log Q) with scaling vectors. Where these grow so large that entries dropped from the
kernel could count, that iteration is done by log-sum-exp, from which a new kernel follows.

Source: LC-Rec, and its and LETTER's public code (models/layers.py, models/vq.py); Schmitzer (2019), "Stabilized
sparse scaling algorithms for entropy regularized transport problems", for potentials absorbed into the kernel.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

ITERATIONS = 50  # LC-Rec, LETTER
MARGIN = 1e-5  # added to half the range of distances, so that equal ones do not divide by 0; LC-Rec's code
SCALE = 1e50  # scaling vectors stay below it; ours
NEGLIGIBLE = -300.0  # smaller logarithms are 0 in a kernel: at most K SCALE^2 exp(-300) = K 5e-31 of a sum; ours
TIED = 1e-12  # centred distances closer than this are equal: far above rounding, far below float32; ours


class Scaled(NamedTuple):
    """The scaled matrix, log(QB) = log + row + column.

    Attributes:
        log: Centred distances over -epsilon, [B, K].
        row: Potentials of the vectors, [B].
        column: Potentials of the codes, [K].
    """

    log: Tensor
    row: Tensor
    column: Tensor


@torch.no_grad()
def sinkhorn(distances: Tensor, epsilon: float, iterations: int = ITERATIONS) -> Tensor:
    """Return the logarithm of the scaled matrix Q, times B; its columns sum to B / K, its rows nearly to 1.

    Args:
        distances: Squared distances of vectors to codes, [B, K].
        epsilon: Softness of the assignment, in centred distances.
        iterations: How often rows and then columns are scaled; more make the rows more exact.

    Returns:
        [B, K], float64.

    Raises:
        ValueError: The distances are not a matrix of finite numbers, epsilon is not above 0, or there is no iteration.
    """
    log, row, column = _scaled(distances, epsilon, iterations)
    return log + row[:, None] + column


@torch.no_grad()
def assign(distances: Tensor, epsilon: float, iterations: int = ITERATIONS) -> Tensor:
    """Choose the code with the largest entry of each vector's row, [B]; of equal entries, the nearest code's.

    Equal vectors get equal codes. With fewer vectors than codes, many entries of a row can be equal: a code that
    one vector has all to itself gives it B / K at any distance. Differs: in the public code rounding decides there.

    Raises:
        ValueError: As :func:`sinkhorn`.
    """
    log, _, column = _scaled(distances, epsilon, iterations)
    entries = log + column
    best = entries.amax(1, keepdim=True)
    return log.masked_fill(entries < best - TIED * (1 + 1 / epsilon), -math.inf).argmax(1)


def _scaled(distances: Tensor, epsilon: float, iterations: int) -> Scaled:
    """Scale rows and columns in turn."""
    if iterations < 1:
        raise ValueError(f"{iterations} iterations of Sinkhorn's scaling; at least 1 is needed")
    log = _centred(distances, epsilon)
    B, K = log.shape
    row, column = _scale_logs(log, log.new_zeros(K))
    kernel: Tensor | None = None
    u, v = log.new_ones(B), log.new_ones(K)
    for _ in range(iterations - 1):
        if kernel is None:
            kernel = log + row[:, None] + column
            kernel = kernel.masked_fill_(kernel < NEGLIGIBLE, -math.inf).exp_()
        next_u = 1 / (kernel @ v)
        next_v = B / K / (next_u @ kernel)
        if (torch.cat([next_u, next_v]) < SCALE).all():  # NaN and infinity are not
            u, v = next_u, next_v
        else:
            row, column = _scale_logs(log, column + v.log())
            kernel, u, v = None, torch.ones_like(u), torch.ones_like(v)
    return Scaled(log, row + u.log(), column + v.log())


def _centred(distances: Tensor, epsilon: float) -> Tensor:
    """The logarithm of Q before any scaling, [B, K] in float64.

    Raises:
        ValueError: As :func:`sinkhorn`.
    """
    if not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon of Sinkhorn's scaling is {epsilon}; it must be above 0 and finite")
    if distances.ndim != 2 or not distances.numel():
        raise ValueError(f"distances {tuple(distances.shape)} must be [B, K] with B, K > 0")
    distances = distances.double()
    low, high = torch.aminmax(distances)
    middle = (high + low) / 2
    half = high - middle + MARGIN
    if not half.isfinite():
        raise ValueError("distances must be finite; a vector or a code is NaN, infinite or too large to be squared")
    return (middle - distances) / half / epsilon


def _scale_logs(log: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """One iteration from the columns' potentials alone, exact at any range: those of rows [B] and columns [K]."""
    B, K = log.shape
    row = -torch.logsumexp(log + column, 1)
    return row, math.log(B / K) - torch.logsumexp(log + row[:, None], 0)
