"""Content-addressed results: a stage's identity is the hash of what it is made from.

``store/<stage>/<key>/`` exists when the stage is done: everything is written into a work folder beside it
and published by one rename, so a kill at any moment leaves either nothing or everything. The work folder
survives the kill, and a stage that keeps checkpoints there resumes from them.

``stage.json`` holds the sha256 of every file. What no longer has it is damaged: it counts as not computed, and whoever
computes it again first renames it to ``<key>.broken-<n>``. Files that are not listed there are left alone.
"""

import contextlib
import errno
import json
import os
import re
import shutil
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from functools import cached_property
from hashlib import file_digest
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from filelock import FileLock, Timeout

from rlrecbench.config import canonical, digest, plain
from rlrecbench.errors import BenchError, StoreError
from rlrecbench.origin import origin

UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
_WAIT_S = 1.0
_SHA256: dict[tuple[int, int, int, int], str] = {}  # by device, inode, size and date
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
        self._told: set[str] = set()

    def path(self, stage: Stage) -> Path:
        """Where the stage's result is, or will be."""
        return self.root / stage.name / stage.key[:32]

    def has(self, stage: Stage) -> bool:
        """Tell whether the stage is done, without looking at its files."""
        return (self.path(stage) / "stage.json").is_file()

    def intact(self, stage: Stage) -> bool:
        """Tell whether the stage is done and its files are what was published; what is damaged is said on stderr.

        Raises:
            StoreError: A file may not be read.
        """
        folder = self.path(stage)
        if not os.path.lexists(folder):
            return False
        found = damage(folder, stage.key)
        if found is not None and found not in self._told:
            self._told.add(found)
            print(f"{found}; {stage.label} counts as not computed", file=sys.stderr, flush=True)
        return found is None

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
    def lock(self, stage: Stage, report: Report = silent) -> Iterator[None]:
        """Hold the stage's lock across processes, waiting for whoever computes it now.

        Args:
            stage: What is to be computed.
            report: Is told every second of waiting, with a total of 0; what it raises ends the wait.

        Raises:
            StoreError: The folder cannot be written.
        """
        path = self.path(stage).with_suffix(".lock")
        lock = FileLock(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            while True:
                try:
                    lock.acquire(timeout=_WAIT_S)
                    break
                except Timeout:
                    report(0.0, 0.0, "another run computes it")
        except OSError as e:
            raise unwritable(path, e) from e
        try:
            yield
        finally:
            lock.release()

    def ensure(self, stage: Stage, report: Report = silent, *, again: bool = False) -> bool:
        """Compute and publish a stage unless it is done and intact; its parents must be.

        Args:
            stage: What to compute.
            report: Receives progress.
            again: Compute even if it is done.

        Returns:
            Whether anything was computed here.

        Raises:
            StoreError: The store cannot be written.
        """
        if not again and self.intact(stage):
            return False
        with self.lock(stage, report):
            intact = self.intact(stage)
            if intact and not again:
                return False
            work, final = self.work(stage), self.path(stage)
            trash = final.with_suffix(f".old-{os.getpid()}")
            try:
                if not intact and os.path.lexists(final):
                    _set_aside(final)
                if work.exists() and not stage.resumable:
                    shutil.rmtree(work)
                work.mkdir(parents=True, exist_ok=True)
                if damage(work, stage.key):  # else killed while being published: only that is left to do
                    (work / "stage.json").unlink(missing_ok=True)
                    self._compute(stage, work, report)
                for path in _scratch(stage, work):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                if final.exists():
                    final.rename(trash)
                work.rename(final)
                _flush([final.parent])
                shutil.rmtree(trash, ignore_errors=True)
                self.heartbeat(stage).unlink(missing_ok=True)
            except BenchError:
                raise
            except Exception as e:
                if (number := _errno(e)) in UNWRITABLE and self._may_hold(e):
                    raise unwritable(self.root, OSError(number, os.strerror(number))) from e
                raise
        return True

    def _may_hold(self, e: Exception) -> bool:
        """Tell whether an error may be about this folder: some say no path, and a model or a data file has its own."""
        path = getattr(e, "filename", None)
        return path is None or Path(os.fsdecode(path)).resolve().is_relative_to(self.root)

    def _compute(self, stage: Stage, work: Path, report: Report) -> None:
        start = time.perf_counter()
        stage.run(work, self, report)
        gone = _scratch(stage, work)
        kept = [p for p in sorted(work.rglob("*")) if p.is_file() and not any(p.is_relative_to(g) for g in gone)]
        record = {
            **stage.identity,
            "origin": origin(getattr(stage, "device", "cpu")),
            "wall_s": round(time.perf_counter() - start, 3),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "files": {str(p.relative_to(work)): sha256_of(p) for p in kept},
        }
        _flush([*kept, *{p.parent for p in kept}])
        write_atomic(work / "stage.json", json.dumps(record, indent=1, sort_keys=True))
        _flush([work])

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


def _errno(e: Exception) -> int:
    """Number of the system's error behind an exception; 0 if there is none.

    safetensors has it in its text alone, and numpy tells only how much was written.
    """
    if isinstance(e, OSError) and e.errno is not None:
        return e.errno
    if re.fullmatch(r"\d+ requested and \d+ written", str(e)):
        return errno.ENOSPC
    found = re.search(r"\(os error (\d+)\)", str(e))
    return int(found[1]) if found else 0


def write_atomic(path: Path, text: str) -> None:
    """Write a text file through a temporary name: readers, and a disk after a power cut, have the old or the new one.

    Raises:
        StoreError: The folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.encode())
    except OSError as e:
        raise unwritable(path, e) from e


def write_whole(path: Path, content: bytes) -> None:
    """Write a file as :func:`write_atomic` does, and leave it to the caller to say what a failure means.

    Raises:
        OSError: The file cannot be written; the old one is as it was, and nothing temporary is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        _flush([temporary])
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


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


def damage(folder: Path, key: str) -> str | None:
    """Say what is wrong with a published folder: the file, what was expected and what was found; None if nothing is.

    Raises:
        StoreError: A file may not be read.
    """
    path = folder / "stage.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        identity = {name: record[name] for name in ("stage", "version", "fields")}
        files = {str(name): str(sha) for name, sha in record["files"].items()}
        _ = float(record["wall_s"]), str(record["date"])
    except PermissionError as e:
        raise _unreadable(path, e) from e
    except OSError as e:
        return f"{path}: damaged, expected the record of a stage, found: {e.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{path}: damaged, expected the record of a stage, found something else"
    if (found := digest(identity)) != key:
        return f"{path}: damaged, expected the record of stage {key[:16]}, found that of {found[:16]}"
    return damaged(folder, files)


def damaged(folder: Path, files: dict[str, str]) -> str | None:
    """Say which file of a folder is missing or is not what it was; None if there is no such file.

    Args:
        folder: Where the files are.
        files: sha256 by name.

    Raises:
        StoreError: A file may not be read.
    """
    for name, expected in files.items():
        path = folder / name
        try:
            found = sha256_of(path)
        except PermissionError as e:
            raise _unreadable(path, e) from e
        except OSError as e:
            return f"{path}: damaged, expected sha256 {expected[:16]}, found: {e.strerror}"
        if found != expected:
            size = path.stat().st_size
            return f"{path}: damaged, expected sha256 {expected[:16]}, found {found[:16]} ({size} bytes)"
    return None


def sha256_of(path: Path) -> str:
    """The sha256 of a file; one that keeps its size and date is read once in a process, renamed or not."""
    about = path.stat()
    same = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)
    if same not in _SHA256:
        with path.open("rb") as f:
            _SHA256[same] = file_digest(f, "sha256").hexdigest()
    return _SHA256[same]


def _unreadable(path: Path, e: OSError) -> StoreError:
    return StoreError(
        f"{path} cannot be read: {e.strerror}; make it readable or give another folder (RLRECBENCH_STORE)"
    )


def _set_aside(folder: Path) -> None:
    """Rename a damaged folder to ``<name>.broken-<n>``, and keep no older one."""
    made = {p: p.name.rpartition("-")[2] for p in folder.parent.glob(f"{folder.name}.broken-*")}
    older = {p: int(n) for p, n in made.items() if n.isdigit()}
    kept = folder.with_suffix(f".broken-{max(older.values(), default=0) + 1}")
    folder.rename(kept)
    print(f"{folder} is computed again; the damaged one is kept as {kept.name}", file=sys.stderr, flush=True)
    for path in older:
        shutil.rmtree(path, ignore_errors=True)


def _scratch(stage: Stage, work: Path) -> list[Path]:
    return [p for pattern in stage.scratch for p in work.glob(pattern)]


def _flush(paths: Sequence[Path]) -> None:
    """Bring files, and the names in folders, to the disk before what depends on them."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as e:
            if e.errno not in (errno.EINVAL, errno.ENOTSUP):  # what some file systems say of folders
                raise
        finally:
            os.close(handle)
