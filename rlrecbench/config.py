"""YAML to frozen, strict dataclasses; every error names its place as ``suites/x.yaml: methods[2].beta``.

Configuration is data. A class needs only ``@dataclass(frozen=True)`` and annotations; pydantic validates,
unknown keys are errors, and no value is silently converted ("5" is not a number, true is not 1).
"""

import dataclasses
import difflib
import json
import re
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import yaml
from annotated_types import Ge, Gt, Interval
from pydantic import ConfigDict, TypeAdapter, ValidationError

from rlrecbench.errors import ConfigError

T = TypeVar("T")

Count = Annotated[int, Gt(0)]
Size = Annotated[int, Ge(0)]
Positive = Annotated[float, Gt(0)]
Weight = Annotated[float, Ge(0)]
Share = Annotated[float, Interval(ge=0, le=1)]

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_LARGEST = 100_000  # values in a YAML file, aliases written out: far above any suite, far below what fills a memory
_SHOWN = 60  # characters of a name or value in an error


class _Loader(yaml.SafeLoader):
    """The safe loader, with YAML 1.2 floats (1e-5 is a number) and duplicate keys refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping, refusing a key that stands twice."""
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, "merge keys (<<) are not read; write the settings out", key_node.start_mark
                )
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, (str, int, float, bool)):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a plain word", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Raises:
        ConfigError: The file is missing, unreadable, empty, not YAML, or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        reason = e.strerror if isinstance(e, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read: {reason}") from e
    try:
        data = parse_yaml(text)
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"{path}{place}: not valid YAML: {_problem(e)}") from e
    if data is None:
        raise ConfigError(f"{path}: the file is empty; a suite needs at least name, datasets and methods")
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected keys such as 'name: ...' at the top, found a {type(data).__name__}")
    return data


def parse_yaml(text: str) -> Any:
    """Parse one YAML document with the safe loader of this project.

    Raises:
        yaml.YAMLError: The text is not YAML.
    """
    try:
        value = yaml.load(text, Loader=_Loader)  # noqa: S506 - _Loader is a SafeLoader
        _written_out(value, {})
        json.dumps(value, default=str, ensure_ascii=False).encode()
    except UnicodeEncodeError as e:
        raise yaml.YAMLError("it holds half a character (a lone surrogate)") from e
    except ValueError as e:  # a date such as 2024-99-99, a number of 5000 digits
        raise yaml.YAMLError(str(e)) from e
    except RecursionError as e:
        raise yaml.YAMLError("it is nested too deeply, or holds itself") from e
    return value


def _written_out(value: Any, sizes: dict[int, int]) -> int:
    """Count the values inside a value; aliases let a short file stand for more than any memory holds.

    Raises:
        yaml.YAMLError: There are too many.
        RecursionError: It holds itself.
    """
    if not isinstance(value, (dict, list, set)):
        return 1
    if id(value) not in sizes:
        inside = value.values() if isinstance(value, dict) else value
        sizes[id(value)] = 1 + sum(_written_out(v, sizes) for v in inside)
        if sizes[id(value)] > _LARGEST:
            raise yaml.YAMLError(f"it stands for more than {_LARGEST:,} values, its aliases (*name) written out")
    return sizes[id(value)]


def _problem(e: yaml.YAMLError) -> str:
    """What a YAML error says, in one line."""
    if isinstance(e, yaml.reader.ReaderError):
        return f"the character #x{e.character:04x} is not allowed in a YAML file"
    said: str = getattr(e, "problem", None) or str(e)
    return said.partition("\n")[0] or "it cannot be parsed"


def build(cls: type[T], data: Any, where: str) -> T:
    """Make a frozen dataclass from parsed YAML.

    Args:
        cls: A dataclass; its annotations are the schema.
        data: What the YAML holds at this place.
        where: The place, for the error: ``suites/x.yaml: methods[2]``.

    Raises:
        ConfigError: A key is unknown, missing, of the wrong type or out of range.
    """
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: expected a mapping of settings, found {shown(data)}")
    try:
        made: T = _schema(cls).validate_json(json.dumps(data, default=str))  # type: ignore[arg-type]  # is hashable
        return made
    except ValidationError as e:
        raise ConfigError("; ".join(_sentence(cls, data, error, where) for error in e.errors()[:3])) from e
    except Exception as e:  # whatever the checks of a plug-in's class raise
        first = str(e).partition("\n")[0]
        raise ConfigError(f"{where}: {type(e).__name__}: {first}") from e


