"""Read RecBole atomic files and JSON, plain or gzip; every error names the file and the line.

An atomic file is a tab-separated table in UTF-8 whose first line gives each column's name and type, such as
``user_id:token<TAB>timestamp:float``. There is no quoting and no escaping.
Source: RecBole 1.2.1, "Atomic Files".
"""

import gzip
import json
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rlrecbench.errors import DataError

_TYPES = ("token", "token_seq", "float", "float_seq")


def find_file(path: Path) -> Path | None:
    """Return the file as named or, where only that exists, with ``.gz`` behind its name."""
    for file in (path, path.with_name(path.name + ".gz")):
        if file.is_file():
            return file
    return None


def read_bytes(path: Path) -> bytes:
    """Read a whole file, decompressed.

    Args:
        path: The file's name without ``.gz``.

    Raises:
        DataError: The file is missing, cannot be read, or is not a whole gzip file.
    """
    file = find_file(path)
    if file is None:
        raise DataError(f"{path}: there is no such file, nor {path.name}.gz beside it")
    try:
        raw = file.read_bytes()
        return gzip.decompress(raw) if file.suffix == ".gz" else raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as e:
        raise DataError(f"{file}: not a whole gzip file ({e}); copy or download it again") from e
    except OSError as e:
        raise DataError(f"{file}: cannot be read: {e.strerror}") from e


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Args:
        path: The file's name without ``.gz``.

    Raises:
        DataError: As for :func:`read_bytes`, or the content is empty, not UTF-8 or not JSON.
    """
    text, file = _text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as e:
        raise DataError(f"{file}, line {e.lineno}: not valid JSON: {e.msg}") from e
    except RecursionError as e:
        raise DataError(f"{file}: not usable JSON: nested too deeply") from e


def read_atomic(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> pd.DataFrame:
    """Read some columns of a RecBole atomic file.

    Args:
        path: The file's name without ``.gz``.
        columns: Names of the columns that must be there, in the order of the result; ``name:type`` also
            demands the type that the header gives.
        optional: Names of further columns, read where the file has them.

    Returns:
        One row per line: ``float`` columns as numbers, all others as str (an empty field is ""). Row r stands
        on line r + 2 of the file.

    Raises:
        DataError: As for :func:`read_bytes`, or the file is empty or not UTF-8, a column is missing, a row
            has too few or too many columns, or a float is not a finite number.
    """
    text, file = _text(path)
    header, _, body = text.partition("\n")
    types = _header(header, file)
    wanted = [_column(column, types, file) for column in columns]
    wanted += [column for column in optional if column in types and column not in wanted]
    _check_rows(text, len(types), file)
    fields = body.replace("\n", "\t").split("\t") if body else []
    names = list(types)
    data: dict[str, Any] = {}
    for name in wanted:
        values = fields[names.index(name) :: len(names)]
        data[name] = _floats(values, name, file) if types[name] == "float" else pd.Series(values, dtype=str)
    return pd.DataFrame(data)


def _text(path: Path) -> tuple[str, Path]:
    """Return the text, without byte order mark, carriage returns and blank lines at the end, and its file."""
    raw, file = read_bytes(path), find_file(path) or path
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n").rstrip("\n")
    except UnicodeDecodeError as e:
        line = raw[: e.start].count(b"\n") + 1
        raise DataError(f"{file}, line {line}: not UTF-8 text; save the file in UTF-8") from e
    if not text.strip():
        raise DataError(f"{file}: the file is empty")
    return text, file


def _header(line: str, file: Path) -> dict[str, str]:
    """Return the columns' types by name, in the order of the file."""
    types: dict[str, str] = {}
    for field in line.split("\t"):
        name, _, kind = field.rpartition(":")
        if not name or kind not in _TYPES:
            raise DataError(
                f"{file}, line 1: {field[:60]!r} is not a column of the form name:type; "
                f"columns are separated by tabs and the types are {', '.join(_TYPES)}"
            )
        if name in types:
            raise DataError(f"{file}, line 1: the column {name!r} stands twice; rename one of them")
        types[name] = kind
    return types


def _column(wanted: str, types: dict[str, str], file: Path) -> str:
    name, _, kind = wanted.partition(":")
    if name not in types:
        raise DataError(f"{file}, line 1: there is no column {name!r}; the file has {', '.join(types)}")
    if kind and types[name] != kind:
        raise DataError(f"{file}, line 1: the column {name!r} has the type {types[name]}, it must be {name}:{kind}")
    return name


def _check_rows(text: str, width: int, file: Path) -> None:
    """Refuse the first row that has not exactly ``width`` fields."""
    codes = np.frombuffer(text.encode(), np.uint8)
    ends = np.append(np.flatnonzero(codes == ord("\n")), len(codes))
    tabs = np.searchsorted(np.flatnonzero(codes == ord("\t")), ends)
    fields = np.diff(tabs, prepend=0) + 1
    bad = np.flatnonzero(fields != width)
    if len(bad):
        raise DataError(
            f"{file}, line {bad[0] + 1}: found {fields[bad[0]]} columns, the header has {width}; "
            "columns are separated by single tabs"
        )


def _floats(values: list[str], name: str, file: Path) -> NDArray[np.float64]:
    numbers = np.array([_number(value) for value in values], np.float64)
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        raise DataError(f"{file}, line {bad[0] + 2}: {name} is {values[bad[0]]!r}, it must be a finite number")
    return numbers


def _number(value: str) -> float:
    """Return the number, nan for what is none (Python's own 1_000 included)."""
    try:
        return float(value) if "_" not in value else math.nan
    except ValueError:
        return math.nan
