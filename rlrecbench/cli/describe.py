"""Everything there is to say about a registered thing, read from its code."""

import dataclasses
import inspect
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlrecbench.cli.references import paper

if TYPE_CHECKING:
    from rlrecbench.registry import Entry

_BASELINES = "rlrecbench.baselines."
_DECLARED = ("start", "redraw", "reference", "updates", "measure", "rollouts", "dropout", "needs", "budget")


def describe(entry: "Entry[Any]", kind: str) -> dict[str, Any]:
    """Everything about an entry, as JSON holds it.

    Args:
        entry: What is registered.
        kind: "method", "backbone", "dataset", "metric" or "reward".

    Returns:
        name, summary, cite, paper, origin; text: the rest of the docstring, after a method's module docstring;
        deviations: the points of "Differs:"; facts: a method's declarations at its
        defaults, a metric's direction, level and needs, a reward's needs, or a data set's fields;
        settings: name, default and note (meaning; source) of each.
    """
    value = entry.value
    documentation, deviations = differs(value)
    text = documentation.partition("\n")[2].strip()
    module = inspect.getmodule(value)
    if kind == "method" and module is not None and module.__doc__:
        text = f"{module.__doc__.strip()}\n\n{text}".strip()
    settings: list[dict[str, Any]] = []
    facts: dict[str, Any] = {}
    if inspect.isclass(value) and dataclasses.is_dataclass(value):
        settings = settings_of(value)
        made = value() if all(s["default"] != "required" for s in settings) else None
        for key in _DECLARED:
            if hasattr(made, key) and key not in {s["name"] for s in settings}:
                found = getattr(made, key)
                facts[key] = ", ".join(sorted(found)) if isinstance(found, frozenset) else found
    elif kind == "metric":
        facts = {"better": value.better, "level": value.level, "needs": value.needs or ""}
        deviations += _cut(module.__doc__ or "")[1] if module is not None else []
    elif kind == "reward":
        facts = {"needs": ", ".join(sorted(value.needs))}
    elif kind == "dataset":
        spec = value()
        facts = {f.name: getattr(spec, f.name) for f in dataclasses.fields(spec)}
    return {
        "name": entry.name,
        "summary": entry.summary,
        "cite": entry.cite,
        "paper": paper(entry.cite),
        "origin": entry.origin,
        "text": text,
        "deviations": deviations,
        "facts": facts,
        "settings": settings,
    }


def settings_of(value: type[Any], prefix: str = "") -> list[dict[str, Any]]:
    """Name, default and note of each field of a dataclass; the fields of a field that is one follow it as a.b."""
    from rlrecbench.registry import field_notes

    notes, out = field_notes(value), list[dict[str, Any]]()
    for f in dataclasses.fields(value):
        inner = dataclasses.is_dataclass(f.default)
        out.append(
            {
                "name": prefix + f.name,
                "default": getattr(f.default, "kind", "as below") if inner else _default(f),
                "note": notes.get(f.name, ""),
            }
        )
        nested = type(f.default) if inner else _optional(value, f.name)
        if nested is not None:
            out += settings_of(nested, f"{prefix}{f.name}.")
    return out


def _optional(value: type[Any], name: str) -> type[Any] | None:
    """The dataclass of a field that is one or none."""
    hint = typing.get_type_hints(value)[name]
    found = [t for t in typing.get_args(hint) if dataclasses.is_dataclass(t) and isinstance(t, type)]
    return found[0] if len(found) == 1 and type(None) in typing.get_args(hint) else None


def differs(value: object) -> tuple[str, list[str]]:
    """Docstring without its section "Differs:", and the points of that section and of the base classes' sections."""
    text, points = _cut(inspect.getdoc(value) or "")
    for base in value.__mro__[1:] if isinstance(value, type) else ():
        points += [p for p in _cut(inspect.cleandoc(vars(base).get("__doc__") or ""))[1] if p not in points]
    return text, points


def _cut(text: str) -> tuple[str, list[str]]:
    lines = text.splitlines()
    if "Differs:" not in lines:
        return text, []
    at = lines.index("Differs:")
    end = next((i for i in range(at + 1, len(lines)) if lines[i][:1].strip()), len(lines))
    points: list[str] = []
    for line in (line.strip() for line in lines[at + 1 : end]):
        if line.startswith("- ") or not points:
            points.append(line.removeprefix("- "))
        elif line:
            points[-1] += f" {line}"
    return "\n".join([*lines[:at], *lines[end:]]).rstrip(), [p for p in points if p]


def meaning(key: str, value: Any) -> str:
    """What a declaration of a method says."""
    if key == "start":
        return "the backbone as created" if value == "base" else f"training starts from what {value} gave"
    if key == "redraw":
        return "candidates are drawn " + _when(value, "once and stay", "at every step")
    if key == "reference":
        if value == "start":
            return "frozen reference policy: the one where training starts"
        return "no reference policy" if value is None else f"frozen reference policy: renewed {_when(value)}"
    if key == "budget":
        return "where it differs from the suite's defaults" if value else "the suite's defaults"
    words = {
        "updates": "gradient steps per draw",
        "measure": "log-probabilities over the " + ("legal tokens" if value == "trie" else "whole vocabulary"),
        "rollouts": "candidates are " + ("what a model draws, whatever it is" if value else "chosen beside the target"),
        "dropout": "the policy trains with" + ("" if value else "out") + " dropout",
        "needs": "what is computed before training" if value else "nothing is computed before training",
    }
    return words.get(key, "")


def shown(value: Any) -> str:
    """A value in one line, as a suite writes it."""
    if value is None or value in ("", (), {}):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(value).replace("e-0", "e-")
    if isinstance(value, dict):
        return ", ".join(f"{k}: {shown(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(shown, value))}]"
    return str(value)


def place(entry: "Entry[Any]") -> str:
    """File of the definition: ``baselines/x.py``, a path below the working directory, or the file's name."""
    module = getattr(entry.value, "__module__", "")
    path = Path(entry.origin.rpartition(":")[0])
    if module.startswith(_BASELINES):
        return f"baselines/{path.name}"
    here = Path.cwd()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else path.name


def _when(period: int | None, never: str = "", always: str = "") -> str:
    if period is None:
        return never
    return always if period == 0 else "every epoch" if period == 1 else f"every {period} epochs"


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else "required"