@lru_cache(maxsize=512)
def _schema(cls: type[Any]) -> TypeAdapter[Any]:
    """The validator of a dataclass; making one takes a hundred times longer than using it."""
    if not hasattr(cls, "__pydantic_config__"):
        cls.__pydantic_config__ = STRICT
    return TypeAdapter(cls)


def _sentence(cls: type[Any], data: Any, error: Any, where: str) -> str:
    kind, value = error["type"], error.get("input")
    place, owner = _place(cls, data, error["loc"])
    if kind == "union_tag_invalid":
        place, value = f"{place}.kind", error["ctx"]["tag"]
    full = f"{where}{'.' if ': ' in where else ': '}{place.lstrip('.')}" if place else where
    if kind == "union_tag_invalid":
        names = [name.strip("' ") for name in error["ctx"]["expected_tags"].split(",")]
        return f"{full}: no kind {value!r}; {nearest(value, names, 'allowed')}"
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        names = [f.name for f in dataclasses.fields(owner)] if dataclasses.is_dataclass(owner) else []
        return f"{full}: unknown setting; {nearest(str(error['loc'][-1]), names, 'allowed')}"
    if kind == "union_tag_not_found":
        return f"{full}.kind: say which, found {shown(value)}"
    if kind in ("missing", "missing_argument"):
        return f"{full}: this setting is missing"
    message = error["msg"]
    message = message.removeprefix("Value error, ").removeprefix("Input ")
    return f"{full}: {message}, found {shown(value)}"


def _place(cls: type[Any], data: Any, loc: tuple[int | str, ...]) -> tuple[str, Any]:
    """Turn pydantic's location into a place in the file, and say which class the last part belongs to."""
    place, here, owner = "", data, cls
    for i, part in enumerate(loc):
        inside = (isinstance(here, dict) and part in here) or (isinstance(here, list) and isinstance(part, int))
        named = dataclasses.is_dataclass(owner) and part in {f.name for f in dataclasses.fields(owner)}
        if not inside and not named:
            continue  # a branch of a union, not a place in the file
        place += f"[{part}]" if isinstance(part, int) else f".{short(part)}"
        here = here[part] if inside else None
        if i + 1 < len(loc):
            owner = _field_class(owner, part, here)
    return place, owner


def _field_class(owner: Any, name: int | str, value: Any) -> Any:
    """The dataclass behind a field; of several the one whose ``kind`` the value, else the default, has."""
    if not dataclasses.is_dataclass(owner):
        return None
    default = next((f.default for f in dataclasses.fields(owner) if f.name == name), None)
    kind = value.get("kind", getattr(default, "kind", None)) if isinstance(value, dict) else None
    found: list[Any] = [get_type_hints(owner).get(str(name))]
    while found:
        one = found.pop()
        if dataclasses.is_dataclass(one) and getattr(one, "kind", None) == kind:
            return one
        found += get_args(one)
    return None


def nearest(name: str, names: Sequence[str], otherwise: str = "known") -> str:
    """Say which name was probably meant or, where none is near, all there are."""
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"{otherwise}: {', '.join(names) or 'none'}"


def shown(value: Any) -> str:
    """Write a value for an error: as JSON, cut where it is long."""
    return short(json.dumps(value, default=str))


def short(text: str) -> str:
    """Cut a text that is too long for an error."""
    return text if len(text) < _SHOWN else text[: _SHOWN - 3] + "..."


def plain(value: Any) -> Any:
    """Turn dataclasses, tuples and paths into what JSON holds."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted(plain(v) for v in value)
    if isinstance(value, Path):
        return str(value)
    return value


def canonical(value: Any) -> str:
    """Return the canonical JSON of a value: sorted keys, no blanks; its hash is the value's identity."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """Return the sha256 of the canonical JSON."""
    return sha256(canonical(value).encode()).hexdigest()
