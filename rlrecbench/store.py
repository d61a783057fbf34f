"""Content-addressed results: a stage's identity is the hash of what it is made from.

``store/<stage>/<key>/`` exists when the stage is done: everything is written into a work folder beside it
and published by one rename, so a kill at any moment leaves either nothing or everything. The work folder
survives the kill, and a stage that keeps checkpoints there resumes from them.
"""

import contextlib
import errno
import json
import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from functools import cached_property
from hashlib import file_digest
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from filelock import FileLock

from rlrecbench.config import canonical, digest, plain
from rlrecbench.errors import StoreError

UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
Report = Callable[[float, float, str], None]  # done, total, note


def silent(done: float, total: float, note: str) -> None:
    """Report progress to nobody."""


class Stage(ABC):
    """One computation. Subclasses are frozen dataclasses whose fields are JSON values or other stages.

    ``version`` is bumped when a fix changes results; fields named in ``free`` do not change the identity.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    resumable: ClassVar[bool] = False  # keeps its work folder from one try to the next
    scratch: ClassVar[tuple[str, ...]] = ()  # patterns of what a resumable stage needs only until it is published
    free: ClassVar[frozenset[str]] = frozenset()  # fields that change how, not what
    young: ClassVar[frozenset[str]] = frozenset()  # fields that came later; no part of the identity at their default

    @abstractmethod
    def run(self, folder: Path, store: "Store", report: Report) -> None:
        """Compute and write the result into ``folder``; parents are read from ``store``."""

    @cached_property
    def parents(self) -> tuple["Stage", ...]:
        """The stages this one reads, in field order."""
        return tuple(v for f in fields(self) if isinstance(v := getattr(self, f.name), Stage))  # type: ignore[arg-type]

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What the key is the hash of."""
        own: dict[str, Any] = {}
        for f in fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            young = f.name in self.young and value == f.default
            if f.name not in self.free and not young:
                own[f.name] = {"key": value.key} if isinstance(value, Stage) else plain(value)
        return {"stage": self.name, "version": self.version, "fields": own}

    @cached_property
    def key(self) -> str:
        """The stage's identity: 64 hexadecimal digits."""
        return digest(self.identity)

    @property
    def label(self) -> str:
        """What progress shows."""
        return self.name


def closure(stages: Sequence[Stage]) -> list[Stage]:
    """Return the stages and all they need, each once, parents before children."""
    order: dict[str, Stage] = {}

    def add(stage: Stage) -> None:
        if stage.key not in order:
            for parent in stage.parents:
                add(parent)
            order[stage.key] = stage

    for stage in stages:
        add(stage)
    return list(order.values())


