"""What raw metadata say of the items: titles, brands, categories, descriptions."""

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeGuard

from rlrecbench.data.raw_lines import records
from rlrecbench.errors import DataError


class About(NamedTuple):
    """One item's texts; "" where nothing is known."""

    title: str = ""
    brand: str = ""
    categories: str = ""
    description: str = ""


def amazon_2014(path: Path, wanted: set[str], show: bool = False) -> dict[str, About]:
    """Read title, brand, categories without the root, and description; a later record of an item wins.

    Source: S3-Rec. Differs: a category is named once, however many paths it stands on.

    Raises:
        DataError: A line is broken, lacks the asin, or has something else where a text or a list of them belongs.
    """
    found = {}
    for item, record in _of(path, "asin", wanted, show):
        names = dict.fromkeys(name.strip() for above in record.paths("categories") for name in above[1:])
        title, brand, description = (record.text(key).strip() for key in ("title", "brand", "description"))
        found[item] = About(title, brand, ", ".join(names), description)
    return found


def amazon_2018(path: Path, wanted: set[str], show: bool = False) -> dict[str, About]:
    """Read the texts as LC-Rec does; a later record of an item wins.

    Categories end before the first one with markup in it.

    Raises:
        DataError: A line is broken, lacks the asin, or has something else where a text or a list of them belongs.
    """
    found = {}
    for item, record in _of(path, "asin", wanted, show):
        names = [name.strip() for name in takewhile(lambda name: "</span>" not in name, record.texts("category"))]
        brand = record.text("brand").replace("by\n", "").strip()
        title, description = (sentence(record.text_or_texts(key)) for key in ("title", "description"))
        found[item] = About(title, brand, ",".join(names), description)
    return found


def yelp(path: Path, wanted: set[str], show: bool = False) -> dict[str, About]:
    """Read a business's name as title, and its categories.

    Source: LETTER's Yelp.item.json. Differs: a business without categories has none, where LETTER's file spells the
    word "unknown" letter by letter.

    Raises:
        DataError: A line is broken, lacks the business_id, or has a name or categories that are no text.
    """
    found = {}
    for item, record in _of(path, "business_id", wanted, show):
        names = [name.strip() for name in record.text("categories").split(",") if name.strip()]
        found[item] = About(title=record.text("name").strip(), categories=", ".join(names))
    return found


def titles(path: Path, wanted: set[str], show: bool = False) -> list[tuple[str, str | None]]:
    """Read item and title of every metadata record in the order of the file; None where there is no title.

    Raises:
        DataError: A line is broken, lacks the asin, or has a title that is no text.
    """
    return [(item, record.text("title") or None) for item, record in _of(path, "asin", wanted, show)]


def sentence(text: str | list[str]) -> str:
    """Clean a text as LC-Rec does: no entities, tags, double quotes or line ends; one full stop at the end.

    A text of 2000 characters or more is dropped. Differs: an empty text stays empty, LC-Rec makes it a full stop.
    """
    parts = text if isinstance(text, list) else [text.strip()]
    plain = [re.sub(r'["\n\r]', "", re.sub(r"</?\w+[^>]*>", "", html.unescape(part))) for part in parts]
    joined = " ".join(part.strip() for part in plain) if isinstance(text, list) else plain[0]
    if not joined:
        return ""
    ended = joined.rstrip(".") + "."
    return ended if len(ended) < 2000 else ""


@dataclass(frozen=True)
class _Record:
    """The fields of one line; what is missing, null or empty is an empty text or list, anything else is refused."""

    path: Path
    line: int
    fields: dict[str, Any]

    def text(self, key: str) -> str:
        value = self.fields.get(key) or ""
        return value if isinstance(value, str) else self._refuse(key, "a text")

    def texts(self, key: str) -> list[str]:
        value = self.fields.get(key) or []
        return value if _are_texts(value) else self._refuse(key, "a list of texts")

    def text_or_texts(self, key: str) -> str | list[str]:
        value = self.fields.get(key) or ""
        return value if isinstance(value, str) or _are_texts(value) else self._refuse(key, "a text or a list of texts")

    def paths(self, key: str) -> list[list[str]]:
        value = self.fields.get(key) or []
        good = isinstance(value, list) and all(map(_are_texts, value))
        return value if good else self._refuse(key, "a list of lists of texts")

    def _refuse(self, key: str, allowed: str) -> NoReturn:
        found = repr(self.fields[key])[:40]
        raise DataError(f"{self.path}, line {self.line}: {key} must be {allowed}, found {found}; correct the line")


def _are_texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(part, str) for part in value)


def _of(path: Path, key: str, wanted: set[str], show: bool) -> Iterator[tuple[str, _Record]]:
    for line, record in records(path, show):
        item = record.get(key)
        if not isinstance(item, str):
            raise DataError(f"{path}, line {line}: must have {key} as text")
        if item in wanted:
            yield item, _Record(path, line, record)
