"""Anybody's recommendations: a file, a table or an array -> :class:`Lists` -> every metric."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rlrecbench.data.frame import Dataset, Ints
from rlrecbench.errors import DataError
from rlrecbench.metrics.lists import ABSENT, Lists, audit
from rlrecbench.metrics.reference import Reference
from rlrecbench.metrics.spec import Spec, evaluate, parse
from rlrecbench.metrics.tables import Place, read_table, texts

Source = Path | str | pd.DataFrame | NDArray[Any]


def score(source: Source, dataset: Dataset, specs: Sequence[Spec | str]) -> dict[str, Any]:
    """Evaluate recommendations from anywhere.

    Args:
        source: A file or table as :func:`read_lists` takes it, or item numbers in the order of the test
            rows, best first, [U, K], -1 behind the end of a short list.
        dataset: The data set whose test rows they answer.
        specs: What to compute.

    Returns:
        ``dataset``, ``protocol``, ``users``, ``metrics`` and ``audit`` at the deepest cut-off.

    Raises:
        ConfigError: A metric's name is wrong.
        DataError: The recommendations do not fit the data set.
    """
    wanted = [parse(s) if isinstance(s, str) else s for s in specs]
    lists = lists_of(source, dataset)
    return {
        "dataset": dataset.name,
        "protocol": dataset.protocol,
        "users": len(lists),
        "metrics": evaluate(lists, wanted).values,
        "audit": audit(lists, max((s.k for s in wanted), default=None)),
    }


def lists_of(source: Source, dataset: Dataset) -> Lists:
    """Make lists from a file, a table or an array of item numbers.

    Raises:
        DataError: The recommendations do not fit the data set.
    """
    if isinstance(source, (str, Path)):
        return read_lists(Path(source), dataset)
    if isinstance(source, pd.DataFrame):
        return _lists(source, dataset, Place("the table", lambda row: f"row {row + 1}"))
    ranked = np.asarray(source)
    if ranked.ndim != 2 or len(ranked) != len(dataset.test) or ranked.dtype.kind not in "iu":
        raise DataError(
            f"the array of recommendations has shape {ranked.shape} and type {ranked.dtype}; {dataset.name} "
            f"needs item numbers (integers), one row per test row, in their order: [{len(dataset.test)}, K]"
        )
    return Lists(ranked.astype(np.int64), dataset.test.target, Reference.of(dataset))


def read_lists(path: Path, dataset: Dataset) -> Lists:
    """Read a tsv, csv or parquet file with columns user_id, item_id and, if not in row order, rank (from 1).

    ``item_id`` is the data set's own id; ``user_id`` is the data set's own id or, where test rows are
    examples, the 0-based number of the test row. Test users that the file does not name get empty lists,
    which :func:`~rlrecbench.metrics.lists.audit` counts.

    Raises:
        DataError: The file is missing, broken or empty, lacks a column, names an unknown user or item, or a
            user's ranks are not 1..n; the message names the line.
    """
    table, place = read_table(path)
    return _lists(table, dataset, place)


def _lists(table: pd.DataFrame, dataset: Dataset, place: Place) -> Lists:
    columns = list(table.columns)
    for name in ("user_id", "item_id"):
        if columns.count(name) != 1:
            raise DataError(
                f"{place.source}: exactly one column must be called {name!r}, found the columns "
                f"{', '.join(map(str, columns))}; needed are user_id, item_id and, unless in order, rank"
            )
    if columns.count("rank") > 1:
        raise DataError(f"{place.source}: at most one column may be called 'rank'")
    if table.empty:
        raise DataError(f"{place.source}: there are no recommendations, only a header; one row per item is needed")
    user = _user_rows(texts(table["user_id"], place), dataset, place)
    item = _item_numbers(texts(table["item_id"], place), dataset, place)
    order = pd.Series(user).groupby(user).cumcount().to_numpy() + 1
    rank = order if "rank" not in columns else _ranks(table["rank"], user, dataset, place)
    ranked = np.full((len(dataset.test), int(rank.max())), ABSENT, np.int64)
    ranked[user, rank - 1] = item
    return Lists(ranked, dataset.test.target, Reference.of(dataset))


def _user_rows(ids: "pd.Series[str]", dataset: Dataset, place: Place) -> Ints:
    known = pd.Index(np.asarray(dataset.test_ids()).astype(object))
    rows: Ints = known.get_indexer(pd.Index(ids)).astype(np.int64)
    if (rows < 0).any():
        bad = int(np.argmax(rows < 0))
        what = "a user with a test row" if dataset.protocol == "leave-one-out" else "the number of a test row"
        raise DataError(
            f"{place.at(bad)}: user_id {ids.iloc[bad]!r} is not {what} of {dataset.name} "
            f"({len(known)} of them, such as {known[0]!r}); use the data set's own ids"
        )
    return rows


def _item_numbers(ids: "pd.Series[str]", dataset: Dataset, place: Place) -> Ints:
    known = pd.Index(dataset.items["item_id"].astype(object))
    items: Ints = known.get_indexer(pd.Index(ids)).astype(np.int64)
    if (items < 0).any():
        bad = int(np.argmax(items < 0))
        raise DataError(
            f"{place.at(bad)}: item_id {ids.iloc[bad]!r} is not an item of {dataset.name} "
            f"({len(known)} of them, such as {known[0]!r}); use the data set's own ids"
        )
    return items


def _ranks(column: "pd.Series[Any]", user: Ints, dataset: Dataset, place: Place) -> Ints:
    """Check that every user's ranks are 1..n, each once, [R]."""
    number = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    whole = np.isfinite(number) & (number == np.floor(number)) & (number >= 1)
    if not whole.all():
        bad = int(np.argmin(whole))
        raise DataError(f"{place.at(bad)}: rank {str(column.iloc[bad])!r} is not a whole number from 1")

    def refuse(bad: int, problem: str) -> NoReturn:
        name = str(dataset.test_ids()[user[bad]])
        raise DataError(
            f"{place.at(bad)}: rank {int(number[bad])} of user {name!r} {problem}; "
            "a user's ranks must be 1..n, each once"
        )

    length = np.bincount(user)[user]
    again = pd.DataFrame({"user": user, "rank": number}).duplicated().to_numpy()
    if again.any():
        refuse(int(np.argmax(again)), "stands twice")
    if (number > length).any():
        bad = int(np.argmax(number > length))
        refuse(bad, f"is above the {length[bad]} rows that the user has")
    return number.astype(np.int64)
