"""Read the authors' own processed files: S3-Rec's text, LETTER's JSON."""

import gzip
import json
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

from rlrecbench.data.raw_items import About
from rlrecbench.errors import DataError


def sequences_of(path: Path) -> dict[str, list[int]]:
    """Read each user's items, oldest first, users and items numbered from 0.

    Args:
        path: LETTER's NAME.inter.json (from 0 already), or S3-Rec's NAME.txt (user, then items, from 1); plain or gzip.

    Raises:
        DataError: The file is broken or empty, a user stands twice or has no items, or the items are not 0..N-1 in the
            order of their first appearance.
    """
    found = _from_json(path) if path.name.removesuffix(".gz").endswith(".json") else _from_text(path)
    if not found:
        raise DataError(f"{path}: there is no user in it; download it again")
    idle = [user for user, items in found.items() if not items]
    if idle:
        raise DataError(f"{path}: {len(idle)} users have no items, the first is {idle[0]}; download it again")
    seen: dict[int, None] = dict.fromkeys(item for items in found.values() for item in items)
    if list(seen) != list(range(len(seen))) or list(found) != [str(u) for u in range(len(found))]:
        raise DataError(f"{path}: users and items must be numbered by first appearance without gaps")
    return found


def letter_items(path: Path) -> dict[str, About]:
    """Read LETTER's NAME.item.json: title, and the categories that stand as Yelp's description.

    Raises:
        DataError: The file is not JSON, or not by item number.
    """
    found = _object(path)
    try:
        return {
            item: About(title=about["title"].strip(), categories=about["description"].strip())
            for item, about in found.items()
        }
    except (TypeError, KeyError, AttributeError) as e:
        raise DataError(f"{path}: every item must have a title and a description") from e


def letter_index(path: Path) -> bytes:
    """Read LETTER's NAME.index.json, semantic ids by item number.

    Returns:
        The same as JSON on one line.

    Raises:
        DataError: The file is not JSON, or not lists of texts.
    """
    found = _object(path)
    if not all(isinstance(v, list) and all(isinstance(token, str) for token in v) for v in found.values()):
        raise DataError(f"{path}: every item must have a list of tokens")
    return json.dumps(found).encode()


def _from_json(path: Path) -> dict[str, list[int]]:
    found = _object(path)
    if not all(isinstance(v, list) and all(type(item) is int for item in v) for v in found.values()):
        raise DataError(f"{path}: every user must have a list of item numbers")
    return found


def _from_text(path: Path) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for number, line in enumerate(_text(path).splitlines(), 1):
        try:
            user, *items = (int(word) - 1 for word in line.split())
        except ValueError as e:
            raise DataError(f"{path}, line {number}: must be a user and items, all numbers") from e
        if str(user) in found:
            raise DataError(f"{path}, line {number}: user {user + 1} stands twice; download the file again")
        found[str(user)] = items
    return found


def _object(path: Path) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise DataError(f"{path}: {twice!r} stands twice; download it again")
        return found

    try:
        found = json.loads(_text(path), object_pairs_hook=once)
    except (ValueError, RecursionError) as e:
        raise DataError(f"{path}: not valid JSON: {e}; download it again") from e
    if not isinstance(found, dict):
        raise DataError(f"{path}: must be one JSON object")
    return found


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as e:
        raise DataError(f"{path}: cannot be read as UTF-8 text, plain or gzip: {e}; download it again") from e
