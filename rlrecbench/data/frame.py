"""The data of one protocol, ready to use: items, training pairs, validation and test examples.

Item ids are 0..N-1 everywhere, -1 is absent. A history runs from the oldest item to the newest.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rlrecbench.data.groups import popularity_groups

Ints = NDArray[np.int64]
Part = Literal["train", "valid", "test"]
PARTS: tuple[Part, ...] = ("train", "valid", "test")


@dataclass(frozen=True)
class Examples:
    """Rows of (user, history, target).

    Attributes:
        user: User number of each row, [R].
        offsets: History of row r is ``values[offsets[r]:offsets[r + 1]]``, [R + 1].
        values: All histories, one after the other.
        target: Item to predict, [R].
    """

    user: Ints
    offsets: Ints
    values: Ints
    target: Ints

    def __len__(self) -> int:
        return len(self.target)

    @cached_property
    def lengths(self) -> Ints:
        """History lengths, [R]."""
        return np.diff(self.offsets)

    def history(self, row: int) -> Ints:
        """One history, oldest first."""
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def padded(self, rows: Ints) -> Ints:
        """Histories of some rows, oldest first, filled up with -1 on the right: [B, H], with H at least 1."""
        lengths = self.lengths[rows]
        width = int(lengths.max(initial=1))
        at = self.offsets[rows][:, None] + np.arange(width)
        inside = np.arange(width) < lengths[:, None]
        if not len(self.values):
            return np.full(inside.shape, -1)
        return np.where(inside, self.values[np.minimum(at, len(self.values) - 1)], -1)

    def head(self, n: int | None) -> "Examples":
        """The first n rows (all of them for None)."""
        if n is None or n >= len(self):
            return self
        return Examples(self.user[:n], self.offsets[: n + 1], self.values[: self.offsets[n]], self.target[:n])

    @staticmethod
    def make(user: list[int], histories: list[Any], target: list[int]) -> "Examples":
        """Build from a list of histories."""
        lengths = [len(h) for h in histories]
        return Examples(
            np.asarray(user, np.int64),
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            np.concatenate(histories).astype(np.int64) if histories else np.zeros(0, np.int64),
            np.asarray(target, np.int64),
        )

    def write(self, path: Path) -> None:
        """Write a parquet file with columns user, history (list), target."""
        history = pa.ListArray.from_arrays(pa.array(self.offsets, pa.int32()), pa.array(self.values, pa.int32()))
        table = {
            "user": pa.array(self.user, pa.int32()),
            "history": history,
            "target": pa.array(self.target, pa.int32()),
        }
        pq.write_table(pa.table(table), path)

    @staticmethod
    def read(path: Path) -> "Examples":
        """Read what :meth:`write` wrote."""
        table = pq.read_table(path).combine_chunks()
        history = table["history"].chunk(0) if len(table) else None
        return Examples(
            table["user"].to_numpy().astype(np.int64),
            history.offsets.to_numpy().astype(np.int64) if history is not None else np.zeros(1, np.int64),
            history.values.to_numpy().astype(np.int64) if history is not None else np.zeros(0, np.int64),
            table["target"].to_numpy().astype(np.int64),
        )


@dataclass(frozen=True)
class Dataset:
    """One data set under one protocol.

    Attributes:
        name: Registered name.
        protocol: "leave-one-out" (one test row per user), "examples" (released rows) or "distribution" (titles to
            draw in proportion to a weight, without histories).
        items: One row per item, indexed 0..N-1: ``item_id`` (the data set's own id), ``title`` (the name that
            metrics use: title, else text_id, else item_id) and ``text`` (all there is to say about the item);
            with "distribution" also ``weight``, the occurrences that are to be fitted.
        users: The data set's own user ids, [number of users].
        train: Training pairs, in file order; for leave-one-out every prefix of the training region.
        valid: Validation examples.
        test: Test examples.
        settings: The options that made it (max_history, last, ...), part of the fingerprint.
        checksum: sha256 over the source files.
    """

    name: str
    protocol: str
    items: pd.DataFrame
    users: NDArray[np.str_]
    train: Examples
    valid: Examples
    test: Examples
    settings: dict[str, Any]
    checksum: str

    @property
    def n_items(self) -> int:
        """Number of items N."""
        return len(self.items)

    def part(self, name: Part) -> Examples:
        """One part by name."""
        return {"train": self.train, "valid": self.valid, "test": self.test}[name]

    def test_ids(self) -> NDArray[Any]:
        """What ``user_id`` means in lists: the data set's user id, or the test row's number for "examples"."""
        if self.protocol == "leave-one-out":
            return np.asarray(self.users[self.test.user])
        return np.arange(len(self.test)).astype(str)

    @cached_property
    def popularity(self) -> Ints:
        """Occurrences of each item in the training *region* (targets and first history items), [N].

        Every training interaction counts once: the targets of all pairs plus, for each user, the items of
        the user's first pair's history. With "distribution" it is the items' weight.
        """
        if self.protocol == "distribution":
            return self._weight
        counts = np.bincount(self.train.target, minlength=self.n_items)
        first = np.unique(self.train.user, return_index=True)[1]
        heads = np.concatenate([self.train.history(r) for r in first]) if len(first) else np.zeros(0, np.int64)
        return counts + np.bincount(heads, minlength=self.n_items)

    @cached_property
    def frequency(self) -> Ints:
        """Occurrences of each item in the history lists of the training pairs, every window counted, [N].

        With "distribution", where nothing has a history, it is the items' weight.

        Source: Flower's popularity files.
        """
        if self.protocol == "distribution":
            return self._weight
        return np.bincount(self.train.values, minlength=self.n_items).astype(np.int64)

    @cached_property
    def groups(self) -> Ints:
        """Popularity group of each item's title, 0 the most popular, as the fairness metrics cut them, [N].

        Equal titles count as one; titles that no training history names are in group 7.
        """
        title_of, distinct = pd.factorize(self.items["title"])
        return popularity_groups(title_of[self.train.values], len(distinct))[title_of]

    @property
    def _weight(self) -> Ints:
        return np.array(self.items["weight"], np.int64)

    def write(self, folder: Path) -> None:
        """Write parquet files and ``dataset.json``."""
        self.items.to_parquet(folder / "items.parquet", index=False)
        pd.DataFrame({"user_id": self.users.astype(str)}).to_parquet(folder / "users.parquet", index=False)
        for part in PARTS:
            self.part(part).write(folder / f"{part}.parquet")
        about = {
            "name": self.name,
            "protocol": self.protocol,
            "settings": self.settings,
            "checksum": self.checksum,
        }
        (folder / "dataset.json").write_text(json.dumps(about, indent=1, sort_keys=True))

    @staticmethod
    def read(folder: Path) -> "Dataset":
        """Read what :meth:`write` wrote."""
        about = json.loads((folder / "dataset.json").read_text())
        return Dataset(
            about["name"],
            about["protocol"],
            pd.read_parquet(folder / "items.parquet"),
            pd.read_parquet(folder / "users.parquet")["user_id"].to_numpy().astype(str),
            train=Examples.read(folder / "train.parquet"),
            valid=Examples.read(folder / "valid.parquet"),
            test=Examples.read(folder / "test.parquet"),
            settings=about["settings"],
            checksum=about["checksum"],
        )
