"""Index files in LETTER's format: item id -> one token per level, such as ``{"0": ["<a_183>", "<b_2>"], ...}``.

What is read stays as it is: nothing is computed again, no collision code is added. The format has no place for
the sizes of the codebooks, nor for which levels are a collision code; whoever reads a file says so.
"""

import json
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
from rlrecbench.store import write_atomic

_TOKEN = re.compile(r"<([a-z]+)_(\d{1,9})>", re.ASCII)
_LARGEST = 2**20  # codes in a codebook; a larger number is no code but something else, such as an item id


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


def locate(base: Path, path: str) -> Path:
    """Return where an index file is that a suite names: absolute, from the home folder (~), or from the suite's folder.

    Raises:
        DataError: There is no such file.
    """
    place = (base / Path(path).expanduser()).resolve()
    if not place.name or find_file(place) is None:
        raise DataError(f"there is no index file {place}; give one in LETTER's format, such as my.index.json")
    return place


def file_checksum(path: Path) -> str:
    """Return the sha256 of an index file, decompressed: the same for plain and gzip.

    Raises:
        DataError: There is no such file, or it cannot be read.
    """
    return sha256(read_bytes(path)).hexdigest()


def read(
    path: Path, item_ids: Sequence[str] | None = None, codes: int | None = None, content: int | None = None
) -> Identifiers:
    """Read the codes of some items, in their order; other items in the file are ignored.

    Args:
        path: A JSON object: item id -> list of tokens such as "<a_183>" (the letter is the level) or numbers.
        item_ids: The data set's own item ids, [N]; None: all items of the file, in its order.
        codes: Codebook size of every level that says what the item is; None: each level's largest code + 1.
        content: Leading levels that say what the item is, the others being a collision code, whose size is its
            largest code + 1; None: all of them.

    Returns:
        Codes [N, L], L being the file's number of levels.

    Raises:
        DataError: The file is broken, lacks an item, has a code outside its codebook, or has fewer levels than
            ``content``.
    """
    index = read_json(path)
    if not isinstance(index, dict) or not index:
        raise DataError(
            f"{path}: expected an object, item id -> list of codes, found "
            f"{'an empty one' if isinstance(index, dict) else f'a {type(index).__name__}'}"
        )
    wanted = list(index) if item_ids is None else item_ids
    missing = [i for i in wanted if i not in index]
    if missing:
        raise DataError(
            f"{path}: {len(missing)} of {len(wanted)} items have no identifier, the first is item "
            f"{missing[0]!r}; the index must be of the same version as the data set"
        )
    rows = [_codes(index[i], f"{path}: item {i!r}", codes, content) for i in wanted]
    for item, row in zip(wanted, rows, strict=True):
        if len(row) != len(rows[0]):
            raise DataError(
                f"{path}: item {item!r} has {len(row)} codes and item {wanted[0]!r} has {len(rows[0])}; "
                "every item needs the same number"
            )
    if content is not None and content > len(rows[0]):
        raise DataError(
            f"{path}: content is {content}, but an item has {len(rows[0])} codes; give the number of leading "
            "codes that say what the item is"
        )
    table = np.array(rows, np.int64)
    needed = table.max(0) + 1
    sizes = [n if codes is None or _after(level, content) else codes for level, n in enumerate(needed.tolist())]
    return Identifiers(table, tuple(sizes), None if content == len(rows[0]) else content)


def write(ids: Identifiers, item_ids: Sequence[str], path: Path) -> None:
    """Write the codes of all items, one item a line, so that the same codes always make the same bytes.

    Args:
        ids: The codes, [N, L].
        item_ids: The data set's own item ids, [N].
        path: The file; it appears whole or not at all.

    Raises:
        ValueError: The item ids are not N different ones.
        StoreError: The folder cannot be written.
    """
    if len(set(item_ids)) != len(ids.codes) or len(item_ids) != len(ids.codes):
        raise ValueError(f"{len(ids.codes)} items need as many different item ids")
    letters = [_letters(level) for level in range(len(ids.sizes))]
    lines = [
        f"{json.dumps(item)}: {json.dumps([f'<{a}_{code}>' for a, code in zip(letters, row, strict=True)])}"
        for item, row in zip(item_ids, ids.codes.tolist(), strict=True)
    ]
    write_atomic(path, "{\n" + ",\n".join(lines) + "\n}\n")


def _codes(tokens: Any, where: str, size: int | None, content: int | None) -> list[int]:
    """Turn one item's tokens into codes."""
    if not isinstance(tokens, list) or not tokens:
        raise DataError(f"{where}: expected a list of codes, found {str(tokens)[:60]!r}")
    return [
        _code(token, f"{where}, level {level + 1}", level, None if _after(level, content) else size)
        for level, token in enumerate(tokens)
    ]


def _code(token: Any, where: str, level: int, size: int | None) -> int:
    letters = _letters(level)
    found = _TOKEN.fullmatch(token) if isinstance(token, str) else None
    code = int(found[2]) if found is not None and found[1] == letters else token
    if not isinstance(code, int) or isinstance(code, bool):
        raise DataError(f"{where}: expected a token such as '<{letters}_183>' or a number, found {str(token)[:60]!r}")
    if not 0 <= code < (size or _LARGEST):
        fix = "set codes to the index's codebook size" if size else "codes count from 0 within each level"
        raise DataError(f"{where}: code {code} is outside 0..{(size or _LARGEST) - 1}; {fix}")
    return code


def _after(level: int, content: int | None) -> bool:
    """Whether a level comes after those that say what the item is."""
    return content is not None and level >= content


def _letters(level: int) -> str:
    """Name a level as spreadsheets name columns: a, b, ..., z, aa, ab, ..."""
    name = ""
    level += 1
    while level:
        level, digit = divmod(level - 1, 26)
        name = string.ascii_lowercase[digit] + name
    return name
