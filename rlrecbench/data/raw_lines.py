"""Read raw collections line by line: JSON, the 2014 collection's Python literals, and ratings as CSV.

Files are gzip or plain, told apart by their first bytes, and read as a stream: a line is dropped before the next one is
read. Every error names file and line.
"""

import ast
import contextlib
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from rich.console import Console
from rich.progress import open as open_with_bar

from rlrecbench.errors import DataError

_BUFFER = 1 << 20  # bytes; also how often the bar moves


def records(path: Path, show: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    """Give the record of each line, a JSON object or a Python dictionary of literals, with its line number.

    The metadata of the Amazon 2014 collection are the latter. They are read as literals; nothing is evaluated.
    Blank lines are passed over.

    Raises:
        DataError: The file cannot be read, or a line is neither.
    """
    for number, line in _lines(path, show):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as e:
            record = _literal(line, path, number, e)
        if not isinstance(record, dict):
            raise DataError(f"{path}, line {number}: must be one JSON object, found {line.strip()[:40]!r}")
        yield number, record


def ratings(path: Path, show: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Give the four fields item, user, rating, time of each line of a ratings file, with its line number.

    A first line without a number in the last field is a header and is passed over.

    Raises:
        DataError: The file cannot be read, or a line has not four fields.
    """
    for number, line in _lines(path, show):
        fields = line.rstrip("\r\n").split(",")
        if len(fields) != 4:
            raise DataError(f"{path}, line {number}: found {len(fields)} fields, must be item,user,rating,time")
        if number > 1 or fields[3].isdigit():
            yield number, fields


def _lines(path: Path, show: bool) -> Iterator[tuple[int, str]]:
    number = 0
    try:
        with _opened(path, show) as file:
            for raw in file:
                number += 1
                if raw.strip():
                    yield number, raw.decode("utf-8")
    except UnicodeDecodeError as e:
        raise DataError(f"{path}, line {number}: not UTF-8 text; download the file again") from e
    except (EOFError, zlib.error, gzip.BadGzipFile) as e:
        raise DataError(f"{path}, after line {number}: not a whole gzip file ({e}); download it again") from e
    except OSError as e:
        raise DataError(f"{path}: cannot be read: {e.strerror or e}") from e


@contextlib.contextmanager
def _opened(path: Path, show: bool) -> Iterator[BinaryIO]:
    """Open a file, decompressed, with a bar over the bytes on disk."""
    with contextlib.ExitStack() as stack:
        file: BinaryIO = stack.enter_context(path.open("rb"))
        packed = file.read(2) == b"\x1f\x8b"
        if show:
            file.close()
            bar = open_with_bar(path, "rb", description=path.name, console=Console(stderr=True))
            file = stack.enter_context(bar)
        else:
            file.seek(0)
        buffered = io.BufferedReader(cast(io.RawIOBase, file), _BUFFER)
        yield cast(BinaryIO, gzip.GzipFile(fileobj=buffered) if packed else buffered)


def _literal(line: str, path: Path, number: int, not_json: Exception) -> object:
    try:
        return ast.literal_eval(line.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise DataError(
            f"{path}, line {number}: neither JSON ({not_json}) nor a Python dictionary of literals; "
            "download the file again"
        ) from not_json
