"""The files of a results folder, read with care: every broken one is named, with what to do about it."""

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rlrecbench.data.frame import Ints
from rlrecbench.errors import StoreError

AGAIN = "remove it and run the suite again"


def read_json(path: Path, kind: type = dict) -> Any:
    """Read a JSON file.

    Raises:
        StoreError: It is missing, broken, or its outermost value is of another type.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(data, ensure_ascii=False).encode()  # half a character can be read, but never printed
    except (OSError, ValueError, RecursionError) as e:
        raise StoreError(f"{path} is broken: {e}; {AGAIN}") from e
    if not isinstance(data, kind):
        raise StoreError(f"{path} is broken: expected a JSON {kind.__name__}; {AGAIN}")
    return data


def read_lines(path: Path) -> pd.DataFrame:
    """Read a file of one JSON object per line; columns that a line lacks are NaN.

    Raises:
        StoreError: A line is broken.
    """
    rows = []
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            rows.append(json.loads(line))
            if not isinstance(rows[-1], dict):
                raise ValueError("expected a JSON object")
    except (OSError, ValueError, RecursionError) as e:
        raise StoreError(f"{path}, line {len(rows) + 1} is broken: {e}; {AGAIN}") from e
    return pd.DataFrame(rows)


def read_table(path: Path, columns: tuple[str, ...] | None = None) -> pd.DataFrame:
    """Read some columns of a parquet file, or all; the frame is shared, so copy it before changing it.

    Raises:
        StoreError: It is missing, broken or lacks a column.
    """
    try:
        return _cached(path, path.stat().st_mtime_ns, columns)
    except Exception as e:  # whatever a reader makes of a damaged file
        raise _broken(path, e, columns) from e


def read_arrow(path: Path, columns: tuple[str, ...]) -> pa.Table:
    """Read some columns of a parquet file as they are stored, which is much faster for texts.

    Raises:
        StoreError: It is missing, broken or lacks a column.
    """
    try:
        return _whole(path, columns).select(list(columns))
    except Exception as e:
        raise _broken(path, e, columns) from e


def numbers(texts: pa.ChunkedArray, names: pa.Array | pa.ChunkedArray) -> Ints:
    """Place of each text among some names, -1 where it is none of them, [R]."""
    names = names.combine_chunks() if isinstance(names, pa.ChunkedArray) else names
    found = pc.index_in(texts.cast(names.type), value_set=names)
    return np.asarray(pc.fill_null(found, -1).to_numpy(), np.int64)


def about_table(path: Path) -> Any:
    """A parquet file's number of rows and schema, without its data.

    Raises:
        StoreError: It is missing or broken.
    """
    try:
        return pq.read_metadata(path)
    except Exception as e:
        raise _broken(path, e) from e


def _broken(path: Path, e: Exception, columns: Sequence[str] | None = None) -> StoreError:
    wanted = f" (columns {', '.join(columns)})" if columns else ""
    first = str(e).partition("\n")[0]
    return StoreError(f"{path}{wanted} cannot be read: {first}; remove {path.parent} and run the suite again")


@lru_cache(maxsize=512)
def _cached(path: Path, changed: int, columns: tuple[str, ...] | None) -> pd.DataFrame:
    frame: pd.DataFrame = _whole(path, columns).to_pandas()
    return frame


def _whole(path: Path, columns: tuple[str, ...] | None) -> pa.Table:
    """A parquet file's columns, looked through to the end: damaged texts would be noticed much later."""
    table = pq.read_table(path, columns=None if columns is None else list(columns))
    table.validate(full=True)
    return table
