"""Case studies: for a sample of users what each ranker recommends, side by side."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rlrecbench.report import words
from rlrecbench.report.captions import title
from rlrecbench.report.page.origin import Json, Origin
from rlrecbench.results import Record

Floats = NDArray[np.float64]
USERS = 30  # at most, per data set
DEPTH = 20  # places shown, at most


class _Shelf:
    """The items that a page shows, each once, in the order in which they came."""

    def __init__(self, items: pd.DataFrame) -> None:
        self.known = [items[name].tolist() for name in ("item_id", "title", "group")]
        self.place: dict[int, int] = {}
        self.shown: list[list[object]] = []

    def put(self, numbers: Sequence[int]) -> list[int]:
        """Return the places of items on the page; -1 stands for no item of the catalogue."""
        return [self._one(int(n)) if n >= 0 else -1 for n in numbers]

    def _one(self, number: int) -> int:
        if number not in self.place:
            self.place[number] = len(self.shown)
            self.shown.append([column[number] for column in self.known])
        return self.place[number]


def cases(origin: Origin) -> list[Json]:
    """One entry per data set whose catalogue and test rows are in the folder."""
    names = dict.fromkeys(block.dataset for block in origin.table.blocks)
    return [entry for name in names if (entry := _dataset(origin, name)) is not None]


def pick(values: Floats, ids: Sequence[str], most: int = USERS) -> list[tuple[int, bool]]:
    """Choose users: half those on whom the rankers disagree most, the others at random.

    Both depend on the ids and the values alone: what is random, and how ties fall, is the order of the ids' SHA-256.

    Args:
        values: The primary metric per ranker and user, [R, U]; no rankers: all are chosen at random.
        ids: Of the users, [U].
        most: How many.

    Returns:
        Row number, and whether it was chosen for disagreement.
    """
    drawn = sorted(range(len(ids)), key=lambda i: sha256(ids[i].encode()).digest())
    spread = values.std(axis=0) if len(values) else np.zeros(len(ids))
    split = [i for i in sorted(drawn, key=lambda i: -spread[i]) if spread[i] > 0][: most // 2]
    others = [i for i in drawn if i not in set(split)][: most - len(split)]
    return [*((i, True) for i in split), *((i, False) for i in others)]


def _dataset(origin: Origin, dataset: str) -> Json | None:
    results, primary = origin.results, origin.table.config.primary
    items, rows = results.items(dataset), results.rows(dataset)
    if items is None or rows is None:
        return None
    found = [r for r in results.records if r.dataset == dataset]
    seed = min(found, key=lambda r: origin.table.seeds.index(r.seed)).seed
    records = [r for r in found if r.seed == seed]
    measured = results.users(records[0])["user_id"]
    rows = rows[rows["user_id"].isin(measured)].reset_index(drop=True)
    ids = rows["user_id"].astype(str).tolist()
    known = results.has_users(records, primary)
    values = np.array([_of_users(origin, r, ids) for r in records]) if known else np.zeros((0, len(ids)))
    chosen = pick(values, ids)
    shelf, number = _Shelf(items), pd.Index(items["item_id"])
    lists = {r.name: _lists(origin, r, [ids[i] for i, _ in chosen], number) for r in records}
    users = []
    for i, split in chosen:
        row = rows.iloc[i]
        cells = {origin.number[r.name]: shelf.put(lists[r.name][ids[i]]) for r in records}
        users.append(
            {
                "id": ids[i],
                "why": "rankers disagree" if split else "random",
                "history": shelf.put(number.get_indexer(pd.Index(row["history"]))),
                "target": shelf.put(number.get_indexer(pd.Index([row["target"]])))[0],
                "lists": cells,
                "values": {origin.number[r.name]: words.number(values[j, i]) for j, r in enumerate(records)}
                if known
                else {},
            }
        )
    return {
        "dataset": dataset,
        "seed": seed,
        "primary": primary if known else "",
        "test_users": len(ids),
        "split": sum(split for _, split in chosen),
        "items": shelf.shown,
        "users": users,
        "boards": [_board(origin, i, seed) for i, b in enumerate(origin.table.blocks) if b.dataset == dataset],
    }


def _board(origin: Origin, index: int, seed: int) -> Json:
    """The rows of a block, each with its cell of the seed."""
    block = origin.table.blocks[index]
    rows = []
    for row in block.rows:
        record = origin.records(block, row).get(seed)
        why = "" if record is not None else origin.reason(block, row, seed)
        rows.append({"label": row.label, "cell": None if record is None else origin.number[record.name], "why": why})
    return {"id": f"b{index}", "title": title(block), "rows": rows}


def _of_users(origin: Origin, record: Record, ids: list[str]) -> Floats:
    """The primary metric in the order of the test rows, [U]."""
    frame = origin.results.users(record)
    order = pd.Index(frame["user_id"].astype(str)).get_indexer(pd.Index(ids))
    values: Floats = frame[origin.table.config.primary].to_numpy(np.float64)[order]
    return values


def _lists(origin: Origin, record: Record, chosen: Sequence[str], number: "pd.Index[Any]") -> dict[str, list[int]]:
    """The chosen users' lists as item numbers, best first; -1 stands for no item of the catalogue."""
    ranked = origin.results.ranked(record)
    found = ranked[ranked["user_id"].isin(chosen) & (ranked["rank"] <= DEPTH)].sort_values("rank")
    items = pd.Series(number.get_indexer(pd.Index(found["item_id"])), index=found["user_id"].astype(str))
    lists = {user: numbers.tolist() for user, numbers in items.groupby(level=0, sort=False)}
    return {user: lists.get(user, []) for user in chosen}
