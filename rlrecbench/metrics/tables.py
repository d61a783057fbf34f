"""Tables of recommendations on disk (tsv, csv, parquet), with the line of whatever is wrong."""

import gzip
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from rlrecbench.errors import DataError

COLUMNS = ("user_id", "rank", "item_id")
_SEPARATORS = {".tsv": "\t", ".csv": ","}


@dataclass(frozen=True)
class Place:
    """Where rows of a table come from.

    Attributes:
        source: Name of the file or table.
        line_of: Words for a 0-based row, such as ``line 7``.
    """

    source: str
    line_of: Callable[[int], str]

    def at(self, row: int) -> str:
        """Name the place of a 0-based row."""
        return f"{self.source}, {self.line_of(row)}"


def read_table(path: Path) -> tuple[pd.DataFrame, Place]:
    """Read a tsv or csv file (gzip too) or a parquet file; ids stay text.

    Raises:
        DataError: The file is missing, of another kind, empty or broken.
    """
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if kind not in (*_SEPARATORS, ".parquet"):
        raise DataError(f"{path}: recommendations must be a .tsv, .csv or .parquet file (.tsv.gz and .csv.gz too)")
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    try:
        if kind == ".parquet":
            table: pd.DataFrame = pa.parquet.read_table(path).to_pandas()
            return table, Place(str(path), lambda row: f"row {row + 1}")
        table = _delimited(path, _SEPARATORS[kind])
        return table, Place(str(path), lambda row: f"line {_line(path, row + 1)}")
    except pa.ArrowException as e:
        raise DataError(_sentence(path, str(e))) from e
    except UnicodeDecodeError as e:  # of the header; in a row it is an ArrowException
        raise DataError(f"{path}, line 1: this is not UTF-8 text") from e
    except (OSError, EOFError) as e:
        raise DataError(f"{path}: cannot be read: {e}") from e


def texts(column: "pd.Series[Any]", place: Place) -> "pd.Series[str]":
    """Ids as text: 7 and 7.0 become "7".

    Raises:
        DataError: An id is missing or empty.
    """
    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    text = column.astype(object).where(column.notna(), "").astype(str).astype(object)
    missing = (text == "").to_numpy()
    if missing.any():
        raise DataError(f"{place.at(int(missing.argmax()))}: {column.name} is empty")
    return text


def _delimited(path: Path, separator: str) -> pd.DataFrame:
    table: pd.DataFrame = pa.csv.read_csv(
        path,
        read_options=pa.csv.ReadOptions(use_threads=False),  # only then do errors name their row
        parse_options=pa.csv.ParseOptions(delimiter=separator, quote_char='"' if separator == "," else False),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(COLUMNS, pa.string()), strings_can_be_null=False
        ),
    ).to_pandas()
    return table


def _line(path: Path, row: int) -> int:
    """1-based line of a row; row 0 is the header, and blank lines are no rows."""
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    filled = (n for n, line in enumerate(text.splitlines(), 1) if line)
    return next(n for i, n in enumerate(filled) if i == row)


def _sentence(path: Path, message: str) -> str:
    """Say in one sentence what pyarrow found."""
    if "Empty CSV" in message:
        return f"{path}: the file is empty; needed are columns user_id, item_id and, unless in order, rank"
    width = re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", message)
    if width:
        row, wanted, found = map(int, width.groups())
        return f"{path}, line {_line(path, row - 1)}: the header has {wanted} columns, this line {found}"
    encoding = re.search(r"Row #(\d+): .*invalid UTF8", message)
    if encoding:
        return f"{path}, line {_line(path, int(encoding[1]) - 1)}: this is not UTF-8 text"
    return f"{path}: cannot be read: {message.splitlines()[0]}"
