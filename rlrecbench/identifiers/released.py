"""Identifiers that others released: LETTER's index files, item id -> one token per level."""

import re
import string
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from rlrecbench.data.readers import find_file, read_bytes, read_json
from rlrecbench.errors import DataError
from rlrecbench.identifiers.codes import Identifiers

_TOKEN = re.compile(r"<([a-z])_(\d+)>")


def find(name: str, folders: Sequence[Path]) -> Path:
    """Find the released index of a data set: ``NAME.letter_index.json``, plain or gzip.

    Args:
        name: The data set.
        folders: Where its files may be, first match first.

    Returns:
        The path without ``.gz``.

    Raises:
        DataError: No folder holds one.
    """
    for folder in folders:
        path = folder / f"{name}.letter_index.json"
        if find_file(path):
            return path
    raise DataError(
        f"{name}: there are no released identifiers ({name}.letter_index.json or .json.gz) in "
        f"{', '.join(map(str, folders)) or 'any data folder'}; put the file there or compute identifiers "
        "from item text (ids: {kind: rkmeans})"
    )


def released_checksum(name: str, folder: Path) -> str:
    """Return the sha256 of a data set's released index, decompressed.

    Raises:
        DataError: The folder has none, or it cannot be read.
    """
    return sha256(read_bytes(find(name, [folder]))).hexdigest()


def read(path: Path, item_ids: Sequence[str], codes: int) -> Identifiers:
    """Read the codes of some items, in their order; other items in the file are ignored.

    Args:
        path: A JSON object: item id -> list of tokens such as "<a_183>" (the letter is the level) or numbers.
        item_ids: The data set's own item ids, [N].
        codes: Codebook size of every level.

    Returns:
        Codes [N, L], L being the file's number of levels.

    Raises:
        DataError: The file is broken, lacks an item, or has a code outside 0..codes-1.
    """
    index = read_json(path)
    if not isinstance(index, dict):
        raise DataError(f"{path}: expected an object, item id -> list of codes, found a {type(index).__name__}")
    missing = [i for i in item_ids if i not in index]
    if missing:
        raise DataError(
            f"{path}: {len(missing)} of {len(item_ids)} items have no identifier, the first is item "
            f"{missing[0]!r}; the index must be of the same version as the data set"
        )
    rows = [_codes(index[i], f"{path}: item {i!r}", codes) for i in item_ids]
    for item, row in zip(item_ids, rows, strict=True):
        if len(row) != len(rows[0]):
            raise DataError(
                f"{path}: item {item!r} has {len(row)} codes and item {item_ids[0]!r} has {len(rows[0])}; "
                "every item needs the same number"
            )
    return Identifiers(np.array(rows, np.int64), (codes,) * len(rows[0]))


def _codes(tokens: Any, where: str, size: int) -> list[int]:
    """Turn one item's tokens into codes."""
    if not isinstance(tokens, list) or not tokens:
        raise DataError(f"{where}: expected a list of codes, found {str(tokens)[:60]!r}")
    return [_code(token, f"{where}, level {level + 1}", level, size) for level, token in enumerate(tokens)]


def _code(token: Any, where: str, level: int, size: int) -> int:
    letter = string.ascii_lowercase[level % 26]
    found = _TOKEN.fullmatch(token) if isinstance(token, str) else None
    code = int(found[2]) if found is not None and found[1] == letter else token
    if not isinstance(code, int) or isinstance(code, bool):
        raise DataError(f"{where}: expected a token such as '<{letter}_183>' or a number, found {str(token)[:60]!r}")
    if not 0 <= code < size:
        raise DataError(f"{where}: code {code} is outside 0..{size - 1}; set codes to the index's codebook size")
    return code
