"""Do items that follow one another in people's histories begin with the same codes?

An identifier's first codes are worth something to a recommender where they carry over from one item to the next.
Pairs are (newest history item, target) of the validation rows; a pair of one and the same item says nothing about
codes and is left out. For a prefix of n codes

    agreement = share of pairs whose first n codes are equal
    chance    = the same share, were left and right item drawn independently of each other, but never the same
              = (sum_p L(p) R(p) - same) / (1 - same),   same = sum_i L(i) R(i)
    kappa     = (agreement - chance) / (1 - chance),     lift = agreement / chance

with L and R the shares of prefixes p and items i on the left and on the right of the pairs. Popular items and coarse
codebooks raise agreement and chance alike, and kappa takes that out: 0 where codes know nothing of what goes
together, 1 where every pair agrees. Intervals come from resampling users, whose rows belong together.

Source: Cohen (1960), "A Coefficient of Agreement for Nominal Scales"; its use on prefixes, without equal items on
either side, is ours.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlrecbench.data.frame import Examples
from rlrecbench.identifiers.codes import Identifiers

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
RESAMPLES = 1_000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Pairs:
    """Items that follow one another.

    Attributes:
        user: Number 0..U-1 of each pair's user, [M].
        left: Item that came before, [M].
        right: Item that came next, [M].
    """

    user: Ints
    left: Ints
    right: Ints

    def __len__(self) -> int:
        return len(self.left)

    @property
    def users(self) -> int:
        """Number of users U."""
        return int(self.user.max(initial=-1)) + 1

    @staticmethod
    def of(examples: Examples) -> "Pairs":
        """The newest history item and the target of each row, where there is a history and they differ."""
        rows = np.flatnonzero(examples.lengths > 0)
        left, right = examples.values[examples.offsets[rows + 1] - 1], examples.target[rows]
        kept = left != right
        user = np.unique(examples.user[rows[kept]], return_inverse=True)[1]
        return Pairs(user.reshape(-1).astype(np.int64), left[kept], right[kept])


@dataclass(frozen=True)
class Prefix:
    """How far prefixes of one length agree.

    Attributes:
        length: Codes in the prefix.
        agreement: Share of pairs with equal prefixes.
        chance: What that share would be among independent items.
        kappa: Agreement beyond chance; None where chance is 1.
        low: Lower end of kappa's 95 % interval.
        high: Upper end.
        lift: Agreement as a multiple of chance; None where chance is 0.
    """

    length: int
    agreement: float
    chance: float
    kappa: float | None
    low: float | None
    high: float | None
    lift: float | None


@dataclass(frozen=True)
class Agreement:
    """How far the identifiers of one data set agree.

    Attributes:
        pairs: Number of pairs.
        users: Number of users that they come from.
        seed: Seed of the resamples.
        prefixes: One entry per length, from 1 to the number of levels that say what the item is.
        resampled: Kappa of each resample and length, [resamples, n].
    """

    pairs: int
    users: int
    seed: int
    prefixes: tuple[Prefix, ...]
    resampled: Floats = field(repr=False, compare=False)

    def as_json(self) -> dict[str, Any]:
        """Everything but the resamples."""
        return {
            "pairs": self.pairs,
            "users": self.users,
            "seed": self.seed,
            "resamples": len(self.resampled),
            "prefixes": [asdict(p) for p in self.prefixes],
        }


@dataclass(frozen=True)
class Difference:
    """Kappa of one index minus that of another; None where either is undefined.

    Attributes:
        length: Codes in the prefix.
        difference: On the pairs as they are.
        low: Lower end of the 95 % interval.
        high: Upper end.
    """

    length: int
    difference: float | None
    low: float | None
    high: float | None


def agreement(ids: Identifiers, pairs: Pairs, resamples: int = RESAMPLES, seed: int = 0) -> Agreement | None:
    """Measure how far the prefixes of pairs agree.

    Args:
        ids: The codes; only the levels that say what the item is are looked at.
        pairs: Items that follow one another.
        resamples: Draws of U users with replacement.
        seed: Seed of the draws; the same for all identifiers that are to be compared.

    Returns:
        None where there is no pair.
    """
    if not len(pairs):
        return None
    measure = _measure(ids, pairs)
    rng, users = np.random.default_rng(seed), pairs.users
    everyone, chance = measure(np.ones(len(pairs)))
    found = _kappa(everyone, chance)
    resampled = np.empty((resamples, len(found)))
    for r in range(resamples):
        drawn = np.bincount(rng.integers(users, size=users), minlength=users)
        resampled[r] = _kappa(*measure(drawn[pairs.user].astype(np.float64)))
    prefixes = []
    for n, (a, c, k) in enumerate(zip(everyone.tolist(), chance.tolist(), found, strict=True)):
        low, high = _interval(k, resampled[:, n])
        prefixes.append(Prefix(n + 1, a, c, _number(k), low, high, a / c if c > 0 else None))
    return Agreement(len(pairs), users, seed, tuple(prefixes), resampled)


def compare(a: Agreement, b: Agreement) -> tuple[Difference, ...]:
    """Kappa of ``a`` minus kappa of ``b``, for every length that both have, on the same resamples.

    Raises:
        ValueError: They were not measured on the same pairs with the same resamples.
    """
    if (a.pairs, a.users, a.seed, len(a.resampled)) != (b.pairs, b.users, b.seed, len(b.resampled)):
        raise ValueError("two agreements can be compared only if pairs, resamples and seed are the same")
    out = []
    for n, (x, y) in enumerate(zip(a.prefixes, b.prefixes, strict=False)):
        value = np.nan if x.kappa is None or y.kappa is None else x.kappa - y.kappa
        low, high = _interval(value, a.resampled[:, n] - b.resampled[:, n])
        out.append(Difference(x.length, _number(value), low, high))
    return tuple(out)


def _measure(ids: Identifiers, pairs: Pairs) -> Callable[[Floats], tuple[Floats, Floats]]:
    """Return what turns weights of the pairs, [M] whole numbers, into agreement and chance of each length, [n]."""
    items, both = np.unique(np.concatenate([pairs.left, pairs.right]), return_inverse=True)
    numbers = [both.reshape(2, -1)]
    for n in range(1, ids.described + 1):
        prefix = np.unique(ids.codes[items, :n], axis=0, return_inverse=True)[1].reshape(-1)
        numbers.append(prefix[numbers[0]])

    def measure(weights: Floats) -> tuple[Floats, Floats]:
        total = weights.sum()
        same, *meet = (_meet(left, right, weights) for left, right in numbers)
        agree = [(weights @ (left == right)) / total for left, right in numbers[1:]]
        return np.array(agree), (np.array(meet) - same) / (total**2 - same)

    return measure


def _meet(left: Ints, right: Ints, weights: Floats) -> float:
    """Sum over numbers of (weight on the left) x (weight on the right); exact, as weights are whole numbers."""
    size = int(max(left.max(), right.max())) + 1
    return float(np.bincount(left, weights, size) @ np.bincount(right, weights, size))


def _kappa(agree: Floats, chance: Floats) -> Floats:
    """(agreement - chance) / (1 - chance), NaN where chance is 1."""
    beyond = 1 - chance
    return np.where(beyond > 0, (agree - chance) / np.where(beyond > 0, beyond, 1), np.nan)


def _interval(value: float, resampled: Floats) -> tuple[float | None, float | None]:
    """The 95 % percentile interval; none where the value itself is undefined."""
    defined = resampled[np.isfinite(resampled)]
    if np.isnan(value) or not len(defined):
        return None, None
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
