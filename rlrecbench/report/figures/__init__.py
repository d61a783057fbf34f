"""Figures for papers: each as PDF with its fonts, and as PNG."""

from collections.abc import Callable
from pathlib import Path

from rlrecbench.report.figures.exposure import draw_exposure
from rlrecbench.report.figures.fitting import draw_fits
from rlrecbench.report.figures.pareto import draw_pareto
from rlrecbench.report.figures.ranks import draw_ranks
from rlrecbench.report.figures.style import styled
from rlrecbench.report.figures.sweeps import draw_sweeps
from rlrecbench.report.table import Table
from rlrecbench.results import Results

__all__ = ["draw_figures", "draw_fits"]

_FIGURES: tuple[Callable[[Results, Table, Path], list[Path]], ...] = (
    draw_pareto,
    draw_exposure,
    draw_sweeps,
    draw_ranks,
)


def draw_figures(results: Results, table: Table, folder: Path) -> list[Path]:
    """Draw the figures for which there is something to show.

    Args:
        results: What is on disk.
        table: The leaderboard of the same results.
        folder: Where the files go; it is made if it is not there.

    Returns:
        The files written.

    Raises:
        StoreError: A file is broken, or cannot be written.
    """
    with styled():
        return [*draw_fits(results, folder), *(path for draw in _FIGURES for path in draw(results, table, folder))]
