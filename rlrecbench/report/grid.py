"""One grid of a LaTeX table: how its cells are written, and how it is made to fit."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isnan
from typing import Literal

from rlrecbench.report import words
from rlrecbench.report.captions import NOTABLE, flawed
from rlrecbench.report.layouts import Group, Line, Panel, Place
from rlrecbench.report.table import Column, Table
from rlrecbench.report.tex import escape

Spreads = Literal["none", "beside", "below"]
_ARROW = {"higher": r"\,$\uparrow$", "lower": r"\,$\downarrow$"}
_MARK = {"best": r"\textbf{%s}", "second": r"\underline{%s}", "": "%s"}
STAR = "*"
# Source: acmart (sigconf), 241 pt a column and 506 pt a page; a digit is half an em of \small, 9 pt.
COLUMN, PAGE, _LETTER, _GAP = 241.0, 506.0, 4.6, 12.0
TALL, HEAD = 46, 5  # lines of \small, 11 pt each, beside a caption on a page of 9 in; lines of a grid's head
SMALLEST = 0.75  # share of its size to which a table may shrink; Source: ours, 9 pt become 6.75 pt


def fitted(panel: Panel, table: Table, std: bool) -> "Grid":
    """The first way to set a panel that fits a column or a page, or else the narrowest."""
    spreads: tuple[Spreads, ...] = ("beside", "below") if std else ("none",)
    ways = [Grid(panel, table, where, broken) for where in spreads for broken in (False, True)]
    for limit in (COLUMN, PAGE, PAGE / SMALLEST):
        for grid in ways:
            if grid.width <= limit and (limit == PAGE or grid.spreads != "below"):
                return grid
    return ways[-1]


@dataclass
class Grid:
    """A panel on its way to LaTeX.

    Attributes:
        panel: What it shows.
        table: The leaderboard.
        spreads: Where standard deviations stand: beside their means, in a line below them, or nowhere.
        broken: Whether the metrics' names are broken into lines.
    """

    panel: Panel
    table: Table
    spreads: Spreads
    broken: bool

    @property
    def most(self) -> int:
        """Lines for which a page has room."""
        return TALL // 2 if self.spreads == "below" else TALL

    @property
    def height(self) -> int:
        """Lines of the page that it takes, its head included."""
        return HEAD + len(self.lines) * (2 if self.spreads == "below" else 1)

    @property
    def lines(self) -> list[Line]:
        """All lines."""
        return [line for group in self.panel.groups for line in group.lines]

    def tex(self) -> str:
        """Write it."""
        panel = self.panel
        numbers = len(panel.columns)
        rules, at = [], len(panel.stubs) + 1
        for _, n in panel.spans:
            rules.append(rf"\cmidrule(lr){{{at}-{at + n - 1}}}")
            at += n
        spans = [rf"\multicolumn{{{n}}}{{c}}{{{escape(text)}}}" for text, n in panel.spans]
        body = [self._group(group) for group in panel.groups]
        return "\n".join(
            [
                r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
                rf"\begin{{tabular}}{{@{{}}{'l' * len(panel.stubs)}{'c' * numbers}@{{}}}}",
                r"\toprule",
                _row([""] * len(panel.stubs) + spans),
                "".join(rules),
                _row([*map(escape, panel.stubs), *(self._head(c) for c in panel.columns)]),
                r"\midrule",
                "\n\\midrule\n".join(body),
                r"\bottomrule",
                r"\end{tabular}}",
            ]
        )

    def _head(self, column: Column) -> str:
        parts = _names(column.metric, self.broken)
        text = r"\\".join(map(escape, parts)) + _ARROW[column.better]
        return rf"\begin{{tabular}}[b]{{@{{}}c@{{}}}}{text}\end{{tabular}}" if len(parts) > 1 else text

    def _group(self, group: Group) -> str:
        out = []
        n = len(group.lines) * (2 if self.spreads == "below" else 1)
        first = [rf"\multirow[t]{{{n}}}{{*}}{{{escape(group.label)}}}"] if group.label else []
        for run in group.runs:
            for line in run:
                wrong = any(flawed(place.row.audit) for place in line.places if place.row is not None)
                label = escape(line.label) + (r"\textsuperscript{\dag}" if wrong else "")
                out.append(_row([*first, label, *map(escape, line.notes), *self._cells(line)]))
                first = [""] if group.label else []
                spreads = [_spread(self._parts(place)[1]) for place in line.places]
                if self.spreads == "below" and any(spreads):
                    out[-1] += "[-1pt]"
                    out.append(_row([*first, "", *("" for _ in line.notes), *spreads]) + "[2pt]")
            out.append(r"\addlinespace")
        return "\n".join(out[:-1])

    def _cells(self, line: Line) -> list[str]:
        """The numbers of a line, each as wide as the widest of its column, so that they stand below each other."""
        out = []
        for place, column in zip(line.places, self._columns, strict=True):
            number, spread, mark = self._parts(place)
            tex = _MARK[place.value.mark if place.value is not None else ""] % _number(number)
            if number[:1].isdigit():
                whole = max(len(n.partition(".")[0]) for n, _, _ in column if n[:1].isdigit())
                tex = _phantom("0" * (whole - len(number.partition(".")[0]))) + tex
                if self.spreads == "beside":
                    tex += _spread(spread) or _phantom(_spread(max((s for _, s, _ in column), key=len)))
                tex += escape(mark) or _phantom(escape(max(m for _, _, m in column)))
            out.append(tex)
        return out

    @cached_property
    def _columns(self) -> list[list[tuple[str, str, str]]]:
        return [
            [self._parts(place) for place in places] for places in zip(*(x.places for x in self.lines), strict=True)
        ]

    def _parts(self, place: Place) -> tuple[str, str, str]:
        """The number, its spread and its mark, as plain text."""
        value, row = place.value, place.row
        if value is None or row is None:
            return words.ABSENT, "", ""
        spread = words.spread(value).removeprefix(" ± ") if self.spreads != "none" and not isnan(value.mean) else ""
        starred = row.comparison is not None and row.comparison.star
        if starred and place.column.metric == self.table.config.primary:
            return words.number(value.mean), spread, STAR
        notable = value.contrast is not None and value.contrast.notable
        return words.number(value.mean), spread, NOTABLE if notable else ""

    @cached_property
    def width(self) -> float:
        """About the width in points."""
        labelled = any(group.label for group in self.panel.groups)
        stubs = [self.panel.stubs]
        for group in self.panel.groups:
            mine = (group.label,) if labelled else ()
            stubs += [(*mine, line.label, *line.notes) for line in group.lines]
        letters: list[float] = [max(map(len, texts)) for texts in zip(*stubs, strict=True)]
        for column, parts in zip(self.panel.columns, self._columns, strict=True):
            number, spread, mark = (max(len(p[k]) for p in parts) for k in range(3))
            head = max(map(len, _names(column.metric, self.broken))) + 1.5
            below, beside = (
                0.75 * (spread + 2) if self.spreads == where and spread else 0 for where in ("below", "beside")
            )
            letters.append(max(head, number + beside + mark, below))
        return sum(letters) * _LETTER + (len(letters) - 1) * _GAP


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _names(metric: str, broken: bool) -> list[str]:
    """A metric's name, or its parts, one a line."""
    if not broken:
        return [metric]
    name, _, rest = metric.partition("@")
    parts = name.split("-") if len(name) > 9 else [name]
    return [*(f"{p}-" for p in parts[:-1]), parts[-1], f"@{rest}"]


def _number(text: str) -> str:
    """A number, or what stands instead of one; with a true minus."""
    if text[:1] not in "-0123456789":
        return escape(text)
    return text.replace("-", r"\textminus{}")


def _spread(text: str) -> str:
    return rf"{{\scriptsize\,$\pm$\,{_number(text)}}}" if text else ""


def _phantom(tex: str) -> str:
    return rf"\phantom{{{tex}}}" if tex else ""
