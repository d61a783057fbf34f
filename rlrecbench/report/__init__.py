"""From records to leaderboards: :func:`build` makes a table, :class:`Report` writes it in any format."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table as Grid

from rlrecbench.report.leaderboard import build
from rlrecbench.report.table import Table
from rlrecbench.report.to_terminal import terminal
from rlrecbench.report.writing import FORMATS, Extras, Format, Report, write
from rlrecbench.results import Results

__all__ = ["FORMATS", "Extras", "Format", "Report", "Table", "build", "render", "terminal", "write", "write_reports"]


def render(
    results: Results,
    form: Format,
    metrics: Sequence[str] = (),
    changes: Mapping[str, Any] | None = None,
    extras: Extras | None = None,
) -> str:
    """Write the leaderboard in one format; the arguments are those of :meth:`Report.of`.

    Raises:
        ConfigError: A metric, a setting or a layout is wrong.
        StoreError: No cell is done, or a file is broken.
    """
    return Report.of(results, metrics, changes, extras).text(form)


def write_reports(results: Results) -> tuple[list[Grid], list[Path]]:
    """Write the leaderboard as the suite declares it into its folder: markdown, CSV, HTML, LaTeX and figures.

    Returns:
        The tables for the terminal, and the files written.
    """
    from rlrecbench.report.figures import draw_figures  # matplotlib takes a while to import

    report = Report.of(results)
    forms: tuple[Format, ...] = ("md", "csv", "html", "latex")
    written = write({name: text for form in forms for name, text in report.texts(form).items()}, results.root)
    return terminal(report.table), [*written, *draw_figures(results, report.table, results.root / "figures")]
