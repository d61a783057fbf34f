"""From published stages to the record of a cell: what was measured, what it cost, and where it comes from.

The record's provenance holds the sha256 of the files beside it and its own, so that a damaged one is exported again.
"""

import json
import shutil
import sys
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from filelock import FileLock

from rlrecbench.config import digest
from rlrecbench.errors import StoreError
from rlrecbench.execute.estimate import train_flops
from rlrecbench.origin import origin
from rlrecbench.stages import Train, read_cost
from rlrecbench.store import Stage, Store, closure, damaged, sha256_of, unwritable, write_atomic
from rlrecbench.suite import Cell

Json = dict[str, Any]
SCHEMA = 1
_RECORD, _DAMAGED = "metrics.json", "metrics.json.damaged"


def export(cell: Cell, results: Path, store: Store, *, again: bool = False) -> None:
    """Write a cell's record; the last file written is ``metrics.json``, so a record without it is not there.

    Args:
        cell: Which; its stages are published.
        results: The results folder.
        store: Where the stages are.
        again: Write it even if it is there.

    Raises:
        StoreError: The results folder cannot be written.
    """
    folder, scored = cell.folder(results), store.path(cell.score)
    files = {name: scored / name for name in ("users.parquet", "ranked.parquet")}
    if (scored / "titles.parquet").exists():
        files["titles.parquet"] = scored / "titles.parquet"
    if cell.score.rank.train is not None:
        files["train.jsonl"] = store.path(cell.score.rank.train) / "train.jsonl"
    try:
        with FileLock(results / ".lock"):
            if not again and is_exported(cell, results):  # by another run, which may be reading it
                return
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _RECORD).unlink(missing_ok=True)
            for name, source in files.items():
                shutil.copyfile(source, folder / f".{name}")
                (folder / f".{name}").replace(folder / name)
            _write_record(cell, folder, {name: sha256_of(source) for name, source in files.items()}, store)
            (folder / _DAMAGED).unlink(missing_ok=True)
            shutil.rmtree(_aside(cell, results), ignore_errors=True)
    except OSError as e:
        raise unwritable(folder, e) from e


def _write_record(cell: Cell, folder: Path, files: dict[str, str], store: Store) -> None:
    found = json.loads((store.path(cell.score) / "metrics.json").read_text())
    provenance = {**_provenance(cell, store), "files": files}
    record = {"schema": SCHEMA, **found, "cost": _cost(cell, store), "provenance": provenance}
    files[_RECORD] = _sha256_of_record(json.loads(json.dumps(record)))
    write_atomic(folder / _RECORD, json.dumps(record, indent=1) + "\n")


def _sha256_of_record(record: Json) -> str:
    """The sha256 of a record, less the place where it stands in it."""
    provenance = record["provenance"]
    files = {name: sha for name, sha in provenance["files"].items() if name != _RECORD}
    text = json.dumps({**record, "provenance": {**provenance, "files": files}}, sort_keys=True)
    return sha256(text.encode()).hexdigest()


def export_computed(cells: list[Cell], results: Path, store: Store) -> None:
    """Export the cells that are not, where all that their record is made from is there and intact.

    Raises:
        StoreError: The results folder cannot be written.
    """
    for cell in cells:
        if not is_exported(cell, results) and all(store.intact(s) for s in closure([cell.score])):
            export(cell, results, store)


def is_exported(cell: Cell, results: Path) -> bool:
    """Tell whether the record on disk is this cell's, complete and as it was written."""
    return _is_record_of(cell, cell.folder(results))


def _is_record_of(cell: Cell, folder: Path) -> bool:
    try:
        return _key(folder) == cell.score.key and _damage(folder) is None
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _key(folder: Path) -> str:
    """The score stage that a record was made from."""
    return str(json.loads((folder / _RECORD).read_text())["provenance"]["key"])


def _damage(folder: Path) -> str | None:
    """Say what is wrong with a record; None if nothing is, or if it was made before records had hashes."""
    path = folder / _RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        provenance = record["provenance"]
        if provenance["key"] and "files" not in provenance:
            return None
        files = dict(provenance["files"])
        expected, found = files.pop(_RECORD), _sha256_of_record(record)
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{path}: damaged, expected a cell's record"
    if found != expected:
        return f"{path}: damaged, expected sha256 {expected[:16]}, found {found[:16]}"
    return damaged(folder, files)


