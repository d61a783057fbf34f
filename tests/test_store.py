"""Stages: identity, publication by one rename, locks, rebuilding from JSON."""

import errno
import multiprocessing
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from rlrecbench.errors import StoreError
from rlrecbench.store import Report, Stage, Store, closure, from_json, stage, to_json, write_atomic


@stage
@dataclass(frozen=True)
class Number(Stage):
    """Write a number; pause first."""

    name: ClassVar[str] = "test-number"
    free: ClassVar[frozenset[str]] = frozenset({"pause"})

    value: int
    pause: float = 0.0

    def run(self, folder: Path, store: Store, report: Report) -> None:
        """Append to a log of calls beside the store, then write."""
        with (store.root.parent / "calls").open("a") as f:
            f.write("x")
        (folder / "half").write_text("")
        time.sleep(self.pause)
        (folder / "value").write_text(str(self.value))


@stage
@dataclass(frozen=True)
class Sum(Stage):
    """Add two numbers, or fail."""

    name: ClassVar[str] = "test-sum"

    left: Number
    right: Number
    names: tuple[str, ...] = ()
    fail: bool = False

    def run(self, folder: Path, store: Store, report: Report) -> None:
        """Read the parents and add."""
        (folder / "begun").write_text("")
        if self.fail:
            raise ValueError("no")
        total = sum(int((store.path(p) / "value").read_text()) for p in (self.left, self.right))
        (folder / "value").write_text(str(total))


def _ensure(root: str, value: int, pause: float) -> None:
    Store(Path(root)).ensure(Number(value, pause))


def test_parents_come_first_and_shared_ones_once() -> None:
    one, two = Number(1), Number(2)
    first, second = Sum(one, two), Sum(one, one)
    assert closure([first, second]) == [one, two, first, second]


def test_identity() -> None:
    assert Number(1).key == Number(1, pause=9).key  # free fields do not count
    assert Number(1).key != Number(2).key
    assert Sum(Number(1), Number(2)).key != Sum(Number(2), Number(1)).key
    bumped = type("Number", (Number,), {"version": 2})
    assert bumped(1).key != Number(1).key


def test_json_round_trip_keeps_identity_and_sharing() -> None:
    shared = Number(5, pause=0.5)
    again = from_json(to_json(Sum(shared, shared, ("a", "b"))))
    assert isinstance(again, Sum)
    assert again.key == Sum(shared, shared, ("a", "b")).key
    assert again.left is again.right
    assert again.left.pause == 0.5
    assert again.names == ("a", "b")


def test_published_once_and_recorded(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    both = Sum(Number(2), Number(40))
    for s in closure([both]):
        assert store.ensure(s) is True
        assert store.ensure(s) is False
    assert (store.path(both) / "value").read_text() == "42"
    assert store.record(both)["fields"]["left"] == {"key": Number(2).key}
    assert set(store.record(both)["files"]) == {"begun", "value"}
    assert store.ensure(both, again=True) is True


def test_a_failure_publishes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    bad = Sum(Number(1), Number(2), fail=True)
    for parent in bad.parents:
        store.ensure(parent)
    with pytest.raises(ValueError, match="no"):
        store.ensure(bad)
    assert not store.has(bad)
    assert not store.path(bad).exists()


def test_a_killed_computation_leaves_nothing_published(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    process = multiprocessing.get_context("spawn").Process(target=_ensure, args=(str(store.root), 7, 60.0))
    process.start()
    half = store.work(Number(7)) / "half"
    until = time.monotonic() + 30
    while not half.exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert half.exists()
    process.kill()
    process.join()
    assert not store.has(Number(7))
    assert store.ensure(Number(7)) is True  # the lock of the dead process is free, its leftovers are gone
    assert (store.path(Number(7)) / "value").read_text() == "7"


def test_two_processes_compute_a_stage_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_ensure, args=(str(store.root), 3, 1.0)) for _ in range(2)]
    for p in processes:
        p.start()
    for p in processes:
        p.join()
    assert [p.exitcode for p in processes] == [0, 0]
    assert (tmp_path / "calls").read_text() == "x"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        Store(blocker / "store").ensure(Number(1))
    with pytest.raises(StoreError, match="cannot be written"):
        write_atomic(blocker / "x.json", "{}")
    if os.geteuid() != 0:  # root writes everywhere
        tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
        with pytest.raises(StoreError, match="cannot be written"):
            Store(tmp_path / "store").ensure(Number(1))


@stage
@dataclass(frozen=True)
class Offline(Stage):
    """Fail as a library does that cannot reach its hub: an OSError without a file."""

    name: ClassVar[str] = "test-offline"

    def run(self, folder: Path, store: Store, report: Report) -> None:
        """Fail."""
        raise OSError("cannot load the tokenizer")


def test_a_librarys_error_is_not_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"^cannot load the tokenizer$"):
        Store(tmp_path / "store").ensure(Offline())


@stage
@dataclass(frozen=True)
class Elsewhere(Stage):
    """Fail at a file of the user's that may not be read, or at one of the stage's own."""

    name: ClassVar[str] = "test-elsewhere"
    inside: bool = False

    def run(self, folder: Path, store: Store, report: Report) -> None:
        """Fail."""
        raise PermissionError(errno.EACCES, "Permission denied", str(folder / "x" if self.inside else "/models/qwen"))


def test_a_file_elsewhere_that_may_not_be_read_is_not_the_stores_fault(tmp_path: Path) -> None:
    with pytest.raises(PermissionError, match="/models/qwen"):
        Store(tmp_path / "store").ensure(Elsewhere())
    with pytest.raises(StoreError, match="store cannot be written: Permission denied"):
        Store(tmp_path / "store").ensure(Elsewhere(inside=True))


def test_a_stage_says_what_computed_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.ensure(Number(1))
    found = store.record(Number(1))["origin"]
    assert found["device"].startswith("cpu (")
    assert found["versions"]["torch"] in (torch.__version__, torch.__version__.partition("+")[0])
    assert set(found) == {"device", "commit", "versions"}
