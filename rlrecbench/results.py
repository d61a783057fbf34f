"""What a run leaves on disk, read back: one record per cell, data frames, and blocks for the tables.

``results/<suite>/cells/<dataset>/<backbone>/<method>/seed-<n>/`` holds ``metrics.json`` (last file written:
without it there is no record) and ``users.parquet`` (one row per test user). Nothing here is rounded,
averaged in advance or sorted by who won; that is the table's business.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rlrecbench.errors import ConfigError, StoreError
from rlrecbench.stats import Rows

Json = dict[str, Any]
SCHEMA = 1
NO_BACKBONE = "none"


@dataclass(frozen=True, eq=False)
class Record:
    """What is known of one cell.

    Attributes:
        dataset: Name of the data set.
        backbone: Label of the backbone; "none" for rankers without one.
        method: Label of the method.
        seed: Training seed.
        metrics: Value by name; NaN where undefined.
        audit: Counts of invalid, duplicate and short lists.
        cost: Seconds, memory and sizes.
        provenance: Where it comes from, ``fingerprint`` and ``protocol`` included.
        path: The cell's folder.
    """

    dataset: str
    backbone: str
    method: str
    seed: int
    metrics: dict[str, float]
    audit: dict[str, int]
    cost: Json
    provenance: Json
    path: Path

    @property
    def name(self) -> str:
        """How messages name the cell."""
        return f"{self.dataset}/{self.backbone}/{self.method} seed {self.seed}"

    @property
    def fingerprint(self) -> str:
        """Identity of the protocol under which the numbers may be compared."""
        return str(self.provenance["fingerprint"])

    def place(self, rows: Rows) -> tuple[str, str]:
        """Return the labels of the block and the row where the cell stands; block "none": all of the data set."""
        if rows == "backbones" and self.backbone != NO_BACKBONE:
            return self.method, self.backbone
        return self.backbone, self.method


class Axes(NamedTuple):
    """The labels of a leaderboard in suite order: methods on backbones, or backbones under methods."""

    blocks: list[str]
    rows: list[str]


class Block(NamedTuple):
    """The records that stand in one table: one data set, one label of one axis, and the other axis as rows."""

    dataset: str
    label: str  # of the backbone, or of the method where rows are backbones; "none": only rankers without a backbone
    rows: Rows  # what the rows are; rankers without a backbone are rows either way, under their own label
    records: dict[str, list[Record]]  # by the row's label in suite order, sorted by seed; [] where nothing is done

    def cells(self, row: str) -> tuple[str, str]:
        """How messages name a row's cells, less the seed: with the block's label, and without a backbone."""
        backbone, method = (self.label, row) if self.rows == "methods" else (row, self.label)
        return f"{self.dataset}/{backbone}/{method}", f"{self.dataset}/{NO_BACKBONE}/{row}"


class Results:
    """A results folder.

    Args:
        root: The folder.
        suite: The content of ``suite.json``.
        records: The finished cells.
        failures: Reason by cell name, from the last run.

    Raises:
        StoreError: Records of one data set were made under different protocols.
    """

    def __init__(self, root: Path, suite: Json, records: Sequence[Record], failures: dict[str, str]) -> None:
        self.root, self.suite, self.failures = root, suite, failures
        self.datasets, self.backbones, self.methods = (
            _order([e["label"] for e in suite[kind]], {getattr(r, kind[:-1]) for r in records} - {NO_BACKBONE})
            for kind in ("datasets", "backbones", "methods")
        )
        place = [self.datasets, [*self.backbones, NO_BACKBONE], self.methods]
        self.records = sorted(
            records,
            key=lambda r: (
                *(p.index(v) for p, v in zip(place, (r.dataset, r.backbone, r.method), strict=True)),
                r.seed,
            ),
        )
        for dataset in self.datasets:
            _check_protocol(root, [r for r in self.records if r.dataset == dataset])

    @property
    def name(self) -> str:
        """Name of the suite."""
        return str(self.suite["name"])

    @property
    def seeds(self) -> list[int]:
        """Seeds of the suite, and any others found."""
        return sorted({*self.suite["seeds"], *(r.seed for r in self.records)})

    @property
    def metrics(self) -> list[str]:
        """Names of all metrics: the suite's first, then what else the records hold."""
        return _order(self.suite["metrics"], {m for r in self.records for m in r.metrics})

    def axes(self, rows: Rows) -> Axes:
        """Return the labels of the blocks and of the rows.

        Where rows are backbones, the rankers without one follow them. They are known by a cell, done or failed;
        a method that has none yet counts as a block.

        Raises:
            ConfigError: A backbone and a ranker without one would be rows of the same label.
        """
        if rows == "methods":
            return Axes(self.backbones, self.methods)
        names = [*(r.name for r in self.records), *self.failures]
        cells = {tuple(name.rpartition(" seed ")[0].split("/")[1:]) for name in names}
        bare = [m for m in self.methods if (NO_BACKBONE, m) in cells]
        twice = next((b for b in self.backbones if b in bare), None)
        if twice is not None:
            raise ConfigError(
                f"{self.root}: {twice!r} is a backbone and a ranker without one, so rows cannot be backbones; "
                "give one of them another name with 'as: ...' and run again"
            )
        trained = {method for backbone, method in cells if backbone != NO_BACKBONE}
        return Axes([m for m in self.methods if m in trained or m not in bare], [*self.backbones, *bare])

    def blocks(self, rows: Rows = "methods") -> Iterator[Block]:
        """Yield one block per data set and label with at least one record, in suite order.

        Raises:
            ConfigError: See :meth:`axes`.
        """
        axes = self.axes(rows)
        for dataset in self.datasets:
            here = [(r, *r.place(rows)) for r in self.records if r.dataset == dataset]
            found = {block for _, block, _ in here}
            used = [label for label in axes.blocks if label in found]
            for label in used or ([NO_BACKBONE] if found else []):
                mine = [(r, row) for r, block, row in here if block in (label, NO_BACKBONE)]
                yield Block(dataset, label, rows, {name: [r for r, row in mine if row == name] for name in axes.rows})

    def frame(self) -> pd.DataFrame:
        """One row per cell and metric: dataset, backbone, method, seed, metric, value."""
        columns = ["dataset", "backbone", "method", "seed", "metric", "value"]
        rows = [
            (r.dataset, r.backbone, r.method, r.seed, metric, value)
            for r in self.records
            for metric, value in r.metrics.items()
        ]
        return pd.DataFrame(rows, columns=columns)

    def leaderboard(self) -> pd.DataFrame:
        """One row per backbone's block and method: dataset, backbone, method, seeds, each metric's mean over seeds."""
        rows = []
        for block in self.blocks():
            for method, records in block.records.items():
                if records:
                    means = {m: float(np.mean([r.metrics.get(m, np.nan) for r in records])) for m in self.metrics}
                    key = {"dataset": block.dataset, "backbone": block.label, "method": method}
                    rows.append({**key, "seeds": len(records), **means})
        return pd.DataFrame(rows, columns=["dataset", "backbone", "method", "seeds", *self.metrics])

    def users(self, record: Record) -> pd.DataFrame:
        """A cell's per-user table: user_id, target, rank (missing where absent), one column per metric.

        Raises:
            StoreError: The file is missing or broken.
        """
        return _read(record.path / "users.parquet").copy()

    def n_users(self, record: Record) -> int:
        """Number of test users of a cell."""
        return int(_about(record.path / "users.parquet").num_rows)

    def has_users(self, records: Sequence[Record], metric: str) -> bool:
        """Tell whether a metric has per-user values in all of these cells."""
        return all(metric in _about(r.path / "users.parquet").schema.names for r in records)

    def difference(self, a: Sequence[Record], b: Sequence[Record], metric: str) -> NDArray[np.float64]:
        """Per-user values of A minus those of B on their common seeds, [S, U]; S may be 0.

        Raises:
            StoreError: The two were measured on different users.
        """
        left, right = {r.seed: r for r in a}, {r.seed: r for r in b}
        seeds = sorted(left.keys() & right.keys())
        if not seeds:
            return np.zeros((0, 0))
        first = left[seeds[0]]
        return np.array([_values(left[s], metric, first) - _values(right[s], metric, first) for s in seeds])


