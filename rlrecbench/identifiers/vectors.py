"""Item vectors from a file, put into the data set's order by item id and never by position alone."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rlrecbench.errors import DataError

Floats = NDArray[np.float32]


def ids_file(path: Path) -> Path:
    """Where the item ids of a vectors file stand, one a line: ``x.ids.txt`` beside ``x.npy``."""
    return path.with_name(path.stem + ".ids.txt")


def read_vectors(path: Path, item_ids: Sequence[str], name: str) -> Floats:
    """Read the vectors of some items, in their order.

    With an ids file, row r belongs to the item on line r of it, and rows of other items are ignored. Without one,
    row r belongs to item "r", so the data set's item ids must be the numbers 0..N-1.

    Args:
        path: A NumPy file with one array of floating-point numbers, one row per item.
        item_ids: The data set's own item ids, [N].
        name: The data set, for messages.

    Returns:
        Vectors in single precision, [N, D].

    Raises:
        DataError: The file is missing, broken or of another shape or type, or its rows are not the items'.
    """
    array = read_array(path)
    ids = ids_file(path)
    rows = (
        _rows_by_id(ids, len(array), item_ids, name) if ids.is_file() else _rows_by_number(path, array, item_ids, name)
    )
    with np.errstate(over="ignore"):  # too large for single precision becomes infinite, which the caller reports
        return np.ascontiguousarray(array[rows], np.float32)


def read_array(path: Path) -> NDArray[np.floating]:
    """Read the rows of a vectors file as they stand, [rows, D].

    Raises:
        DataError: The file is missing, broken or of another shape or type.
    """
    try:
        with path.open("rb") as f:
            array = np.lib.format.read_array(f, allow_pickle=False)
    except (OSError, ValueError, MemoryError) as e:
        reason = (isinstance(e, OSError) and e.strerror) or str(e).partition("\n")[0]
        raise DataError(f"{path}: cannot be read as a NumPy file: {reason}; write it with numpy.save") from e
    if array.dtype.kind != "f":
        raise DataError(
            f"{path}: holds values of type {array.dtype}; vectors must be floating-point numbers, "
            "such as those of array.astype('float32')"
        )
    if array.ndim != 2 or not array.shape[1]:
        raise DataError(f"{path}: has shape {array.shape}; vectors must be [N, D], one row per item")
    return array


def _rows_by_number(path: Path, array: NDArray[np.floating], item_ids: Sequence[str], name: str) -> list[int]:
    """Rows of items whose ids are the row numbers."""
    numbers = {str(n) for n in range(len(item_ids))}
    if set(item_ids) != numbers:
        odd = next((i for i in item_ids if i not in numbers), item_ids[0])
        raise DataError(
            f"{path}: it is not known which row belongs to which item, because the item ids of {name} are not the "
            f"numbers 0..{len(item_ids) - 1} (one is {odd!r}); write {ids_file(path).name} beside it, one item id a "
            "line in the order of the rows"
        )
    if len(array) != len(item_ids):
        raise DataError(
            f"{path}: has {len(array)} rows, but {name} has {len(item_ids)} items; without {ids_file(path).name} "
            "(one item id a line in the order of the rows) row r is item r and there must be one row per item"
        )
    return [int(i) for i in item_ids]


def _rows_by_id(path: Path, rows: int, item_ids: Sequence[str], name: str) -> list[int]:
    """Rows of items by the lines of the ids file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        reason = e.strerror if isinstance(e, OSError) else "it is not UTF-8 text"
        raise DataError(f"{path}: cannot be read: {reason}") from e
    lines = text.removesuffix("\n").split("\n")
    if len(lines) != rows:
        raise DataError(f"{path}: has {len(lines)} lines, but the vectors have {rows} rows; write one item id per row")
    row: dict[str, int] = {}
    for n, item in enumerate(lines):
        if row.setdefault(item, n) != n:
            raise DataError(f"{path}, line {n + 1}: item {item!r} stands on line {row[item] + 1} too; keep one of them")
    missing = [i for i in item_ids if i not in row]
    if missing:
        raise DataError(
            f"{path}: {len(missing)} of {len(item_ids)} items of {name} have no vector, the first is item "
            f"{missing[0]!r}; the ids must be those of the data set's files"
        )
    return [row[i] for i in item_ids]
