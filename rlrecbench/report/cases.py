"""Case studies: one test user's history, the target, and every ranker's list side by side.

Source: the case studies of GFlowGR and Flower.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rlrecbench.config import nearest
from rlrecbench.errors import ConfigError, StoreError
from rlrecbench.results import NO_BACKBONE, Record, Results


@dataclass(frozen=True)
class Item:
    """One item as people know it.

    Attributes:
        id: The data set's own id; "" for an entry that is no item of the catalogue.
        title: What people call it.
        group: Popularity group of the title, 0 the most popular; None where the id is "".
    """

    id: str
    title: str
    group: int | None


@dataclass(frozen=True)
class Ranked:
    """What one ranker recommends.

    Attributes:
        backbone: Label; "none" for a ranker without one.
        method: Label.
        items: Best first; as many as were asked for, fewer where the list is short.
        rank: Place of the target in the whole list, from 1; None where it is not in it.
    """

    backbone: str
    method: str
    items: tuple[Item, ...]
    rank: int | None


@dataclass(frozen=True)
class Case:
    """One test user.

    Attributes:
        dataset: Name of the data set.
        user: The data set's id, or the number of the test row.
        seed: Training seed of the lists.
        history: What the models see, oldest first.
        target: What is looked for.
        lists: One per ranker, in suite order.
        k: Length of the lists that was asked for.
        stored: Length of the longest stored list of these rankers.
    """

    dataset: str
    user: str
    seed: int
    history: tuple[Item, ...]
    target: Item
    lists: tuple[Ranked, ...]
    k: int
    stored: int


def case(
    results: Results,
    dataset: str,
    user: str,
    seed: int,
    *,
    backbones: Sequence[str] = (),
    methods: Sequence[str] = (),
    k: int = 10,
) -> Case:
    """Collect what is known of one test user.

    Args:
        results: What is on disk.
        dataset: Name of the data set.
        user: Its id there.
        seed: Training seed.
        backbones: Those whose lists to show, rankers without one besides; none: all.
        methods: Those whose lists to show; none: all.
        k: Length of the lists.

    Raises:
        ConfigError: The user, or another name, is unknown.
        StoreError: The folder lacks the data set's items and test rows, or a file is broken.
    """
    records = chosen(results, dataset, seed, backbones, methods)
    items, rows = known(results, dataset)
    found = rows.index[rows["user_id"] == user]
    if not len(found):
        raise ConfigError(_stranger(results, dataset, user, rows["user_id"]))
    row = rows.loc[found[0]]
    titles = dict(zip(items["item_id"], items["title"], strict=True))
    groups = dict(zip(items["item_id"], items["group"], strict=True))

    def item(name: str) -> Item:
        if name not in titles:
            return Item("", "no item of the catalogue", None)
        return Item(name, str(titles[name]), int(groups[name]))

    def ranked(record: Record) -> tuple[Ranked, int]:
        lists = results.ranked(record)
        mine = lists[lists["user_id"] == user].sort_values("rank")
        place = mine.loc[mine["item_id"] == row["target"], "rank"]
        shown = tuple(item(name) for name in mine.loc[mine["rank"] <= k, "item_id"])
        rank = int(place.min()) if len(place) else None
        return Ranked(record.backbone, record.method, shown, rank), int(lists["rank"].max()) if len(lists) else 0

    history = tuple(item(name) for name in row["history"])
    shown, lengths = zip(*map(ranked, records), strict=True)
    return Case(dataset, user, seed, history, item(row["target"]), shown, k, max(lengths))


def pick(results: Results, dataset: str, n: int, seed: int | None = None) -> list[str]:
    """Name the test users on whom the rankers disagree most, by the standard deviation of the target's 1 / rank.

    Ties keep the order of the test rows, so the answer is always the same.

    Args:
        results: What is on disk.
        dataset: Name of the data set.
        n: How many.
        seed: Training seed; None: the first of the data set's records.

    Raises:
        StoreError: No cell of the data set and seed is done, or a file is broken.
    """
    records = chosen(results, dataset, first_seed(results, dataset) if seed is None else seed)
    frames = [results.users(r).set_index("user_id")["rank"] for r in records]
    users = frames[0].index
    ranks = np.stack([f.reindex(users).astype("float64").fillna(np.inf).to_numpy() for f in frames])
    spread = (1 / ranks).std(0)
    return [str(users[i]) for i in np.argsort(-spread, kind="stable")[:n]]


def chosen(
    results: Results, dataset: str, seed: int, backbones: Sequence[str] = (), methods: Sequence[str] = ()
) -> list[Record]:
    """The cells of one data set and seed, in suite order.

    Raises:
        ConfigError: A name is unknown, or no cell is left.
        StoreError: No cell of the data set is done.
    """
    here = [r for r in results.records if r.dataset == dataset]
    if not here:
        names = sorted({r.dataset for r in results.records})
        if not names:
            raise StoreError(f"{results.root}: no cell is done yet; run the suite (rlrecbench run) first")
        raise ConfigError(f"{results.root} has no results on {dataset!r}; {nearest(dataset, names, 'data sets')}")
    for kind, wanted in (("backbone", backbones), ("method", methods), ("seed", [str(seed)])):
        names = sorted({str(getattr(r, kind)) for r in here})
        for name in wanted:
            if name not in names:
                shown = name if kind == "seed" else repr(name)
                raise ConfigError(f"{results.root}: no {kind} {shown} on {dataset}; {nearest(name, names, 'done')}")
    kept = [
        r
        for r in here
        if r.seed == seed
        and (not backbones or r.backbone in (*backbones, NO_BACKBONE))
        and (not methods or r.method in methods)
    ]
    if not kept:
        raise ConfigError(f"{results.root}: no cell on {dataset} has these methods, backbones and seed {seed} together")
    return kept


def first_seed(results: Results, dataset: str) -> int:
    """The first seed of which the data set has a record; 0 where it has none."""
    return min((r.seed for r in results.records if r.dataset == dataset), default=0)


def known(results: Results, dataset: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The catalogue and the test rows.

    Raises:
        StoreError: The folder lacks them.
    """
    items, rows = results.items(dataset), results.rows(dataset)
    if items is None or rows is None:
        raise StoreError(
            f"{results.root} has no data/{dataset}, so users' histories and titles are not known; "
            "run the suite again with this version to write data/ (nothing is trained again)"
        )
    return items, rows


def _stranger(results: Results, dataset: str, user: str, users: "pd.Series[str]") -> str:
    ids = [str(u) for u in users]
    guess = nearest(user, ids, "") if len(ids) <= 100_000 else ""
    near = f"{guess} " if guess.startswith("did") else ""
    return (
        f"{results.root}: {dataset} has no test user {user!r}; {near}it has {len(ids):,}, such as "
        f"{', '.join(pick(results, dataset, 3))}"
    )
