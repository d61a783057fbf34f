"""From published stages to the record of a cell: what was measured, what it cost, and where it comes from."""

import json
import shutil
import subprocess
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock

from rlrecbench.config import digest
from rlrecbench.device import device_of
from rlrecbench.errors import StoreError
from rlrecbench.execute.estimate import train_flops
from rlrecbench.stages import Train, read_cost
from rlrecbench.store import Stage, Store, closure, unwritable, write_atomic
from rlrecbench.suite import Cell

Json = dict[str, Any]
SCHEMA = 1
_PACKAGES = (
    "rlrecbench",
    "torch",
    "transformers",
    "recbole",
    "accelerate",
    "numpy",
    "pandas",
    "scikit-learn",
)


def export(cell: Cell, results: Path, store: Store) -> None:
    """Write a cell's record; the last file written is ``metrics.json``, so a record without it is not there.

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
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "metrics.json").unlink(missing_ok=True)
            for name, source in files.items():
                shutil.copyfile(source, folder / f".{name}")
                (folder / f".{name}").replace(folder / name)
            _write_record(cell, folder, scored, store)
    except OSError as e:
        raise unwritable(folder, e) from e


def _write_record(cell: Cell, folder: Path, scored: Path, store: Store) -> None:
    found = json.loads((scored / "metrics.json").read_text())
    record = {"schema": SCHEMA, **found, "cost": _cost(cell, store), "provenance": _provenance(cell, store)}
    write_atomic(folder / "metrics.json", json.dumps(record, indent=1) + "\n")


def is_exported(cell: Cell, results: Path) -> bool:
    """Tell whether the record on disk is this cell's and complete."""
    try:
        record = json.loads((cell.folder(results) / "metrics.json").read_text())
        return bool(record["provenance"]["key"] == cell.score.key)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def drop_stale(cells: list[Cell], results: Path) -> None:
    """Remove records that were made with other settings; the store still has what they were made from."""
    with FileLock(results / ".lock"):
        for cell in cells:
            if (cell.folder(results) / "metrics.json").exists() and not is_exported(cell, results):
                shutil.rmtree(cell.folder(results))


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
        "versions": versions(),
        "commit": commit(),
        "device": machine(rank.device),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@lru_cache
def versions() -> dict[str, str]:
    """Versions of the packages that matter."""
    import platform

    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@lru_cache
def commit() -> str | None:
    """The git commit of the package's source, with "+changes" if it was edited; None outside a checkout."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        head = _git(folder, "rev-parse", "HEAD").strip()
        return head + ("+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no").strip() else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(  # noqa: S603 - fixed words, no shell
        ["git", "-C", str(folder), *arguments],  # noqa: S607 - git is found on the PATH like everywhere
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    ).stdout


def machine(device: str) -> str:
    """What the numbers were computed on."""
    import platform

    import torch

    if device_of(device).type == "cuda":
        return str(torch.cuda.get_device_name())
    return f"cpu ({platform.machine()})"


def claim(results: Path, name: str, suite: Json, plan: Json) -> None:
    """Write ``suite.json`` and ``plan.json`` into a results folder.

    Raises:
        StoreError: The folder holds another suite's results, or something else.
    """
    path = results / "suite.json"
    if path.exists():
        try:
            other = json.loads(path.read_text())["name"]
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise StoreError(f"{path} is broken; remove it or give another folder with --results DIR") from e
        if other != name:
            raise StoreError(
                f"{results} holds the results of suite {other!r}, not {name!r}; give another folder with --results DIR"
            )
    elif results.is_file() or (
        results.is_dir() and any(p.name not in ("store", ".gitkeep", ".lock", "README.md") for p in results.iterdir())
    ):
        raise StoreError(f"{results} is not a results folder and is not empty; give another folder with --results DIR")
    write_atomic(path, json.dumps(suite, indent=1) + "\n")
    write_atomic(results / "plan.json", json.dumps(plan, indent=1) + "\n")


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
