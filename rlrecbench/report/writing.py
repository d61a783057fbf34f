"""One leaderboard, written in any format, to a string or into a results folder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from rlrecbench.config import nearest
from rlrecbench.errors import ConfigError
from rlrecbench.report import order, published
from rlrecbench.report.layouts import pairs
from rlrecbench.report.leaderboard import build, declared
from rlrecbench.report.starts import starts
from rlrecbench.report.table import Table
from rlrecbench.report.to_csv import csv
from rlrecbench.report.to_html import html
from rlrecbench.report.to_json import as_json
from rlrecbench.report.to_latex import LAYOUTS, document, latex
from rlrecbench.report.to_markdown import markdown
from rlrecbench.results import Results
from rlrecbench.store import write_atomic

Format = Literal["md", "csv", "latex", "html", "json"]
FORMATS: tuple[Format, ...] = ("md", "csv", "latex", "html", "json")


@dataclass(frozen=True)
class Extras:
    """What stands beside the leaderboard, and how LaTeX is laid out."""

    layout: str | None = None  # of LaTeX; none: all that apply, in a single text the one for data sets side by side
    std: bool = True  # whether standard deviations stand in the LaTeX table
    published: bool = False  # whether the papers' numbers stand beside ours
    order: bool = False  # whether our order of the methods is compared with the papers'


@dataclass(frozen=True)
class Report:
    """A leaderboard that is ready to be written.

    Attributes:
        results: What is on disk.
        table: The leaderboard made from it.
        extras: What stands beside it.
    """

    results: Results
    table: Table
    extras: Extras = Extras()

    @staticmethod
    def of(
        results: Results,
        metrics: Sequence[str] = (),
        changes: Mapping[str, Any] | None = None,
        extras: Extras | None = None,
    ) -> "Report":
        """Build a leaderboard.

        Args:
            results: What is on disk.
            metrics: Columns; none: those of the suite.
            changes: Settings of :class:`~rlrecbench.stats.StatsConfig` that differ from the suite's.
            extras: What stands beside it.

        Raises:
            ConfigError: A metric, a setting or the layout is wrong.
            StoreError: No cell is done, or a file is broken.
        """
        extras = extras or Extras()
        if extras.layout is not None and extras.layout not in LAYOUTS:
            hint = nearest(extras.layout, list(LAYOUTS), "layouts")
            raise ConfigError(f"no layout {extras.layout!r} of a LaTeX table; {hint}")
        return Report(results, build(results, metrics or None, declared(results, changes or {})), extras)

    @cached_property
    def _published(self) -> published.Beside:
        return published.beside(self.results, self.table)

    @cached_property
    def _orders(self) -> list[order.Order]:
        return order.order(self.results, self.table)

    def text(self, form: Format) -> str:
        """Write the leaderboard in one format, all in one text.

        Raises:
            ConfigError: The format cannot hold what was asked for.
        """
        texts = list(self.texts(form, self.extras.layout or "datasets").values())
        if form == "csv" and len(texts) > 1:
            raise ConfigError("a CSV file holds one table; write several with --out FOLDER, or give --format md")
        return "\n".join(texts)

    def texts(self, form: Format, layout: str | None = None) -> dict[str, str]:
        """Write the leaderboard in one format, by file name: ``leaderboard.*`` and what stands beside it.

        Args:
            form: The format; LaTeX comes as ``tables/*.tex``.
            layout: Of LaTeX; None: all that apply, and ``tables/all.tex``, which compiles as it is.

        Raises:
            ConfigError: The format cannot hold what was asked for.
        """
        if form == "latex":
            return self._latex(layout)
        if form == "html":
            return {"leaderboard.html": self._page()}
        if form == "json":
            return {"leaderboard.json": self._json()}
        out = {f"leaderboard.{form}": markdown(self.table) if form == "md" else csv(self.table)}
        if self.extras.published:
            out[f"published.{form}"] = published.FORMATS[form](self._published)
        if self.extras.order:
            out[f"order.{form}"] = order.FORMATS[form](self._orders)
        return out

    def _page(self) -> str:
        orders = order.as_dicts(self._orders) if self.extras.order else None
        return html(self.results, self.table, published=published.as_dict(self._published), orders=orders)

    def _json(self) -> str:
        data = json.loads(as_json(self.table))
        if self.extras.published:
            data["published"] = published.as_dict(self._published)
        if self.extras.order:
            data["order"] = order.as_dicts(self._orders)
        return json.dumps(data, indent=1, allow_nan=False) + "\n"

    def _latex(self, layout: str | None) -> dict[str, str]:
        if self.extras.published or self.extras.order:
            raise ConfigError(
                "LaTeX tables hold our own numbers; for --published and --compare-order give --format md, csv, html or "
                "json"
            )
        begin = starts(self.results)
        names = [layout] if layout else [name for name in LAYOUTS if name != "starts" or pairs(begin)]
        tables = {f"tables/{name}.tex": latex(self.table, name, std=self.extras.std, starts=begin) for name in names}
        return tables if layout else {**tables, "tables/all.tex": document(list(tables.values()))}


def write(texts: Mapping[str, str], folder: Path) -> list[Path]:
    """Write texts by file name into a folder.

    Returns:
        The files written.

    Raises:
        StoreError: The folder cannot be written.
    """
    for name, text in texts.items():
        write_atomic(folder / name, text)
    return [folder / name for name in texts]