def set_stale_aside(cells: list[Cell], results: Path) -> None:
    """Move records that were made with other settings out of the way, and put back those that are wanted again.

    A record that was moved is removed when another takes its place, see :func:`export`. Of a damaged record nothing is
    moved, but it is said so, and ``metrics.json`` gets another name, so that the cell counts as not done.
    """
    with FileLock(results / ".lock"):
        for cell in cells:
            folder, aside = cell.folder(results), _aside(cell, results)
            if (folder / _RECORD).exists():
                if (found := _damage(folder)) is not None:
                    print(f"{found}; {cell.name} is exported again", file=sys.stderr, flush=True)
                    (folder / _RECORD).replace(folder / _DAMAGED)
                elif _key(folder) != cell.score.key and not _is_record_of(cell, aside):
                    shutil.rmtree(aside, ignore_errors=True)
                    folder.replace(aside)
            if _is_record_of(cell, aside) and not _is_record_of(cell, folder):
                shutil.rmtree(folder, ignore_errors=True)
                aside.replace(folder)


def _aside(cell: Cell, results: Path) -> Path:
    """Where a cell's record waits until another replaces it."""
    folder = cell.folder(results)
    return folder.with_name(f".{folder.name}")


def protocol(cell: Cell) -> Json:
    """What must be equal for two records to stand in one table."""
    rank = cell.score.rank
    return {
        "dataset": cell.dataset,
        "checksum": rank.data.checksum,
        "options": rank.data.options,
        "candidates": "the whole catalogue",
        "credit": "item",
        "beams": rank.beams,
        "k": rank.k,
        "limit_users": rank.limit_users,
        "definitions": cell.score.definitions,
    }


def _cost(cell: Cell, store: Store) -> Json:
    rank = cell.score.rank
    cost = read_cost(store.path(rank))
    if rank.train is not None:
        cost |= read_cost(store.path(rank.train))
        cost["train_flops"] = train_flops(rank.train, cost["steps"])
        cost["start_train_s"] = sum(
            read_cost(store.path(s))["train_s"]
            for s in closure([rank.train])
            if isinstance(s, Train) and s is not rank.train
        )
    elif rank.collab is not None:
        cost |= read_cost(store.path(rank.collab))
    return cost


def _provenance(cell: Cell, store: Store) -> Json:
    rank = cell.score.rank
    records = {s.key: store.record(s) for s in closure([cell.score])}
    maker = records[(rank.train or rank.collab or rank).key]  # the stage that made what the record judges
    about = protocol(cell)
    return {
        "key": cell.score.key,
        "fingerprint": digest(about),
        "protocol": about,
        "method": rank.method,
        "label": cell.method,
        "settings": rank.settings,
        "budget": rank.train.budget if rank.train is not None else None,
        "backbone": rank.train.backbone_settings if rank.train is not None else None,
        "identifiers": rank.train.ids.settings if rank.train is not None else None,
        "seed": cell.seed,
        "code": rank.code,
        "stages": {
            f"{r['stage']}/{key[:32]}": {"wall_s": r["wall_s"], "date": r["date"]} for key, r in records.items()
        },
        **maker.get("origin", origin(rank.device)),  # absent in stages of before it was kept
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def claim(results: Path, name: str, suite: Json, plan: Json) -> None:
    """Write ``suite.json`` and ``plan.json`` into a results folder.

    Raises:
        StoreError: The folder holds another suite's results, or something else, or cannot be written.
    """
    path = results / "suite.json"
    names = [p.name for p in results.iterdir()] if results.is_dir() else []  # before path is looked for
    ours = ("store", ".gitkeep", ".lock", "README.md")
    foreign = [n for n in names if n not in ours and not n.startswith(f".{path.name}.")]
    if not path.exists() and (foreign or results.is_file()):
        raise StoreError(f"{results} is not a results folder and is not empty; give another folder with --results DIR")
    _refuse_another(path, name)
    try:
        results.mkdir(parents=True, exist_ok=True)
        with FileLock(results / ".lock"):
            _refuse_another(path, name)  # begun at the same moment
            write_atomic(path, json.dumps(suite, indent=1) + "\n")
            write_atomic(results / "plan.json", json.dumps(plan, indent=1) + "\n")
    except OSError as e:
        raise unwritable(results, e) from e


def _refuse_another(path: Path, name: str) -> None:
    """Refuse a folder whose ``suite.json`` is another suite's.

    Raises:
        StoreError: It is, or it cannot be read.
    """
    if not path.exists():
        return
    try:
        other = json.loads(path.read_text())["name"]
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise StoreError(f"{path} is broken; remove it or give another folder with --results DIR") from e
    if other != name:
        raise StoreError(
            f"{path.parent} holds the results of suite {other!r}, not {name!r}; give another folder with --results DIR"
        )


def plan_json(cells: list[Cell], store: Store) -> Json:
    """What ``status`` needs to know of each cell, without rebuilding stages."""

    def row(stage: Stage) -> Json:
        return {
            "label": stage.label,
            "stage": stage.name,
            "path": str(store.path(stage).relative_to(store.root)),
        }

    return {
        "store": str(store.root),
        "cells": [
            {
                "cell": [c.dataset, c.backbone, c.method, c.seed],
                "key": c.score.key,
                "stages": [row(s) for s in closure([c.score])],
            }
            for c in cells
        ],
    }
