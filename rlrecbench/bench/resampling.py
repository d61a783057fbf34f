"""Metrics of one ranking against loops over users, and resampling of two against a loop over resamples."""

from collections import Counter
from dataclasses import dataclass
from math import log, log2
from statistics import median

import numpy as np

from rlrecbench.bench.timing import Result, compare, seconds
from rlrecbench.data.groups import GROUPS
from rlrecbench.metrics import Lists, Reference, evaluate, standard
from rlrecbench.metrics.distribution import PSEUDO_COUNT
from rlrecbench.stats.draws import Draws
from rlrecbench.stats.lists import Resampled, difference, swapped

USERS, ITEMS, LENGTH = 22_363, 12_101, 10  # Beauty
TITLE, VOCABULARY = 6, 9_000  # words of a title and of all titles; about Beauty's
CUTOFFS = (5, 10)
RESAMPLES = 10_000
LOOPED = 10  # resamples of the loop, whose seconds count RESAMPLES / LOOPED times: each takes as long
TOLERANCE = 1e-9  # between two ways to compute a metric


@dataclass(frozen=True)
class _World:
    """Lists of two methods for the same users, and the names of all metrics that can be resampled."""

    a: Lists
    b: Lists
    names: list[str]


def _world() -> _World:
    """Users with lists by Zipf's law, a little steeper for the second method; titles of words by Zipf's law."""
    rng = np.random.default_rng(0)
    popularity, words = (1 / np.arange(1, n + 1) for n in (ITEMS, VOCABULARY))
    titles = rng.choice(VOCABULARY, (ITEMS, TITLE), p=words / words.sum())
    reference = Reference(
        [f"{' '.join(map(str, title))} {i}" for i, title in enumerate(titles)],
        np.arange(ITEMS),
        (5 + 7000 * popularity).astype(np.int64),
        np.arange(ITEMS) * GROUPS // ITEMS,
    )
    target = rng.integers(ITEMS, size=USERS)
    weights = [popularity**slope for slope in (0.7, 0.75)]
    a, b = (Lists(rng.choice(ITEMS, (USERS, LENGTH), p=w / w.sum()), target, reference) for w in weights)
    return _World(a, b, [str(s) for s in standard(CUTOFFS) if s.metric.level != "list"])


def metrics(repeats: int) -> Result:
    """Accuracy, fairness, diversity and divergence of one ranking, against loops over users and places.

    Args:
        repeats: Alternating repeats.
    """
    lists = _world().a
    names = list(_looped(lists))

    def ours() -> dict[str, float]:
        fresh = Lists(lists.ranked, lists.target, lists.reference)  # no counts are kept from before
        return evaluate(fresh, names).values

    def loops() -> dict[str, float]:
        return _looped(lists)

    mine, other = ours(), loops()
    same = all(abs(mine[name] - other[name]) < TOLERANCE for name in names)
    return compare("metrics", "loops over users and places", ours, loops, same, repeats)


def bootstrap(repeats: int) -> Result:
    """Permutation and intervals of all metrics for two methods, against evaluating every resample's lists in a loop.

    Ours swaps users, draws them again and leaves some out; the loop only swaps.

    Args:
        repeats: Alternating repeats.
    """
    world = _world()

    def ours(resamples: int = RESAMPLES) -> tuple[list[Resampled], list[Resampled]]:
        draws = Draws.of(USERS, resamples)
        a, b = ([Resampled(x, world.names, draws)] for x in (world.a, world.b))
        difference(a, b)
        return a, b

    few = ours(LOOPED)
    draws, found = few[0][0].draws, swapped(*few)

    def loop() -> list[dict[str, float]]:
        return [_swapped_lists(world, draws, row) for row in range(1, LOOPED + 1)]

    same = all(abs(found[n][row] - values[n]) < TOLERANCE for row, values in enumerate(loop(), 1) for n in world.names)
    mine, other = [], []
    for _ in range(repeats):
        mine.append(seconds(ours))
        other.append(seconds(loop) * RESAMPLES / LOOPED)
    ratios = [b / a for a, b in zip(mine, other, strict=True)]
    words = f"evaluating both rankings in a loop over {RESAMPLES:,} swaps (by the time of {LOOPED})"
    return Result(
        "bootstrap", median(mine), words, median(other), median(ratios), min(ratios), max(ratios), repeats, same
    )


def _swapped_lists(world: _World, draws: Draws, row: int) -> dict[str, float]:
    """Each metric's difference after one swap, from the swapped lists themselves."""
    turned = draws.swapped[row][draws.bundle][:, None]
    pair = []
    for x, y in ((world.a, world.b), (world.b, world.a)):
        ranked = np.where(turned, y.ranked, x.ranked)
        pair.append(evaluate(Lists(ranked, x.target, x.reference), world.names).values)
    return {name: pair[0][name] - pair[1][name] for name in world.names}


def _looped(lists: Lists) -> dict[str, float]:
    """The usual metrics as they are usually written."""
    out: dict[str, float] = {}
    reference, rows = lists.reference, lists.ranked.tolist()
    frequency = np.where(reference.item_frequency == 0, PSEUDO_COUNT, reference.item_frequency).tolist()
    everything = sum(frequency)
    for k in CUTOFFS:
        hits, gain, reciprocal = 0.0, 0.0, 0.0
        items: Counter[int] = Counter()
        words: Counter[str] = Counter()
        groups = [0] * GROUPS
        for row, target in zip(rows, lists.target.tolist(), strict=True):
            for item in row[:k]:
                items[item] += 1
                title = int(reference.title_of[item])
                groups[int(reference.group_of[title])] += 1
                for word in reference.titles[title].split():
                    words[word] += 1
            if target in row[:k]:
                place = row.index(target) + 1
                hits, gain, reciprocal = hits + 1, gain + 1 / log2(place + 1), reciprocal + 1 / place
        n, n_items, n_words = len(rows), items.total(), words.total()
        unfairness = [g / n_items - share for g, share in zip(groups, reference.group_share.tolist(), strict=True)]
        out[f"recall@{k}"], out[f"ndcg@{k}"], out[f"mrr@{k}"] = hits / n, gain / n, reciprocal / n
        out[f"dgu@{k}"] = max(unfairness) - min(unfairness)
        out[f"mgu@{k}"] = sum(map(abs, unfairness)) / GROUPS
        out[f"entropy@{k}"] = -sum(c / n_words * log2(c / n_words) for c in words.values())
        out[f"ttr@{k}"] = len(words) / n_words
        out[f"coverage@{k}"] = len(items) / reference.n_items
        out[f"item-entropy@{k}"] = -sum(c / n_items * log2(c / n_items) for c in items.values())
        out[f"kl-popularity@{k}"] = sum(
            c / n_items * log(c / n_items / (frequency[i] / everything)) for i, c in items.items()
        )
    return out