def load(folder: Path | str) -> Results:
    """Read a results folder.

    Raises:
        StoreError: It is not a results folder, one of its files is broken, or its records cannot be compared.
    """
    root = Path(folder)
    if not (root / "suite.json").is_file():
        reason = "it has no suite.json" if root.is_dir() else "there is no such folder"
        raise StoreError(f"{root} is not a results folder: {reason}; give the folder that 'rlrecbench run' wrote")
    suite = _json(root / "suite.json")
    for key in ("name", "seeds", "datasets", "backbones", "methods", "metrics"):
        if key not in suite:
            raise StoreError(f"{root / 'suite.json'}: the key {key!r} is missing; run the suite again to rewrite it")
    records = [_record(path) for path in sorted(root.glob("cells/*/*/*/seed-*/metrics.json"))]
    failed = root / "failures.json"
    lines = _json(failed, list) if failed.is_file() else []
    return Results(root, suite, records, {line["cell"]: line["reason"] for line in lines})


def _record(path: Path) -> Record:
    data = _json(path)
    if data.get("schema") != SCHEMA:
        raise StoreError(f"{path}: schema {data.get('schema')!r}, but this version reads {SCHEMA}; run the suite again")
    metrics, provenance = data.get("metrics"), data.get("provenance")
    numbers = isinstance(metrics, dict) and all(v is None or type(v) in (int, float) for v in metrics.values())
    if not numbers or not isinstance(provenance, dict) or not isinstance(provenance.get("fingerprint"), str):
        raise StoreError(
            f"{path}: needs 'metrics' (numbers by name, null where undefined) and 'provenance' with a 'fingerprint'; "
            "remove the cell's folder and run the suite again"
        )
    seed = path.parent.name.removeprefix("seed-")
    if not seed.isdigit():
        raise StoreError(f"{path}: the folder's name must be seed-<number>; rename or remove it")
    dataset, backbone, method = path.parts[-5:-2]
    audit, cost = data.get("audit", {}), data.get("cost", {})
    values = {name: np.nan if value is None else float(value) for name, value in metrics.items()}
    return Record(dataset, backbone, method, int(seed), values, audit, cost, provenance, path.parent)


