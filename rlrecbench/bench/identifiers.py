"""Parts of computing identifiers, against the plain way to write them."""

import math

import torch
from torch import Tensor

from rlrecbench.bench.timing import Result, compare
from rlrecbench.bench.world import CODES
from rlrecbench.identifiers.sinkhorn import ITERATIONS, assign, sinkhorn

BATCH, WIDTH, EPSILON = 1024, 32, 0.003  # vectors at a time; their width; the last level's; LC-Rec, LETTER
TOLERANCE = 1e-6  # nats between two float64 computations of an entry of the scaled matrix


def spread(repeats: int) -> Result:
    """One batch spread evenly over the codes of a level, against a log-sum-exp of the matrix at every scaling.

    Args:
        repeats: Alternating repeats.
    """
    made = torch.Generator().manual_seed(0)
    vectors, codes = (torch.randn(n, WIDTH, generator=made) for n in (BATCH, CODES))
    distances = torch.cdist(vectors, codes).square()

    def ours() -> Tensor:
        return assign(distances, EPSILON)

    def plain() -> Tensor:
        return _in_full(distances).argmax(1)

    near = torch.allclose(sinkhorn(distances, EPSILON), _in_full(distances), rtol=0, atol=TOLERANCE)
    same = near and torch.equal(ours(), plain())
    return compare("identifiers/sinkhorn", "a log-sum-exp of the matrix at every scaling", ours, plain, same, repeats)


def _in_full(distances: Tensor) -> Tensor:
    """The logarithms of the scaled matrix, times B, as they are usually written, [B, K]."""
    distances = distances.double()
    middle = (distances.max() + distances.min()) / 2
    log = (middle - distances) / (distances.max() - middle + 1e-5) / EPSILON
    for _ in range(ITERATIONS):
        log = log - torch.logsumexp(log, 1, keepdim=True)
        log = log - torch.logsumexp(log, 0, keepdim=True) + math.log(len(log) / log.shape[1])
    return log
