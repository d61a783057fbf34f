"""What a run leaves on disk, read back: one record per cell, data frames, and blocks for the tables.

``results/<suite>/cells/<dataset>/<backbone>/<method>/seed-<n>/`` holds ``metrics.json`` (last file written:
without it there is no record), ``users.parquet`` (one row per test user), ``ranked.parquet`` (the lists) and, where
something was trained, ``train.jsonl``. ``results/<suite>/data/<dataset>/`` holds what tables need to know of a data
set: ``items.parquet`` and ``rows.parquet``. Nothing here is rounded, averaged in advance or sorted by who won; that
is the table's business.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import fsum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rlrecbench.data.frame import Ints
from rlrecbench.errors import ConfigError, StoreError
from rlrecbench.metrics import Lists, Reference
from rlrecbench.results import shapes
from rlrecbench.results.files import about_table, numbers, read_arrow, read_json, read_lines, read_table
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
                    found = {m: [r.metrics[m] for r in records if m in r.metrics] for m in self.metrics}
                    means = {m: fsum(v) / len(v) if v else np.nan for m, v in found.items()}
                    key = {"dataset": block.dataset, "backbone": block.label, "method": method}
                    rows.append({**key, "seeds": len(records), **means})
        return pd.DataFrame(rows, columns=["dataset", "backbone", "method", "seeds", *self.metrics])

    def users(self, record: Record) -> pd.DataFrame:
        """A cell's per-user table: user_id, target, rank (missing where absent), one column per metric.

        Raises:
            StoreError: The file is missing or broken.
        """
        return _users(record).copy()

    def n_users(self, record: Record) -> int:
        """Number of test users of a cell."""
        return int(about_table(record.path / "users.parquet").num_rows)

    def has_users(self, records: Sequence[Record], metric: str) -> bool:
        """Tell whether a metric has per-user values in all of these cells."""
        return all(metric in about_table(r.path / "users.parquet").schema.names for r in records)

    def ranked(self, record: Record) -> pd.DataFrame:
        """A cell's lists: user_id, rank (from 1), item_id ("" where the ranker gave no item of the catalogue), score.

        Raises:
            StoreError: The file is missing or broken.
        """
        return read_table(record.path / "ranked.parquet").copy()

    def log(self, record: Record) -> pd.DataFrame:
        """What training logged, one row per logged step or evaluation; empty where nothing was trained.

        Raises:
            StoreError: The file is broken.
        """
        path = record.path / "train.jsonl"
        return read_lines(path) if path.is_file() else pd.DataFrame()

    def items(self, dataset: str) -> pd.DataFrame | None:
        """The catalogue in its order; None where the folder does not have it.

        Columns: item_id, title, group (popularity group of the title, 0 the most popular) and frequency (occurrences
        in the training histories).
        """
        return self._about(dataset, "items.parquet", ("item_id", "title", "group", "frequency"))

    def rows(self, dataset: str) -> pd.DataFrame | None:
        """The test rows in their order: user_id, history (item_ids, oldest first), target; None where not there."""
        return self._about(dataset, "rows.parquet", ("user_id", "history", "target"))

    def reference(self, dataset: str) -> Reference | None:
        """What metrics know about a data set; None where the folder does not have it."""
        items = self.items(dataset)
        if items is None:
            return None
        known: dict[str, Reference] = self.__dict__.setdefault("_references", {})
        if dataset not in known:
            title_of, titles = pd.factorize(items["title"])
            group_of = np.zeros(len(titles), np.int64)
            group_of[title_of] = items["group"]
            frequency = items["frequency"].to_numpy(np.int64)
            known[dataset] = Reference([str(t) for t in titles], title_of.astype(np.int64), frequency, group_of)
        return known[dataset]

    def lists(self, record: Record, like: Record | None = None) -> Lists | None:
        """A cell's lists as item numbers, one row per test user; None where the catalogue is not there.

        Args:
            record: The cell.
            like: A cell in whose order of users the rows come; None: the cell's own.

        Raises:
            StoreError: The files are broken, name a user or an item that is not there, or are of other users.
        """
        reference, items = self.reference(record.dataset), self.items(record.dataset)
        if reference is None or items is None:
            return None
        users = read_arrow(record.path / "users.parquet", ("user_id", "target"))
        ranked = read_arrow(record.path / "ranked.parquet", ("user_id", "rank", "item_id"))
        names = pa.array(items["item_id"])
        row = numbers(ranked["user_id"], users["user_id"])
        target, item = numbers(users["target"], names), numbers(ranked["item_id"], names)
        empty = pc.equal(ranked["item_id"], "").to_numpy()
        place = ranked["rank"].to_numpy().astype(np.int64) - 1
        outside = (place < 0).any() or (place >= shapes.LONGEST).any()
        if outside or (row < 0).any() or (target < 0).any() or ((item < 0) & ~empty).any():
            raise StoreError(
                f"{record.path}: users.parquet and ranked.parquet do not fit each other and "
                f"{self.root / 'data' / record.dataset}; remove the cell's folder and run the suite again"
            )
        k = max(int(record.provenance.get("protocol", {}).get("k", 0)), int(place.max(initial=-1)) + 1)
        lists = np.full((len(users), k), -1, np.int64)
        lists[row, place] = np.where(item < 0, -2, item)
        made = Lists(lists, target, reference)
        order = _order_of(record, like) if like is not None else None
        return made if order is None else made.select(order)

    def _about(self, dataset: str, name: str, columns: tuple[str, ...]) -> pd.DataFrame | None:
        path = self.root / "data" / dataset / name
        return read_table(path, columns) if path.is_file() else None

    def values(self, records: Sequence[Record], metric: str, like: Record | None = None) -> NDArray[np.float64]:
        """Per-user values of some cells, in the order of another cell's users, by default the first one's: [S, U].

        Raises:
            StoreError: The cells were measured on different users, or a file lacks the metric.
        """
        return np.array([_values(r, metric, like or records[0]) for r in records])

    def difference(self, a: Sequence[Record], b: Sequence[Record], metric: str) -> NDArray[np.float64]:
        """Per-user values of A minus those of B on their common seeds, [S, U]; S may be 0.

        Raises:
            StoreError: The two were measured on different users.
        """
        left, right = {r.seed: r for r in a}, {r.seed: r for r in b}
        seeds = sorted(left.keys() & right.keys())
        if not seeds:
            return np.zeros((0, 0))
        one, two = ([side[s] for s in seeds] for side in (left, right))
        return self.values(one, metric) - self.values(two, metric, one[0])


def load(folder: Path | str) -> Results:
    """Read a results folder.

    Raises:
        StoreError: It is not a results folder, one of its files is broken, or its records cannot be compared.
    """
    root = Path(folder)
    if not (root / "suite.json").is_file():
        reason = "it has no suite.json" if root.is_dir() else "there is no such folder"
        raise StoreError(f"{root} is not a results folder: {reason}; give the folder that 'rlrecbench run' wrote")
    suite = read_json(root / "suite.json")
    shapes.check(shapes.suite_file, suite, root / "suite.json", "run the suite again to rewrite it")
    records = [_record(path) for path in sorted(root.glob("cells/*/*/*/seed-*/metrics.json"))]
    failed = root / "failures.json"
    lines = read_json(failed, list) if failed.is_file() else []
    shapes.check(shapes.failures_file, lines, failed, "remove the file and run the suite again")
    return Results(root, suite, records, {line["cell"]: line["reason"] for line in lines})


def _record(path: Path) -> Record:
    data = read_json(path)
    if data.get("schema") != SCHEMA:
        raise StoreError(f"{path}: schema {data.get('schema')!r}, but this version reads {SCHEMA}; run the suite again")
    shapes.check(shapes.record_file, data, path, "remove the cell's folder and run the suite again")
    metrics, provenance = data["metrics"], data["provenance"]
    seed = path.parent.name.removeprefix("seed-")
    if not seed.isdecimal():
        raise StoreError(f"{path}: the folder's name must be seed-<number>; rename or remove it")
    dataset, backbone, method = path.parts[-5:-2]
    audit, cost = data.get("audit", {}), data.get("cost", {})
    values = {name: np.nan if value is None else float(value) for name, value in metrics.items()}
    return Record(dataset, backbone, method, int(seed), values, audit, cost, provenance, path.parent)


def _check_protocol(root: Path, records: list[Record]) -> None:
    """Refuse records of one data set whose fingerprints differ, and say in what."""
    other = next((r for r in records if r.fingerprint != records[0].fingerprint), None)
    if other is None:
        return
    first = records[0]
    raise StoreError(
        f"{root}: {first.name} and {other.name} were measured under different protocols and cannot stand in "
        f"one table: {unlike(first, other)}; run the suite again, or use two folders"
    )


def unlike(a: Record, b: Record) -> str:
    """Say in which settings the protocols of two records differ."""
    one, two = (_flat(r.provenance.get("protocol", {})) for r in (a, b))
    different = [k for k in sorted(one.keys() | two.keys()) if one.get(k) != two.get(k)]
    what = ", ".join(f"{k} is {json.dumps(one.get(k))} and {json.dumps(two.get(k))}" for k in different)
    return f"{what or 'the fingerprints differ'}, in this order"


def _flat(protocol: Json, prefix: str = "") -> Json:
    """Nested settings as dotted keys."""
    out: Json = {}
    for key, value in protocol.items():
        out |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out


def _order(declared: Sequence[str], found: set[str]) -> list[str]:
    """Put the declared names first, then the others alphabetically."""
    return [*declared, *sorted(found - set(declared))]


def _users(record: Record) -> pd.DataFrame:
    """A cell's per-user table, shared."""
    return read_table(record.path / "users.parquet")


