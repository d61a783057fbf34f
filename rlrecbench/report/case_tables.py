"""What ``rlrecbench inspect`` prints: a user's history, and as many lists side by side as the terminal is wide."""

from collections.abc import Sequence
from itertools import zip_longest

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.table import Table as Grid
from rich.text import Text

from rlrecbench.report.cases import Case, Item, Ranked
from rlrecbench.results import NO_BACKBONE

HIT = "✓"
_LEAST, _MOST = 22, 40  # width of a list's column
_PLACE, _GAP = 4, 3  # width of the places' column; between two columns


def drawn(case: Case, width: int) -> list[Grid | Text]:
    """Draw a case to fit a width in characters."""
    per_row = max(1, (width - _PLACE) // (_LEAST + _GAP))
    rows = -(-len(case.lists) // per_row)
    per_row = -(-len(case.lists) // max(rows, 1))
    column = min(_MOST, (width - _PLACE) // max(per_row, 1) - _GAP)
    parts = [case.lists[at : at + per_row] for at in range(0, len(case.lists), max(per_row, 1))]
    note = (
        f"{HIT}: the item that is looked for. The number behind a title: its popularity group, "
        "0 the most popular of eight."
    )
    if case.k > case.stored:
        note += f" The stored lists hold {case.stored} items, so {case.k} cannot be shown."
    return [*_asked(case, width), *(_side_by_side(case, part, column) for part in parts), Text(note, "dim italic")]


def _asked(case: Case, width: int) -> list[Grid | Text]:
    title = f"{case.dataset}, user {case.user}, seed {case.seed}"
    grid = Grid(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    grid.add_column("", justify="right", width=2, style="dim")
    most = min(2 * _MOST, width - 16)
    grid.add_column("history, oldest first", no_wrap=True)
    grid.add_column("group", justify="right", style="dim")
    for place, item in enumerate(case.history, 1):
        grid.add_row(str(place), _cut(item.title, most), _group(item))
    grid.add_section()
    grid.add_row(HIT, Text(_cut(case.target.title, most), "bold green"), _group(case.target))
    return [grid]


def _side_by_side(case: Case, lists: Sequence[Ranked], width: int) -> Grid:
    several = len({found.backbone for found in case.lists} - {NO_BACKBONE}) > 1
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False)
    grid.add_column("", justify="right", width=2, style="dim")
    for found in lists:
        label = f"{found.backbone} {found.method}" if several and found.backbone != NO_BACKBONE else found.method
        outcome = f"{HIT} at {found.rank}" if found.rank is not None else "not in the list"
        head = Text.assemble(_cut(label, width), "\n", (outcome, "green" if found.rank is not None else "dim"))
        grid.add_column(head, no_wrap=True, width=width)
    for place, items in enumerate(zip_longest(*(found.items for found in lists)), 1):
        grid.add_row(str(place), *(_cell(item, case.target, width) for item in items))
    return grid


def _cell(item: Item | None, target: Item, width: int) -> Text:
    """A title with its group at the right edge, and a sign in front of a hit."""
    if item is None:
        return Text("")
    hit = item.id == target.id
    title = set_cell_size(_cut(item.title, width - 4), width - 4)
    return Text.assemble((f"{HIT if hit else ' '} {title}", "bold green" if hit else ""), (f" {_group(item)}", "dim"))


def _group(item: Item) -> str:
    return " " if item.group is None else str(item.group)


def _cut(text: str, width: int) -> str:
    """Shorten a text to a width on the screen, with "…" at the end where something is missing."""
    text = " ".join(text.split())
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"
