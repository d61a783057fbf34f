"""From records to leaderboards: :func:`build` makes a table, the others write it in one format each."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table as Grid

from rlrecbench.report.leaderboard import build, declared
from rlrecbench.report.table import Table
from rlrecbench.report.to_csv import csv
from rlrecbench.report.to_json import as_json
from rlrecbench.report.to_markdown import markdown
from rlrecbench.report.to_terminal import terminal
from rlrecbench.results import Results
from rlrecbench.store import write_atomic

__all__ = [
    "FORMATS",
    "Table",
    "as_json",
    "build",
    "csv",
    "markdown",
    "render",
    "terminal",
    "terminal_tables",
    "write_reports",
]

FORMATS: dict[str, Callable[[Table], str]] = {"md": markdown, "csv": csv, "json": as_json}


def render(results: Results, form: str, metrics: Sequence[str] = (), changes: Mapping[str, Any] | None = None) -> str:
    """Write the leaderboard in one format.

    Args:
        results: What is on disk.
        form: A key of ``FORMATS``.
        metrics: Columns; none: those of the suite.
        changes: Settings of :class:`~rlrecbench.stats.StatsConfig` that differ from the suite's.

    Raises:
        ConfigError: A metric or a setting is wrong.
        StoreError: No cell is done, or a file is broken.
    """
    return FORMATS[form](build(results, metrics or None, declared(results, changes or {})))


def terminal_tables(results: Results) -> list[Grid]:
    """Draw the leaderboard as the suite declares it."""
    return terminal(build(results))


def write_reports(results: Results) -> list[Path]:
    """Write ``leaderboard.md`` and ``leaderboard.csv`` into a results folder.

    Returns:
        The files written.
    """
    table = build(results)
    paths = {results.root / f"leaderboard.{form}": FORMATS[form](table) for form in ("md", "csv")}
    for path, text in paths.items():
        write_atomic(path, text)
    return list(paths)
