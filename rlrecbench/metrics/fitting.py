"""How far a policy lies from the distribution that it was fitted to, in nats (total variation: a share).

T is the distribution over titles, R what the policy draws: one title per list. At title level

    KL(T || R) = sum_y T(y) ln(T(y) / R(y)),    KL(R || T),    JS = KL(T || M) / 2 + KL(R || M) / 2,  M = (T + R) / 2,
    TV = sum_y |T(y) - R(y)| / 2

What only one of the two has counts eps = 2^-52 occurrences in the other, so KL(T || R) of a sample is mostly the share
of titles that were never drawn times ln(1 / eps) ~ 36; JS (at most ln 2) and TV (at most 1) hardly see eps.

At token level a token of a title's path counts once for each occurrence of the title, without the terminator.
``-exact`` takes the policy's own probabilities in place of a sample, from a walk over the whole trie. ``-floor`` takes
one sample of the same size from T itself, such as a perfect policy would draw; another sample gives another value, for
JS about (N - 1) / 8n on average with N titles and n draws, many for each title.
Source: Flower, section 4.2 (Table 3) and its public code.

Differs:
    - The public code sets a token's count back to zero for each title that has it, so its token-level numbers are not
      reproduced; counts are added up here.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np

from rlrecbench.data.frame import Ints
from rlrecbench.metrics.distribution import divergence
from rlrecbench.metrics.lists import Fit, Lists
from rlrecbench.metrics.reference import Floats
from rlrecbench.metrics.spec import metric

EPSILON = float(np.finfo(np.float64).eps)  # occurrences of what never occurs; Flower's public code
Distance = Callable[[Floats, Floats], float]
Drawn = Literal["sampled", "exact", "floor"]


def kl(t: Floats | Ints, r: Floats | Ints) -> float:
    """KL(T || R) of two vectors of counts; NaN if either is all 0."""
    p, q = smoothed(t, r)
    return float(divergence(p, q))


def kl_reverse(t: Floats | Ints, r: Floats | Ints) -> float:
    """KL(R || T) of two vectors of counts; NaN if either is all 0."""
    return kl(r, t)


def js(t: Floats | Ints, r: Floats | Ints) -> float:
    """Jensen-Shannon divergence of two vectors of counts, at most ln 2; NaN if either is all 0."""
    p, q = smoothed(t, r)
    m = (p + q) / 2
    return float(divergence(p, m) + divergence(q, m)) / 2


def tv(t: Floats | Ints, r: Floats | Ints) -> float:
    """Total variation of two vectors of counts, at most 1; NaN if either is all 0."""
    p, q = smoothed(t, r)
    return float(np.abs(p - q).sum() / 2)


def smoothed(t: Floats | Ints, r: Floats | Ints) -> tuple[Floats, Floats]:
    """Turn two vectors of counts into shares; what only one of them has counts eps in the other.

    What neither has is left out, and all is NaN if either is all 0.
    """
    there = (t > 0) | (r > 0)
    if not (t.any() and r.any()):
        return np.full(1, np.nan), np.full(1, np.nan)
    p, q = (np.where(x[there] > 0, x[there], EPSILON) for x in (t, r))
    return p / p.sum(), q / q.sum()


def token_counts(counts: Floats | Ints, paths: Ints) -> Floats:
    """Count tokens: each as often as the counts of the items whose paths have it, once per place in the path.

    Args:
        counts: Of the items, [N].
        paths: Token ids, -1 behind the end, [N, L].
    """
    inside = paths >= 0
    weights = np.broadcast_to(np.asarray(counts, np.float64)[:, None], paths.shape)
    return np.asarray(np.bincount(paths[inside], weights[inside]), np.float64)


_DISTANCES: dict[str, tuple[str, Distance]] = {
    "kl": ("KL(distribution || policy)", kl),
    "kl-reverse": ("KL(policy || distribution)", kl_reverse),
    "js": ("Jensen-Shannon divergence of policy and distribution", js),
    "tv": ("Total variation of policy and distribution", tv),
}
_WORDS: dict[Drawn, str] = {
    "sampled": "from what the policy draws",
    "exact": "from the policy's own probabilities",
    "floor": "of a sample of the same size from the distribution itself",
}


def _fit(lists: Lists) -> Fit:
    if lists.fit is None:
        raise ValueError("the lists have no fit")
    return lists.fit


def _items(lists: Lists, k: int, drawn: Drawn) -> Floats | Ints:
    """Counts of the items, or their probabilities, [N]."""
    if drawn == "sampled":
        return lists.items(k)
    if drawn == "exact":
        return _fit(lists).exact
    return np.bincount(lists.target, minlength=lists.reference.n_items)


def _titles(lists: Lists, items: Floats | Ints) -> Floats:
    """Turn counts of items [N] into counts of titles [T]."""
    return np.asarray(np.bincount(lists.reference.title_of, items, minlength=len(lists.reference.titles)), np.float64)


def _of_titles(name: str, words: str, distance: Distance, drawn: Drawn) -> None:
    @metric(name, better="lower", level="list", needs="fit", cite="flower")
    def of_titles(lists: Lists, k: int) -> float:
        t = lists.reference.title_frequency.astype(np.float64)
        return distance(t, _titles(lists, _items(lists, k, drawn)))

    of_titles.__doc__ = f"{words} over titles, {_WORDS[drawn]}."


def _of_tokens(name: str, words: str, distance: Distance, drawn: Drawn) -> None:
    @metric(name, better="lower", level="list", needs="fit", cite="flower")
    def of_tokens(lists: Lists, k: int) -> float:
        paths = _fit(lists).paths
        t = token_counts(lists.reference.item_frequency, paths)
        return distance(t, token_counts(_items(lists, k, drawn), paths))

    of_tokens.__doc__ = f"{words} over the tokens of titles, {_WORDS[drawn]}."


for _name, (_says, _distance) in _DISTANCES.items():
    _of_titles(f"fit-{_name}", _says, _distance, "sampled")
    _of_titles(f"fit-{_name}-exact", _says, _distance, "exact")
    _of_titles(f"fit-{_name}-floor", _says, _distance, "floor")
    if _name != "tv":  # Table 3 of the paper has no total variation
        _of_tokens(f"fit-token-{_name}", _says, _distance, "sampled")
        _of_tokens(f"fit-token-{_name}-floor", _says, _distance, "floor")
