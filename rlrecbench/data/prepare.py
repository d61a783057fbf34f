"""From a data set's files to items, training pairs, validation and test examples.

Leave-one-out, with x_1 .. x_n a user's items from the oldest to the newest (equal times keep the file's
order): test is x_1..x_{n-1} -> x_n, validation x_1..x_{n-2} -> x_{n-1}, and every prefix x_1..x_{i-1} -> x_i
with i = 2..n-2 is a training pair. A history is never empty, so a user with n = 1 gives nothing, with n = 2
only the test row, with n = 3 test and validation, and training pairs begin with n = 4.
Source: the protocol of LETTER, TIGER, S3-Rec and LC-Rec.

Examples: the released rows, in the order of the files. Source: Flower.

With ``titles`` either becomes the most frequent titles without histories (:mod:`rlrecbench.data.distribution`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rlrecbench.config import Count
from rlrecbench.data.datasets import checksum, locate, source_names, spec_of
from rlrecbench.data.distribution import distribution
from rlrecbench.data.frame import Dataset, Examples, Ints
from rlrecbench.data.readers import find_file, read_atomic
from rlrecbench.errors import ConfigError, DataError

_TITLE = ("title", "movie_title", "text_id")
_ABOUT = ("categories", "class", "genre", "release_year", "year")


@dataclass(frozen=True)
class DataOptions:
    """How a data set is cut; part of the fingerprint."""

    max_history: Count | None = None  # newest items kept of each history; None: the protocol's 20 or 10
    last: Count | None = None  # newest interactions kept of each user before splitting; None: all
    titles: Count | None = None  # fit the distribution of so many most frequent titles, without histories; Flower RQ1
    rows: Count = 6400  # training rows where ``titles`` is given; Flower's RQ1 code, for 100 titles

    def __post_init__(self) -> None:
        for name, value in (("max_history", self.max_history), ("last", self.last), ("rows", self.rows)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}, it must be at least 1")
        if self.titles is not None and self.titles < 2:
            raise ConfigError(f"titles is {self.titles}, a distribution needs at least 2")
        if self.titles is None and self.rows != DataOptions.rows:
            raise ConfigError(f"rows is {self.rows}, but only a distribution has rows to draw; give 'titles' too")


@dataclass(frozen=True)
class Interactions:
    """All interactions, user by user in the order of first appearance, oldest first within a user.

    Attributes:
        users: The data set's own user ids, [U].
        user: User number of each interaction, [E].
        item: Item number of each interaction, [E].
    """

    users: NDArray[np.str_]
    user: Ints
    item: Ints


def prepare(name: str, options: DataOptions, dirs: Sequence[Path]) -> Dataset:
    """Read a data set and cut it by its protocol.

    Args:
        name: A registered name, or that of a folder with a NAME.inter.
        options: How to cut it.
        dirs: Data folders, from :func:`rlrecbench.data.datasets.data_dirs`.

    Raises:
        DataError: A file is missing or broken, an item is not in the item file, nothing is left to train or test
            on, or there are fewer titles than asked for.
        ConfigError: The options do not suit the protocol.
    """
    spec, folder = spec_of(name, dirs), locate(name, dirs)
    max_history = spec.max_history if options.max_history is None else options.max_history
    if spec.protocol == "leave-one-out":
        items, interactions = read_interactions(name, folder, options.last)
        users = interactions.users
        parts = leave_one_out(interactions, max_history)
    elif options.last is not None:
        raise ConfigError(f"data set {name}: 'last' is for leave-one-out data, this one has released examples")
    else:
        items, users, parts = _released([folder / file for file in source_names(spec)], max_history)
    for part, rows in zip(("training", "test"), (parts[0], parts[2]), strict=True):
        if not len(rows):
            raise DataError(
                f"data set {name} in {folder}: no {part} row is left; leave-one-out data need a user with at "
                f"least four interactions (last: {options.last}), released examples a row in train and test"
            )
    settings = {"max_history": max_history, "last": options.last}
    data = Dataset(name, spec.protocol, items, users, *parts, settings=settings, checksum=checksum(name, folder))
    return data if options.titles is None else distribution(data, options.titles, options.rows)


def read_interactions(name: str, folder: Path, last: int | None = None) -> tuple[pd.DataFrame, Interactions]:
    """Read NAME.inter and NAME.item.

    Args:
        name: The data set.
        folder: Where its files are.
        last: Newest interactions to keep of each user; None: all.

    Returns:
        The items (as in :class:`~rlrecbench.data.frame.Dataset`) and the interactions.

    Raises:
        DataError: A file is missing or broken, or an item is not in the item file.
    """
    path = folder / f"{name}.inter"
    rows = read_atomic(path, ["user_id:token", "item_id:token", "timestamp:float"])
    lines = np.arange(len(rows)) + 2
    _refuse_blank(rows, path)
    items = _items(folder / f"{name}.item", rows["item_id"])
    item = _numbers(rows["item_id"], items, lines, path)
    codes, users = pd.factorize(rows["user_id"])
    order = np.lexsort((rows["timestamp"].to_numpy(), codes))
    user, item = codes[order].astype(np.int64), item[order]
    if last is not None:
        _, after = _places(user)
        user, item = user[after < last], item[after < last]
    return items, Interactions(np.asarray(users, np.str_), user, item)


def leave_one_out(rows: Interactions, max_history: int) -> tuple[Examples, Examples, Examples]:
    """Split into training pairs, validation and test examples: user by user, short prefixes first."""
    before, after = _places(rows.user)
    parts = (after >= 2, after == 1, after == 0)
    at = [np.flatnonzero(part & (before > 0)) for part in parts]
    train, valid, test = (_cut(rows.user[a], rows.item, a, np.minimum(before[a], max_history)) for a in at)
    return train, valid, test


def _released(
    paths: list[Path], max_history: int
) -> tuple[pd.DataFrame, NDArray[np.str_], tuple[Examples, Examples, Examples]]:
    """Read three files of examples and the item file; users are numbered by first appearance in the three."""
    *files, item_file = paths
    tables = [_released_rows(file) for file in files]
    items = _items(item_file, pd.concat([t.tokens for t in tables], ignore_index=True))
    codes, users = pd.factorize(pd.concat([t.user for t in tables], ignore_index=True))
    numbers = np.split(codes.astype(np.int64), np.cumsum([len(t.user) for t in tables])[:-1])
    parts = []
    for table, user, file in zip(tables, numbers, files, strict=True):
        lines = np.repeat(np.arange(len(user)) + 2, table.lengths + 1)
        item = _numbers(table.tokens, items, lines, file)
        at = np.cumsum(table.lengths + 1) - 1
        parts.append(_cut(user, item, at, np.minimum(table.lengths, max_history)))
    train, valid, test = parts
    return items, np.asarray(users, np.str_), (train, valid, test)


class _Released(NamedTuple):
    """A file of examples: user ids [R], each row's history and behind it its target, history lengths [R]."""

    user: "pd.Series[str]"
    tokens: "pd.Series[str]"
    lengths: Ints


