"""How a printed table is laid out: which block and row stand at which place. Nothing is formatted here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

from rlrecbench.metrics import parse
from rlrecbench.report import words
from rlrecbench.report.captions import title
from rlrecbench.report.starts import Start
from rlrecbench.report.table import Block, Column, Row, Table, Value
from rlrecbench.results import NO_BACKBONE

ASPECTS = ("accuracy", "fairness", "diversity", "other")


class Place(NamedTuple):
    """One number of the table."""

    column: Column
    block: Block | None  # None: nothing is done in this block
    row: Row | None  # None: the block has no such row

    @property
    def value(self) -> Value | None:
        """What stands here; None: nothing is done, or it was not measured."""
        return self.row.values.get(self.column.metric) if self.row is not None else None


class Line(NamedTuple):
    """One row of the table, under its label."""

    label: str
    notes: tuple[str, ...]  # further texts left of the numbers, behind the row's label
    places: tuple[Place, ...]


class Group(NamedTuple):
    """Lines between two rules."""

    label: str  # in the first column, over all of them; "" if there is no such column
    runs: tuple[tuple[Line, ...], ...]  # with a little space between two runs

    @property
    def lines(self) -> list[Line]:
        """All lines."""
        return [line for run in self.runs for line in run]


@dataclass(frozen=True)
class Panel:
    """One grid; a table has one or several, below each other.

    Attributes:
        stubs: Heads of the columns left of the numbers.
        spans: Heads over several columns of numbers, and how many.
        columns: Metrics, one per column of numbers.
        groups: From top to bottom.
    """

    stubs: tuple[str, ...]
    spans: tuple[tuple[str, int], ...]
    columns: tuple[Column, ...]
    groups: tuple[Group, ...]


def side_by_side(table: Table, datasets: Sequence[str]) -> Panel:
    """Rows under their backbones, data sets side by side (GFlowGR, Table 1)."""
    return _beside(table, datasets, (), lambda lines: [lines])


def from_starts(table: Table, datasets: Sequence[str], starts: Mapping[str, Start]) -> Panel:
    """The same method from several starting checkpoints, one below the other (Flower, Table 5).

    Rows belong together if they are the same method with the same settings and begin elsewhere. All others stand
    below, in the table's order.
    """
    together = pairs(starts)

    def runs(lines: Sequence[Line]) -> list[Sequence[Line]]:
        by = {line.label: line for line in lines}
        paired = [[by[label] for label in labels if label in by] for labels in together]
        alone = [line for line in lines if not any(line.label in labels for labels in together)]
        return [run for run in (*paired, alone) if run]

    def note(label: str) -> str:
        return starts[label].start if label in starts else ""

    return _beside(table, datasets, (("start", note),), runs)


def pairs(starts: Mapping[str, Start]) -> list[list[str]]:
    """Labels of the rows that differ in their start alone, the starts in the same order in each of them."""
    order = list(dict.fromkeys(s.start for s in starts.values()))
    by: dict[str, list[str]] = {}
    for label, start in starts.items():
        by.setdefault(start.recipe, []).append(label)
    found = [sorted(labels, key=lambda label: order.index(starts[label].start)) for labels in by.values()]
    return [labels for labels in found if len({starts[label].start for label in labels} - {""}) > 1]


def of_variants(table: Table) -> list[Panel]:
    """One panel per block, and rules around a method with its variants (GFlowGR, Table 2).

    A row is a variant of another one if its label is the other's, a dash, a dot or a colon, and more.
    """
    noun = words.ROW[table.config.rows]
    out = []
    for block in table.blocks:
        roots = _roots([row.label for row in block.rows])
        together: dict[str, list[Line]] = {}
        for row in block.rows:
            together.setdefault(roots[row.label], []).append(_line(row.label, [(block, row)], table.columns))
        groups = [Group("", (tuple(lines),)) for lines in together.values()]
        out.append(Panel((noun,), ((title(block), len(table.columns)),), table.columns, tuple(groups)))
    return out


def by_aspect(table: Table) -> Panel:
    """Rows under their data set, metrics under accuracy, fairness, diversity and others (Flower, Tables 4 and 6)."""
    columns = tuple(sorted(table.columns, key=lambda c: ASPECTS.index(aspect(c))))
    spans = tuple((name, len(list(run))) for name, run in groupby(columns, aspect))
    several = len({block.label for block in table.blocks}) > 1
    groups = tuple(
        Group(
            title(block) if several else block.dataset,
            (tuple(_line(row.label, [(block, row)], columns) for row in block.rows),),
        )
        for block in table.blocks
    )
    return Panel(("data set", words.ROW[table.config.rows]), spans, columns, groups)


def aspect(column: Column) -> str:
    """What a metric is about, by the module that defines it."""
    name = parse(column.metric).metric.__module__
    family = str(name).rpartition(".")[2]
    return family if family in ASPECTS else "other"


def cut(panel: Panel, most: int) -> list[Panel]:
    """Cut a panel into panels of so many lines at most, between groups where that is possible."""
    pages: list[list[Group]] = [[]]
    for group in panel.groups:
        lines = group.lines
        pieces = [group]
        if len(lines) > most:
            pieces = [Group(group.label, (tuple(lines[i : i + most]),)) for i in range(0, len(lines), most)]
        for piece in pieces:
            if pages[-1] and sum(len(g.lines) for g in pages[-1]) + len(piece.lines) > most:
                pages.append([])
            pages[-1].append(piece)
    return [replace(panel, groups=tuple(page)) for page in pages]


def _beside(
    table: Table,
    datasets: Sequence[str],
    notes: Sequence[tuple[str, Callable[[str], str]]],
    runs: Callable[[Sequence[Line]], Sequence[Sequence[Line]]],
) -> Panel:
    """Rows under the labels of the blocks, data sets side by side."""
    groups = []
    for label in dict.fromkeys(block.label for block in table.blocks):
        found = {b.dataset: b for b in table.blocks if b.label == label}
        blocks = [found.get(name) for name in datasets]
        if not any(blocks):
            continue
        lines = [
            _line(name, [(b, _row(b, name)) for b in blocks], table.columns, [text(name) for _, text in notes])
            for name in dict.fromkeys(row.label for b in blocks if b is not None for row in b.rows)
        ]
        groups.append(Group("—" if label == NO_BACKBONE else label, tuple(tuple(run) for run in runs(lines))))
    nouns = words.ROW[table.config.rows], next(n for n in words.ROW.values() if n != words.ROW[table.config.rows])
    return Panel(
        (nouns[1], nouns[0], *(head for head, _ in notes)),
        tuple((name, len(table.columns)) for name in datasets),
        table.columns * len(datasets),
        tuple(groups),
    )


def _row(block: Block | None, label: str) -> Row | None:
    return next((row for row in block.rows if row.label == label), None) if block is not None else None


def _line(
    label: str,
    sources: Sequence[tuple[Block | None, Row | None]],
    columns: Sequence[Column],
    notes: Sequence[str] = (),
) -> Line:
    return Line(label, tuple(notes), tuple(Place(c, block, there) for block, there in sources for c in columns))


def _roots(labels: Sequence[str]) -> dict[str, str]:
    """The row that each row is a variant of, itself included; "" for rows that have no variants and are none."""
    root = {}
    for label in labels:
        bases = [other for other in labels if any(label.startswith(other + mark) for mark in "-.:")]
        root[label] = min(bases, key=len, default=label)
    varied = {base for label, base in root.items() if base != label}
    return {label: base if base in varied else "" for label, base in root.items()}
