"""The papers' numbers beside ours in words: a line per row and metric, in markdown, CSV and JSON."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rlrecbench.published import Fact
from rlrecbench.report import words
from rlrecbench.report.beside import Beside, Line, Section, beside
from rlrecbench.report.to_markdown import escape
from rlrecbench.stats import CONFIDENCE

__all__ = ["FORMATS", "Beside", "as_dict", "beside", "letters", "printed", "published_csv", "published_markdown"]

_OVER = {
    "users and seeds": "over users and seeds, crossed",
    "users": "over users where there is one seed",
    "seeds": "t over seeds for metrics of all lists together",
}
PAPERS = {"gflowgr": "GFlowGR", "flower": "Flower"}


def published_markdown(found: Beside) -> str:
    """Write the comparison as markdown: a table per block, and what forbids to compare under it."""
    parts = [f"# {escape(found.suite)}: published values beside ours"]
    for section in found.sections:
        parts.append(f"## {escape(section.title)}")
        if section.lines:
            parts += [_grid(section), "  \n".join(_notes(section))]
        else:
            parts.append("No row of this block has a published counterpart.")
    return "\n\n".join(parts) + "\n"


def _grid(section: Section) -> str:
    heads = ["row", "published as", "metric", "ours [95 %]", "published", "Δ", "Δ %", "inside", "see"]
    rule = ["---", "---", "---", *["---:"] * 4, "---", "---"]
    named, _ = letters(_texts(section))
    columns = len(heads) if named else len(heads) - 1
    out = [heads, rule]
    for line in section.lines:
        own = ", ".join(sorted(named[r.text] for r in line.reasons if r.text in named))
        inside = {True: "yes", False: "no", None: words.ABSENT}[line.within]
        source = f"{escape(line.fact.method)}, {PAPERS[line.fact.paper]} {line.fact.table.replace('-', ' ').title()}"
        percent = words.ABSENT if line.relative is None else f"{100 * line.relative:+.1f}"
        theirs = printed(line.fact) + (r"\*" if line.fact.significant else "")
        cells = [escape(line.row), source, line.metric, _ours(line), theirs, f"{line.difference:+.4f}", percent]
        out.append([*cells, inside, own or words.ABSENT])
    return "\n".join(f"| {' | '.join(cells[:columns])} |" for cells in out)


def _ours(line: Line) -> str:
    if line.low is None or line.high is None:
        return words.number(line.mean)
    return f"{words.number(line.mean)} [{words.number(line.low)}, {words.number(line.high)}]"


def printed(fact: Fact) -> str:
    """A published value with the digits it was printed with."""
    return f"{fact.value:.{len(f'{2 * fact.half_unit:.10f}'.rstrip('0').partition('.')[2])}f}"


def letters(lines: Sequence[Sequence[str]]) -> tuple[dict[str, str], list[str]]:
    """Name the reasons that hold for some lines by letters, and return those that hold for all.

    Args:
        lines: Texts of each line's reasons.
    """
    texts = list(dict.fromkeys(text for line in lines for text in line))
    shared = [t for t in texts if all(t in line for line in lines)]
    return {t: _letter(i) for i, t in enumerate(t for t in texts if t not in shared)}, shared


def _texts(section: Section) -> list[list[str]]:
    return [[r.text for r in line.reasons] for line in section.lines]


def _letter(i: int) -> str:
    return chr(97 + i) if i < 26 else _letter(i // 26 - 1) + _letter(i % 26)


def _notes(section: Section) -> Iterator[str]:
    named, shared = letters(_texts(section))
    if shared:
        yield f"In every line: {escape(' '.join(shared))}"
    yield from (f"{letter}: {escape(text)}" for text, letter in named.items())
    levels = {line.level for line in section.lines if line.low is not None}
    if levels:
        over = "; ".join(text for level, text in _OVER.items() if level in levels)
        yield f"{100 * CONFIDENCE:.0f} % intervals of our mean: {over}."
        yield "Inside: the interval holds a value that rounds to the published one, which comes without a spread."
    if any(line.fact.significant for line in section.lines):
        yield r"\* the paper's: better than its best baseline, one-sided t-test, p < 0.05, three seeds."
    if section.rest:
        yield f"Without a published counterpart: {escape(', '.join(section.rest))}."


_COLUMNS = (
    "block", "row", "paper", "table", "published_as", "metric", "seeds", "mean", "low", "high", "level", "published",
    "significant", "difference", "relative", "within", "reasons",
)  # fmt: skip


def published_csv(found: Beside) -> str:
    """Write the comparison as CSV, every number unrounded; what is not known is empty."""
    out = io.StringIO()
    lines = csv.DictWriter(out, _COLUMNS, lineterminator="\n")
    lines.writeheader()
    for section in found.sections:
        for line in section.lines:
            cells: list[object] = [
                section.title,
                line.row,
                line.fact.paper,
                line.fact.table,
                line.fact.method,
                line.metric,
            ]
            cells += [line.seeds, line.mean, line.low, line.high, line.level, line.fact.value, line.fact.significant]
            cells += [line.difference, line.relative, line.within, " ".join(r.text for r in line.reasons)]
            lines.writerow(dict(zip(_COLUMNS, cells, strict=True)))
    return out.getvalue()


def as_dict(found: Beside) -> dict[str, Any]:
    """The comparison as JSON values; null stands for what is not known."""
    out = asdict(found)
    for section, made in zip(found.sections, out["sections"], strict=True):
        for line, about in zip(section.lines, made["lines"], strict=True):
            about["reasons"] = [r._asdict() for r in line.reasons]
    return out


FORMATS: dict[str, Callable[[Beside], str]] = {"md": published_markdown, "csv": published_csv}
