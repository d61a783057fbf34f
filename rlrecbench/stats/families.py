"""One family of comparisons: the p-values to correct, and their corrections.

Sources: Holm (1979); Benjamini and Hochberg (1995).
Differs: statsmodels' functions agree to the last digit, but import for a second and collect garbage at every call.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

from rlrecbench.stats.paired import Floats, Test, crossed, student
from rlrecbench.stats.settings import Correction


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the family-wise error stays below alpha.

    The i-th smallest of m (from 0) becomes (m - i) p, and never less than the one before.
    """
    values, order = _sorted(p)
    steps = values * np.arange(len(values), 0, -1)
    return _restored(np.maximum.accumulate(steps), order)


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's correction: the false discovery rate stays below alpha.

    The i-th smallest of m (from 1) becomes m / i p, and never more than the one after.
    """
    values, order = _sorted(p)
    steps = values * len(values) / np.arange(1, len(values) + 1)
    return _restored(np.minimum.accumulate(steps[::-1])[::-1], order)


def family_p(tests: Sequence[Test]) -> list[float]:
    """Return p of each comparison with one baseline, to be corrected; none rests on a lucky draw of seeds.

    S seeds tell the variance of seeds with S - 1 degrees of freedom. Now and then it comes out next to nothing, and
    then p is far too small: nominal .05 stays .04 to .07, but nominal .00625, Holm's first step among eight, is up to
    .04 with three seeds. So where a comparison's mean square of seeds lies below the family's, the family's stands for
    it: the median of the k mean squares, which rows that are much noisier than the others do not move.

    - The median of many such squares lies below their mean; it is scaled up by the mean over the median of chi-square.
      For k differences from one baseline that overestimates, by up to a third with three seeds: the safe side.
    - A mean of k would have k (S - 1) / (1 + (k - 1) / 4) degrees of freedom: two differences from one baseline
      correlate at 1/2, their squares at 1/4. In simulation a median of three to thirty has .67 to .83 of them with
      three seeds and five, .47 to .69 with two; two thirds are counted.
    - The median of two is their mean: neither holds for it.

    A family of one keeps its p, and so does a test that does not split the variance. No p becomes smaller.

    Source: ours; docs/decisions/010 has the levels.
    """
    split = [(test.seeds, test.seed_square) for test in tests if test.seed_square is not None]
    k = len(split)
    if k < 2:
        return [test.p for test in tests]
    df = sum(S - 1 for S, _ in split) / (1 + (k - 1) / 4)
    if k == 2:
        return [_steadied(test, float(np.mean([found for _, found in split])), df) for test in tests]
    square = float(np.median([found * (S - 1) / chdtri(S - 1, 0.5) for S, found in split]))
    return [_steadied(test, square, df * 2 / 3) for test in tests]


def _steadied(test: Test, square: float, seed_df: float) -> float:
    """Return p with MS_seed / n no less than ``square``."""
    v = test.variance
    if v is None or test.seed_square is None or test.seed_square >= square:
        return test.p
    S, n, rest = test.seeds, test.users, v.interaction
    se, df = crossed(S * v.users + rest, n * square, rest, S, n, seed_df)
    return max(test.p, student(test.name, test.mean, se, df, n, S, test.level).p)


CORRECTIONS: dict[Correction, Callable[[Sequence[float]], list[float]]] = {
    "holm": holm,
    "bh": benjamini_hochberg,
    "none": list,
}


def corrected(tests: Sequence[Test], correction: Correction) -> list[float]:
    """Return the corrected p of each comparison of a family; "none" leaves p as it is."""
    return CORRECTIONS[correction]([t.p for t in tests] if correction == "none" else family_p(tests))


def _sorted(p: Sequence[float]) -> tuple[Floats, NDArray[np.int64]]:
    order = np.argsort(values := np.asarray(p, np.float64), kind="stable")
    return values[order], order


def _restored(steps: Floats, order: NDArray[np.int64]) -> list[float]:
    out = np.empty(len(steps))
    out[order] = np.minimum(steps, 1.0)
    return out.tolist()