class Store:
    """A folder of published stages, shared by all suites and safe to delete.

    Args:
        root: The folder; made when the first stage is published.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def path(self, stage: Stage) -> Path:
        """Where the stage's result is, or will be."""
        return self.root / stage.name / stage.key[:32]

    def has(self, stage: Stage) -> bool:
        """Tell whether the stage is done."""
        return (self.path(stage) / "stage.json").is_file()

    def work(self, stage: Stage) -> Path:
        """The folder in which the stage is computed before it is published."""
        return self.path(stage).with_suffix(".work")

    def log(self, stage: Stage) -> Path:
        """The stage's log file."""
        return self.path(stage).with_suffix(".log")

    def heartbeat(self, stage: Stage) -> Path:
        """The file that a running stage keeps up to date."""
        return self.path(stage).with_suffix(".beat")

    @contextlib.contextmanager
    def lock(self, stage: Stage) -> Iterator[None]:
        """Hold the stage's lock across processes, waiting for whoever computes it now.

        Raises:
            StoreError: The folder cannot be written.
        """
        path = self.path(stage).with_suffix(".lock")
        lock = FileLock(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except OSError as e:
            raise unwritable(path, e) from e
        try:
            yield
        finally:
            lock.release()

    def ensure(self, stage: Stage, report: Report = silent, *, again: bool = False) -> bool:
        """Compute and publish a stage unless it is done; its parents must be.

        Args:
            stage: What to compute.
            report: Receives progress.
            again: Compute even if it is done.

        Returns:
            Whether anything was computed here.

        Raises:
            StoreError: The store cannot be written.
        """
        if self.has(stage) and not again:
            return False
        with self.lock(stage):
            if self.has(stage) and not again:
                return False
            work, final = self.work(stage), self.path(stage)
            trash = final.with_suffix(f".old-{os.getpid()}")
            try:
                if work.exists() and not stage.resumable:
                    shutil.rmtree(work)
                work.mkdir(parents=True, exist_ok=True)
                if not (work / "stage.json").exists():  # else killed while being published: only that is left to do
                    self._compute(stage, work, report)
                for path in _scratch(stage, work):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                if final.exists():
                    final.rename(trash)
                work.rename(final)
                shutil.rmtree(trash, ignore_errors=True)
                self.heartbeat(stage).unlink(missing_ok=True)
            except OSError as e:
                if e.errno in UNWRITABLE:
                    raise unwritable(self.root, e) from e
                raise
        return True

    def _compute(self, stage: Stage, work: Path, report: Report) -> None:
        start = time.perf_counter()
        stage.run(work, self, report)
        gone = _scratch(stage, work)
        kept = [p for p in sorted(work.rglob("*")) if p.is_file() and not any(p.is_relative_to(g) for g in gone)]
        record = {
            **stage.identity,
            "wall_s": round(time.perf_counter() - start, 3),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "files": {str(p.relative_to(work)): _sha256(p) for p in kept},
        }
        _flush(kept)
        write_atomic(work / "stage.json", json.dumps(record, indent=1, sort_keys=True))

    def record(self, stage: Stage) -> dict[str, Any]:
        """Read a published stage's ``stage.json``."""
        record: dict[str, Any] = json.loads((self.path(stage) / "stage.json").read_text())
        return record


def unwritable(path: Path, e: OSError) -> StoreError:
    """Describe a failed write and what to do about it."""
    return StoreError(
        f"{path} cannot be written: {e.strerror or e}; free some space or give another folder "
        "(--results or --out DIR, RLRECBENCH_STORE)"
    )


def write_atomic(path: Path, text: str) -> None:
    """Write a text file through a temporary name, so that a reader sees the old or the new one.

    Raises:
        StoreError: The folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as e:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise unwritable(path, e) from e


S = TypeVar("S", bound=type[Stage])
_STAGES: dict[str, type[Stage]] = {}


def stage(cls: S) -> S:
    """Register a stage class, so that a worker can rebuild it from JSON."""
    _STAGES[cls.name] = cls
    return cls


def to_json(stage: Stage) -> str:
    """Write a stage and its parents as JSON; shared parents are written once."""
    nodes = closure([stage])
    index = {s.key: i for i, s in enumerate(nodes)}
    out = []
    for s in nodes:
        own = {}
        for f in fields(s):  # type: ignore[arg-type]
            value = getattr(s, f.name)
            own[f.name] = {"stage": index[value.key]} if isinstance(value, Stage) else {"value": plain(value)}
        out.append({"name": s.name, "fields": own})
    return canonical(out)


def from_json(text: str) -> Stage:
    """Rebuild what :func:`to_json` wrote."""
    nodes: list[Stage] = []
    for node in json.loads(text):
        own = {k: nodes[v["stage"]] if "stage" in v else _frozen(v["value"]) for k, v in node["fields"].items()}
        nodes.append(_STAGES[node["name"]](**own))
    return nodes[-1]


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value


def _sha256(path: Path) -> str:
    with path.open("rb") as f:
        return file_digest(f, "sha256").hexdigest()


def _scratch(stage: Stage, work: Path) -> list[Path]:
    return [p for pattern in stage.scratch for p in work.glob(pattern)]


def _flush(files: Sequence[Path]) -> None:
    """Bring files to the disk before the rename that publishes them."""
    for path in files:
        with path.open("rb") as f:
            os.fsync(f.fileno())
