"""The ranked lists of one ranker, and the counts that its metrics share."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rlrecbench.data.frame import Ints
from rlrecbench.metrics.exposure import Exposure
from rlrecbench.metrics.reference import Floats, Reference

Beside = Literal["probability", "collab", "fit"]
ABSENT, INVALID = -1, -2


@dataclass(frozen=True, eq=False)
class Fit:
    """What is known of a policy that was fitted to a distribution, beside what it draws.

    Attributes:
        exact: Probability with which the policy gives each item, [N].
        paths: Token ids of each item without the terminator, -1 behind the end, [N, L].

    Raises:
        ValueError: The two have different numbers of items.
    """

    exact: Floats
    paths: Ints

    def __post_init__(self) -> None:
        if self.paths.ndim != 2 or self.exact.shape != self.paths.shape[:1]:
            raise ValueError(f"exact must be [N] and paths [N, L], not {self.exact.shape} and {self.paths.shape}")


@dataclass(frozen=True, eq=False)
class Lists:
    """Everything about one ranking, at its full depth K, for U test rows.

    Attributes:
        ranked: Item numbers, best first, [U, K]; -1 is absent (a short list), any other number outside
            0..N-1 is invalid and becomes -2.
        target: The one relevant item of each row, [U].
        reference: The data set's titles, groups and frequencies.
        leaf: Which items are the same string, [N]; None: those of equal title.
        probability: Probability with which the ranker generates the item for the row, [U, K]; None: not known.
        collab: Collaborative score of the item for the row, as a share of the way from the row's lowest score
            over the catalogue to its highest, [U, K]; None: not known.
        fit: Where a distribution is fitted, what is known of the policy; the lists are its draws then, and the
            targets draws from the distribution itself. None: the lists are recommendations.

    Raises:
        ValueError: The shapes do not fit each other.
    """

    ranked: Ints
    target: Ints
    reference: Reference
    leaf: Ints | None = None
    probability: Floats | None = None
    collab: Floats | None = None
    fit: Fit | None = None

    def __post_init__(self) -> None:
        """Check the shapes and mark invalid entries."""
        n = self.reference.n_items
        if self.ranked.ndim != 2 or self.target.shape != self.ranked.shape[:1]:
            raise ValueError(f"ranked must be [U, K] and target [U], not {self.ranked.shape} and {self.target.shape}")
        if self.leaf is not None and self.leaf.shape != (n,):
            raise ValueError(f"leaf must be [N] with N = {n}, not {self.leaf.shape}")
        for name in ("probability", "collab"):
            values = getattr(self, name)
            if values is not None and values.shape != self.ranked.shape:
                raise ValueError(f"{name} must be [U, K] like ranked, {self.ranked.shape}, not {values.shape}")
        if self.fit is not None and self.fit.exact.shape != (n,):
            raise ValueError(f"fit must be of N = {n} items, not of {len(self.fit.exact)}")
        outside = (self.ranked < ABSENT) | (self.ranked >= n)
        object.__setattr__(self, "ranked", np.where(outside, INVALID, self.ranked).astype(np.int64))

    def __len__(self) -> int:
        return len(self.target)

    @cached_property
    def rank(self) -> Ints:
        """1-based position of the target's first occurrence, 0 where it is absent, [U].

        Positions are taken as given: a duplicated or invalid entry in front of the target costs a place.
        """
        return _first(self.ranked == self.target[:, None])

    @cached_property
    def string_rank(self) -> Ints:
        """Like :attr:`rank`, where any item of the target's string is a hit and a string counts once, [U].

        A further item of a string that the list already holds takes no place; a repeated item still does.
        """
        leaf = self.reference.title_of if self.leaf is None else self.leaf
        strings = np.where(self.ranked >= 0, leaf[np.maximum(self.ranked, 0)], self.ranked)
        found = _first(strings == leaf[self.target][:, None])
        counts_once = repeated(strings) & ~repeated(self.ranked)
        place = np.cumsum(~counts_once, axis=1)
        at = np.maximum(found - 1, 0)[:, None]
        return np.where(found > 0, np.take_along_axis(place, at, 1)[:, 0], 0)

    def items(self, k: int) -> Ints:
        """How often each item is in the lists' first k places, [N]."""
        return self.exposure(k).items

    def select(self, rows: Ints) -> "Lists":
        """The lists of some rows, in the given order."""
        probability, collab = (None if x is None else x[rows] for x in (self.probability, self.collab))
        return Lists(self.ranked[rows], self.target[rows], self.reference, self.leaf, probability, collab, self.fit)

    def has(self, what: Beside | None) -> bool:
        """Tell whether such values stand beside the lists; nothing (None) always does."""
        return what is None or getattr(self, what) is not None

    def beside(self, what: Literal["probability", "collab"], k: int) -> Floats:
        """The values beside the lists' first k places, without meaning where no item stands, [U, k].

        Raises:
            ValueError: The lists do not have them.
        """
        values: Floats | None = getattr(self, what)
        if values is None:
            raise ValueError(f"the lists have no {what}")
        return values[:, :k]

    def exposure(self, k: int) -> Exposure:
        """Counts of items, groups and words in the lists' first k places; made once for each k."""
        cache: dict[int, Exposure] = self.__dict__.setdefault("_exposure", {})
        if k not in cache:
            top = self.ranked[:, :k]
            cache[k] = Exposure.of(np.bincount(top[top >= 0], minlength=self.reference.n_items), self.reference)
        return cache[k]


def audit(lists: Lists, k: int | None = None) -> dict[str, int]:
    """Count what is wrong with the first k places of the lists; None: all of them.

    Returns:
        Numbers of users and of entries: ``invalid`` (no item of the data set), ``duplicate`` (further
        occurrences of an item in one list), ``short`` (places that are missing of k, or of the catalogue
        where that is smaller), and ``empty_users`` (no list at all).
    """
    k = lists.ranked.shape[1] if k is None else k
    top = lists.ranked[:, :k]
    missing = min(k, lists.reference.n_items) - (top != ABSENT).sum(1).astype(np.int64)
    found: dict[str, Ints] = {
        "invalid": (top == INVALID).sum(1),
        "duplicate": repeated(top).sum(1),
        "short": np.maximum(missing, 0),
    }
    counts = {"users": len(lists)}
    for name, per_user in found.items():
        counts[f"{name}_users"] = int((per_user > 0).sum())
        counts[f"{name}_entries"] = int(per_user.sum())
    counts["empty_users"] = int((top == ABSENT).all(1).sum())
    return counts


def repeated(values: Ints) -> NDArray[np.bool_]:
    """Mark non-negative entries that occur earlier in their row, [U, K]."""
    order = np.argsort(values, axis=1, kind="stable")
    inline = np.take_along_axis(values, order, 1)
    same = np.zeros(values.shape, np.bool_)
    same[:, 1:] = (inline[:, 1:] == inline[:, :-1]) & (inline[:, 1:] >= 0)
    marked = np.zeros(values.shape, np.bool_)
    np.put_along_axis(marked, order, same, 1)
    return marked


def _first(hit: NDArray[np.bool_]) -> Ints:
    """1-based column of the first hit of each row, 0 where there is none."""
    if hit.shape[1] == 0:
        return np.zeros(len(hit), np.int64)
    return np.where(hit.any(1), hit.argmax(1) + 1, 0).astype(np.int64)