def _json(path: Path, kind: type = dict) -> Any:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise StoreError(f"{path} is broken: {e}; remove it and run the suite again") from e
    if not isinstance(data, kind):
        raise StoreError(f"{path} is broken: expected a JSON {kind.__name__}; remove it and run the suite again")
    return data


def _check_protocol(root: Path, records: list[Record]) -> None:
    """Refuse records of one data set whose fingerprints differ, and say in what."""
    other = next((r for r in records if r.fingerprint != records[0].fingerprint), None)
    if other is None:
        return
    first = records[0]
    a, b = (_flat(r.provenance.get("protocol", {})) for r in (first, other))
    different = [k for k in sorted(a.keys() | b.keys()) if a.get(k) != b.get(k)]
    what = ", ".join(f"{k} is {json.dumps(a.get(k))} and {json.dumps(b.get(k))}" for k in different)
    raise StoreError(
        f"{root}: {first.name} and {other.name} were measured under different protocols and cannot stand in "
        f"one table: {what or 'the fingerprints differ'}, in this order; run the suite again, or use "
        "two folders"
    )


def _flat(protocol: Json, prefix: str = "") -> Json:
    """Nested settings as dotted keys."""
    out: Json = {}
    for key, value in protocol.items():
        out |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out


def _order(declared: Sequence[str], found: set[str]) -> list[str]:
    """Put the declared names first, then the others alphabetically."""
    return [*declared, *sorted(found - set(declared))]


def _values(record: Record, metric: str, like: Record) -> NDArray[np.float64]:
    """Per-user values in the order of another record's users, [U]."""
    own, other = (_read(r.path / "users.parquet", metric) for r in (record, like))
    if not own.index.equals(other.index):
        if not own.index.is_unique or len(own) != len(other) or set(own.index) != set(other.index):
            raise StoreError(f"{record.path} and {like.path} were measured on different users; run the suite again")
        own = own.loc[other.index]
    return np.asarray(own[metric], np.float64)


def _read(path: Path, metric: str | None = None) -> pd.DataFrame:
    """Read a per-user table: all of it, or one column indexed by user."""
    try:
        return _cached(path, path.stat().st_mtime_ns, metric)
    except (OSError, KeyError, pa.ArrowException) as e:
        wanted = f" (column {metric!r})" if metric else ""
        raise StoreError(f"{path}{wanted} cannot be read: {e}; remove the cell's folder and run the suite again") from e


@lru_cache(maxsize=256)
def _cached(path: Path, changed: int, metric: str | None) -> pd.DataFrame:
    if metric is None:
        return pd.read_parquet(path)
    return pd.read_parquet(path, columns=["user_id", metric]).set_index("user_id", drop=False)


def _about(path: Path) -> Any:
    """A parquet file's number of rows and schema, without its data."""
    try:
        return pq.read_metadata(path)
    except (OSError, pa.ArrowException) as e:
        raise StoreError(f"{path} cannot be read: {e}; remove the cell's folder and run the suite again") from e