def _released_rows(path: Path) -> _Released:
    rows = read_atomic(path, ["user_id:token", "item_id_list:token_seq", "item_id:token"])
    _refuse_blank(rows, path)
    histories = [[token for token in text.split(" ") if token] for text in rows["item_id_list"]]
    pairs = zip(histories, rows["item_id"], strict=True)
    tokens = pd.Series([token for history, target in pairs for token in (*history, target)], dtype=str)
    return _Released(rows["user_id"], tokens, np.array([len(h) for h in histories], np.int64))


def _places(user: Ints) -> tuple[Ints, Ints]:
    """Count the interactions of the same user before and after each one; users stand in blocks."""
    index = np.arange(len(user))
    _, first, block, counts = np.unique(user, return_index=True, return_inverse=True, return_counts=True)
    before = index - first[block]
    return before, counts[block] - 1 - before


def _cut(user: Ints, item: Ints, at: Ints, lengths: Ints) -> Examples:
    """Make examples with the targets ``item[at]`` and, as histories, the ``lengths`` items before them."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values = item[np.arange(offsets[-1]) + np.repeat(at - lengths - offsets[:-1], lengths)]
    return Examples(user, offsets, values, item[at])


def _items(path: Path, used: "pd.Series[str]") -> pd.DataFrame:
    """Make the table of items from the item file or, without one, from the ids in use."""
    if find_file(path) is None:
        ids = used.drop_duplicates().tolist()
        if all(i.isascii() and i.isdigit() for i in ids):
            ids.sort(key=int)
        return pd.DataFrame({"item_id": ids, "title": ids, "text": ""})
    rows = read_atomic(path, ["item_id:token"], [*_TITLE, *_ABOUT])
    _refuse_blank(rows, path)
    twice = np.flatnonzero(rows["item_id"].duplicated())
    if len(twice):
        line, item = twice[0] + 2, rows["item_id"].iloc[twice[0]]
        raise DataError(f"{path}, line {line}: item {item!r} stands twice; every item has one row")
    title = rows["item_id"]
    for column in reversed([c for c in _TITLE if c in rows]):
        title = rows[column].where(rows[column].str.strip() != "", title)
    said = [rows[c].tolist() for c in (*_TITLE, *_ABOUT) if c in rows]
    text = [" ".join(filter(str.strip, words)) for words in zip(*said, strict=True)] if said else ""
    return pd.DataFrame({"item_id": rows["item_id"], "title": title, "text": text})


def _numbers(tokens: "pd.Series[str]", items: pd.DataFrame, lines: Ints, file: Path) -> Ints:
    """Turn item ids into item numbers; ``lines`` says where each one stands in the file."""
    numbers: Ints = pd.Index(items["item_id"]).get_indexer(pd.Index(tokens)).astype(np.int64)
    unknown = np.flatnonzero(numbers < 0)
    if len(unknown):
        k = unknown[0]
        raise DataError(
            f"{file}, line {lines[k]}: item {tokens.iloc[k]!r} is not in the item file; add it there or remove the row"
        )
    return numbers


def _refuse_blank(rows: pd.DataFrame, file: Path) -> None:
    """Refuse the first row in which an id, or a list of them, is empty."""
    for column in ("user_id", "item_id", "item_id_list"):
        if column in rows:
            blank = np.flatnonzero(rows[column].str.strip(" ") == "")
            if len(blank):
                raise DataError(f"{file}, line {blank[0] + 2}: {column} is empty; every row needs one")
