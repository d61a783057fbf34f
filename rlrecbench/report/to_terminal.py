"""The leaderboard at the end of a run: one rich table per block, at most 100 columns wide."""

from rich import box
from rich.table import Table as Grid
from rich.text import Text

from rlrecbench.report import words
from rlrecbench.report.captions import caption, flawed, title
from rlrecbench.report.table import Block, Column, Row, Table

WIDTH = 100
_STYLE = {"best": "bold", "second": "underline", "": ""}
_GAP = 3  # characters between two cells
_VERDICT = 24


def terminal(table: Table) -> list[Grid]:
    """Draw the leaderboard; metrics that do not fit are left out, the primary one last of all."""
    return [_grid(table, block) for block in table.blocks]


def _grid(table: Table, block: Block) -> Grid:
    columns = _fitting(table, block)
    left_out = len(table.columns) - len(columns)
    notes = caption(table, block)
    if left_out:
        notes.insert(1, f"{left_out} more metrics in leaderboard.md.")
    grid = Grid(
        title=Text(title(block)),
        caption=Text(" ".join(notes)),
        caption_justify="left",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        width=max(_width(block, columns), 72),
        pad_edge=False,
    )
    grid.add_column(words.ROW[table.config.rows], no_wrap=True)
    for column in columns:
        grid.add_column(_head(column), justify="right", no_wrap=True)
    if block.family:
        grid.add_column(f"vs {block.baseline}", no_wrap=True)
    for row in block.rows:
        cells = [Text(_label(row)), *(_value(row, column, table) for column in columns)]
        grid.add_row(*cells, *([Text(_against(row, block))] if block.family else []))
    return grid


def _fitting(table: Table, block: Block) -> list[Column]:
    """The leading metrics that fit, the primary one among them."""
    primary = table.config.primary
    kept = [c for c in table.columns if c.metric == primary]
    for column in (c for c in table.columns if c.metric != primary):
        if _width(block, [*kept, column]) > WIDTH:
            break
        kept.append(column)
    return [c for c in table.columns if c in kept]


def _width(block: Block, columns: list[Column]) -> int:
    names = max(len(_label(row)) for row in block.rows)
    return names + _GAP * (len(columns) + 2) + _VERDICT + sum(max(len(_head(c)), 8) for c in columns)


def _head(column: Column) -> str:
    return f"{column.metric} {words.ARROW[column.better]}"


def _label(row: Row) -> str:
    return row.label + (" †" if flawed(row.audit) else "")


def _value(row: Row, column: Column, table: Table) -> Text:
    value = row.values.get(column.metric)
    if value is None:
        return Text(words.ABSENT)
    starred = column.metric == table.config.primary and row.comparison is not None and row.comparison.star
    return Text.assemble((words.number(value.mean), _STYLE[value.mark]), "*" if starred else " ")


def _against(row: Row, block: Block) -> str:
    if row.comparison is None:
        return "baseline" if row.label == block.baseline else words.ABSENT
    c = row.comparison
    share = c.relative(c.test.mean)
    return words.conclusion(c) if c.test.checkpoint_only or share is None else f"{100 * share:+.1f} % {c.verdict}"
