"""Which users are swapped, left out or drawn again; the same draws serve all cells that have the same users."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlrecbench.data.frame import Ints

Bools = NDArray[np.bool_]

SWAPS = 999  # smallest p = 1/1,000
AGAIN = 999  # ours: the ends of a 95 % interval rest on 25 samples each
SUBSETS = 200  # the standard error's own error is about 1 / sqrt(2 * 200) = 5 %
BUNDLES = 128  # users change sides together, so that counts are one matrix product; ours: as good as a t of 127 degrees
FEWEST = 10  # users; below, nothing is resampled
DELETED = 0.2  # share of the users left out of a subset; ours, between sqrt(n) / n and 1 as the theory asks
_ALONE = 8  # with up to this many users for each bundle, every user is a bundle


@dataclass(frozen=True, eq=False)
class Draws:
    """Resamples of U users in B bundles; a bundle is a random set of users, all bundles being of one size (+- 1).

    Attributes:
        bundle: Bundle of each user, [U].
        swapped: Bundles whose lists change sides; none in row 0, [m + 1, B].
        kept: Bundles of a subset of the users, [R, B].
        again: How often each user is drawn with replacement, [A, U].
    """

    bundle: Ints
    swapped: Bools
    kept: Bools
    again: NDArray[np.uint8]

    @staticmethod
    def of(
        users: int,
        resamples: int = SWAPS,
        subsets: int = SUBSETS,
        again: int = AGAIN,
        bundles: int = BUNDLES,
        seed: int = 0,
    ) -> "Draws":
        """Draw ``resamples`` swaps, subsets without a fifth of the users, and as many users again with replacement.

        No number changes what is drawn for the others: only p of the swaps depends on ``resamples``.

        Raises:
            ValueError: There are fewer than ``FEWEST`` users.
        """
        if users < FEWEST:
            raise ValueError(f"resampling needs at least {FEWEST} users, not {users}")
        swaps, subset, whole, sides = np.random.default_rng(seed).spawn(4)
        B = users if users <= _ALONE * bundles else bundles
        swapped = np.concatenate([np.zeros((1, B), np.bool_), swaps.random((resamples, B)) < 0.5])
        order = subset.random((subsets, B)).argsort(1)
        counts = np.empty((again, users), np.uint8)
        for row in counts:
            row[:] = np.bincount(whole.integers(users, size=users), minlength=users)
        return Draws(sides.permutation(users) % B, swapped, order >= round(DELETED * B), counts)

    @property
    def users(self) -> int:
        """Number of users U."""
        return len(self.bundle)

    @property
    def bundles(self) -> int:
        """Number of bundles B."""
        return int(self.swapped.shape[1])

    @property
    def scale(self) -> float:
        """(n - d) / d: what turns the variance of a metric over the subsets into that over samples of users."""
        kept = self.kept.mean()
        return float(kept / (1 - kept))