def _values(record: Record, metric: str, like: Record) -> NDArray[np.float64]:
    """Per-user values in the order of another record's users, [U]."""
    own = _users(record)
    if metric not in own:
        raise StoreError(f"{record.path / 'users.parquet'} has no column {metric!r}; run the suite again")
    values, order = own[metric].to_numpy(np.float64), _order_of(record, like)
    return values if order is None else np.asarray(values[order])


def _order_of(record: Record, like: Record) -> Ints | None:
    """Rows of a record in the order of another record's users, [U]; None where that is its own."""
    ids, wanted = (pd.Index(_users(r)["user_id"]) for r in (record, like))
    if ids.equals(wanted):
        return None
    if not ids.is_unique or len(ids) != len(wanted) or not ids.isin(wanted).all():
        raise StoreError(_strangers(record, like, ids, wanted))
    return np.asarray(ids.get_indexer(wanted), np.int64)


def _strangers(a: Record, b: Record, ids: "pd.Index[Any]", others: "pd.Index[Any]") -> str:
    """Say which users stand in the way of pairing two cells."""
    for record, own in ((a, ids), (b, others)):
        if not own.is_unique:
            return (
                f"{record.path / 'users.parquet'} names a user twice; remove the cell's folder and run the suite again"
            )
    more = []
    for record, own, other in ((a, ids, others), (b, others, ids)):
        alone = own[~own.isin(other)]
        if len(alone):
            shown = ", ".join(map(str, alone[:3])) + (", ..." if len(alone) > 3 else "")
            more.append(f"{len(alone)} of {len(own)} only in {record.name} ({shown})")
    return (
        f"{a.path} and {b.path} were measured on different users and cannot be paired: {'; '.join(more)}; "
        "run the suite again with the same --limit-users"
    )
