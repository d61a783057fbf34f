"""What ``rlrecbench compare`` prints of two folders: which cells differ, and by how much."""

from rich.table import Table as Grid
from rich.text import Text

from rlrecbench.report import words
from rlrecbench.report.changes import Change, Changes, Moved
from rlrecbench.report.pair_tables import grid, interval

_NAMED = 5  # cells that only one folder has, then their number


def changed(found: Changes) -> list[Grid | str | Text]:
    """Draw what differs between two folders."""
    out: list[Grid | str | Text] = [f"old: {found.old}\nnew: {found.new}", _summary(found)]
    out += [_row(change) for change in found.changes]
    if found.changes:
        note = (
            "p: two-way test, users and seeds crossed; for metrics of all lists together it resamples users' lists. "
            "What cannot be resampled has Welch's test on the seeds' values, and with one seed none. Uncorrected. With "
            "one seed, p and intervals speak of these checkpoints alone."
        )
        out.append(Text(note, "dim italic"))
    return out


def _summary(found: Changes) -> str:
    moved = found.cells - found.equal
    lines = [
        f"{found.cells} cells in both: {found.equal} equal to the byte (metrics, values per user, lists), "
        f"{moved} different."
    ]
    for side, names in (("old", found.only_old), ("new", found.only_new)):
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            lines.append(f"Only in {side}: {', '.join(names[:_NAMED])}{more}.")
    return "\n".join(lines)


def _row(change: Change) -> Grid:
    seeds = ", ".join(map(str, change.seeds))
    share = 100 * change.ranks / change.users if change.users else 0.0
    part = grid(
        f"{change.row}: {len(change.different)} of {len(change.seeds)} cells differ",
        ["metric", "old", "new", "new - old [95 %]", "p"],
        f"Seeds {seeds}; {change.users:,} test users, of whom {change.ranks:,.0f} ({share:.1f} %) have the target at "
        "another rank, on average over the cells that differ.",
    )
    for line in change.lines:
        part.add_row(*_line(line))
    return part


def _line(line: Moved) -> list[str | Text]:
    values = [words.number(line.old), words.number(line.new)]
    if line.test is None:
        difference = f"{line.new - line.old:+.4f}"
        return [line.metric, *values, words.ABSENT if "nan" in difference else difference, words.ABSENT]
    return [line.metric, *values, interval(line.test), words.p_value(line.test.p)]
