"""One leaderboard, written in any format, to a string or into a results folder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

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

    layout: str = "datasets"  # of the LaTeX table
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
            ConfigError: A metric or a setting is wrong.
            StoreError: No cell is done, or a file is broken.
        """
        return Report(results, build(results, metrics or None, declared(results, changes or {})), extras or Extras())

    @cached_property
    def _published(self) -> published.Beside:
        return published.beside(self.results, self.table)

    @cached_property
    def _orders(self) -> list[order.Order]:
        return order.order(self.results, self.table)

    def text(self, form: Format) -> str:
        """Write the leaderboard in one format.

        Raises:
            ConfigError: The layout is unknown, or the format cannot hold what was asked for.
        """
        if form == "html":
            return html(self.results, self.table, published=published.as_dict(self._published))
        if form == "json":
            return self._json()
        if form == "latex":
            return self._latex(self.extras.layout)
        parts = [markdown(self.table) if form == "md" else csv(self.table)]
        if self.extras.published:
            parts.append(published.FORMATS[form](self._published))
        if self.extras.order:
            parts.append(order.FORMATS[form](self._orders))
        return "\n".join(parts)

    def write(self, form: Format, folder: Path) -> list[Path]:
        """Write one format into a folder: ``leaderboard.*``, or ``tables/*.tex`` in every layout.

        Returns:
            The files written.
        """
        if form != "latex":
            texts = {folder / f"leaderboard.{form}": self.text(form)}
        else:
            begin = starts(self.results)
            layouts = [name for name in LAYOUTS if name != "starts" or pairs(begin)]
            tables = {name: self._latex(name) for name in layouts}
            texts = {folder / "tables" / f"{name}.tex": text for name, text in tables.items()}
            texts[folder / "tables" / "all.tex"] = document(list(tables.values()))
        for path, text in texts.items():
            write_atomic(path, text)
        return list(texts)

    def _json(self) -> str:
        data = json.loads(as_json(self.table))
        if self.extras.published:
            data["published"] = published.as_dict(self._published)
        if self.extras.order:
            data["order"] = order.as_dicts(self._orders)
        return json.dumps(data, indent=1, allow_nan=False) + "\n"

    def _latex(self, layout: str) -> str:
        if self.extras.published or self.extras.order:
            raise ConfigError(
                "LaTeX tables hold our own numbers; for --published and --compare-order give --format md, csv or json"
            )
        return latex(self.table, layout, std=self.extras.std, starts=starts(self.results))
