"""``docs/methods.md``, written from the registry."""

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rlrecbench.cli.describe import describe, meaning, place, shown

if TYPE_CHECKING:
    from rlrecbench.registry import Entry

COMMAND = "rlrecbench list methods --markdown > docs/methods.md"
_HEAD = f"""\
<!-- Written by `{COMMAND}`; change the docstrings instead. -->

# Methods

What a suite can name under `methods:`. Formula, settings and deviations stand in the code of each method, and
this page is printed from there. Log-probabilities are in nats. Declarations are those at the default settings; a
suite can change the settings and the training budget of each method.
"""


def page(entries: Iterable["Entry[Any]"]) -> str:
    """The page about some methods, in the order given."""
    entries = list(entries)
    rows = [(f"[{e.name}](#{_anchor(e.name)})", _prose(e.summary), _prose(e.cite)) for e in entries]
    parts = [_HEAD, _table(("method", "in one line", "paper"), rows), *(_section(e) for e in entries)]
    return "\n".join(parts)


def _section(entry: "Entry[Any]") -> str:
    about = describe(entry, "method")
    parts = [f"## {entry.name}\n", f"{_prose(about['summary'])}\n"]
    if about["paper"]:
        parts.append(f"{_prose(about['paper'])}\n")
    parts.append(f"Code: [{place(entry)}](../{place(entry)})\n")
    if about["text"]:
        parts.append(f"{_text(about['text'])}\n")
    if about["deviations"]:
        parts.append("### Deviations\n")
        parts.append("\n".join(f"- {_prose(point)}" for point in about["deviations"]) + "\n")
    if about["facts"]:
        rows = [(k, f"`{shown(v)}`", meaning(k, v)) for k, v in about["facts"].items()]
        parts += ["### Declarations\n", _table(("declaration", "value", "meaning"), rows)]
    if about["settings"]:
        rows = [(f"`{s['name']}`", f"`{shown(s['default'])}`", _prose(s["note"])) for s in about["settings"]]
        parts += ["### Settings\n", _table(("setting", "default", "meaning; source"), rows)]
    return "\n".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; a bar inside a cell is escaped."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _text(docstring: str) -> str:
    """A docstring as markdown: what is indented under a paragraph is shown as it is written."""
    out: list[str] = []
    fenced = False
    for line in docstring.splitlines():
        indented = line.startswith("    ")
        if indented and not fenced:
            if out and out[-1]:
                out.append("")
            out.append("```text")
        elif fenced and line and not indented:
            while not out[-1]:
                out.pop()
            out += ["```", ""]
        fenced = indented or (fenced and not line)
        out.append(line[4:] if indented else _prose(line))
    if fenced:
        out.append("```")
    return "\n".join(out)


def _prose(text: str) -> str:
    """Prose of a docstring: code in single quotes of markdown, and nothing read as emphasis or HTML."""
    text = re.sub(r":\w+:`~?([^`]*)`", r"`\1`", text).replace("``", "`")
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else re.sub(r"([*<\[\]])", r"\\\1", p) for p in pieces)


def _anchor(name: str) -> str:
    """The anchor that markdown gives to a heading."""
    return re.sub(r"[^\w-]", "", name)
