"""Where a number of the table comes from: its records, and why some are not there."""

from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import Any

from rlrecbench.metrics import parse
from rlrecbench.report import words
from rlrecbench.report.table import Block, Column, Row, Table
from rlrecbench.results import Block as Place
from rlrecbench.results import Record, Results

Json = dict[str, Any]
_COMMON = ("method", "settings", "budget", "backbone", "identifiers", "protocol", "versions")

COSTS = {
    "train_s": "training, seconds",
    "with_start_s": "training with its start, seconds",
    "rank_s_per_1000": "ranking 1,000 users, seconds",
    "peak_memory_mb": "peak memory, MB",
    "parameters": "parameters",
}
_OWN = ("commit", "date", "device", "key", "fingerprint")


@dataclass(frozen=True, eq=False)
class Origin:
    """A table and the folder that it was made from.

    Attributes:
        results: The folder.
        table: The leaderboard.
    """

    results: Results
    table: Table

    @cached_property
    def places(self) -> dict[tuple[str, str], Place]:
        """The records of each block, by data set and label."""
        return {(p.dataset, p.label): p for p in self.results.blocks(self.table.config.rows)}

    @property
    def primary(self) -> Column:
        """The metric on which rows are compared, a column of the table or not."""
        name = self.table.config.primary
        metric = parse(name).metric
        return Column(name, metric.better, "user" if metric.level == "user" else "list")

    @cached_property
    def number(self) -> dict[str, int]:
        """Number of each cell on the page, by name."""
        return {record.name: i for i, record in enumerate(self.results.records)}

    def records(self, block: Block, row: Row) -> dict[int, Record]:
        """A row's records by seed."""
        return {r.seed: r for r in self.places[block.dataset, block.label].records[row.label]}

    def reason(self, block: Block, row: Row, seed: int) -> str:
        """Say why a cell has no result."""
        cells = self.places[block.dataset, block.label].cells(row.label)
        failed = [self.results.failures.get(f"{cell} seed {seed}") for cell in cells]
        return next((f"failed: {reason}" for reason in failed if reason is not None), "not done yet")

    def gaps(self, block: Block, row: Row) -> list[tuple[int, str]]:
        """Seeds of a row without a result, each with the reason."""
        return [(seed, self.reason(block, row, seed)) for seed in block.missing.get(row.label, ())]

    def cells(self) -> list[Json]:
        """Provenance of every cell: what all seeds share first, then what is its own."""
        return [self._cell(record) for record in self.results.records]

    def _cell(self, record: Record) -> Json:
        known = record.provenance
        facts = [[name, known.get(name)] for name in (*_OWN, *_COMMON)]
        facts += [["stages", list(known.get("stages", {}))], ["cost", record.cost], ["audit", record.audit]]
        return {
            "name": record.name,
            "path": record.path.relative_to(self.results.root).as_posix(),
            "facts": [[name, said(value)] for name, value in facts if value not in (None, {}, [])],
        }


def said(value: Any) -> str:
    """Write settings as ``key = value`` with dotted keys, one after the other."""
    if isinstance(value, dict):
        return "; ".join(f"{key} = {text}" for key, text in _flat(value))
    if isinstance(value, list):
        return ", ".join(map(said, value))
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return str(value)


def _flat(value: Json, prefix: str = "") -> list[tuple[str, str]]:
    out: list[tuple[str, str]] = []
    for key, item in value.items():
        if isinstance(item, dict):
            out += _flat(item, f"{prefix}{key}.")
        else:
            out.append((f"{prefix}{key}", said(item)))
    return out


def finite(value: float | None) -> float | None:
    """A number that JSON can hold; None for what is unknown, undefined or unbounded."""
    return value if value is not None and isfinite(value) else None


def signed(value: float) -> str:
    """A difference with its sign."""
    return ("-" if value < 0 else "+") + words.number(abs(value))
