"""The local executor: N worker processes, a stage on each as soon as its parents are published.

A stage that fails, or whose process dies, blocks its descendants and nothing else.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType, ModuleType
from typing import Literal

from rlrecbench.errors import StoreError
from rlrecbench.execute.progress import Display
from rlrecbench.execute.worker import Message, Order, main
from rlrecbench.store import Stage, Store, closure, to_json

_GRACE_S = 20.0
Policy = Literal["missing", "always", "never"]


@dataclass(frozen=True)
class Failure:
    """Why a stage is not there."""

    stage: Stage
    reason: str
    log: Path


@dataclass
class Report:
    """What an execution did."""

    computed: int = 0
    failures: dict[str, Failure] = field(default_factory=dict)  # by stage key, blocked descendants included
    seconds: float = 0.0


@dataclass
class _Slot:
    process: BaseProcess
    pipe: Connection
    stage: Stage | None = None


class Terminated(BaseException):
    """SIGTERM arrived; the state is saved."""


def default_workers() -> int:
    """One worker per core, eight at most; one per run where there is an accelerator to share."""
    import torch

    return 1 if torch.cuda.is_available() else max(1, min(8, cores()))


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def execute(
    stages: Sequence[Stage],
    store: Store,
    *,
    workers: int | None = None,
    plugins: Sequence[Path] = (),
    policy: Policy = "missing",
    stop_on_error: bool = False,
    quiet: bool = False,
    on_done: Callable[[Stage], None] = lambda stage: None,
) -> Report:
    """Compute the stages and all they need.

    Args:
        stages: What is wanted.
        store: Where results are published.
        workers: Processes; None: :func:`default_workers`.
        plugins: Files every worker imports.
        policy: "missing": compute what is not done; "always": compute all again; "never": nothing.
        stop_on_error: Begin no stage after one has failed.
        quiet: Show no progress.
        on_done: Called with every stage that has been published.

    Raises:
        KeyboardInterrupt: SIGINT; running stages have saved their state.
        Terminated: SIGTERM, likewise.
        StoreError: The store cannot be written.
    """
    todo = [s for s in closure(stages) if policy == "always" or not store.has(s)]
    report = Report()
    if not todo:
        return report
    if policy == "never":
        missing = Failure(todo[0], "not computed yet, and --policy never computes nothing", store.log(todo[0]))
        report.failures = {s.key: missing for s in todo}
        return report
    _writable(store)
    n = min(workers or default_workers(), len(todo))
    return _Run(todo, store, n, plugins, policy == "always", stop_on_error, quiet, report, on_done).run()


class _Run:
    def __init__(
        self,
        todo: list[Stage],
        store: Store,
        slots: int,
        plugins: Sequence[Path],
        again: bool,
        stop_on_error: bool,
        quiet: bool,
        report: Report,
        on_done: Callable[[Stage], None],
    ) -> None:
        self.store, self.again, self.stop_on_error, self.report = store, again, stop_on_error, report
        self.on_done = on_done
        self.plugins = tuple(str(p) for p in plugins)
        self.waiting = list(todo)
        self.open = {s.key for s in todo}  # not published in this run yet
        self.threads = max(1, cores() // slots)
        self.context = multiprocessing.get_context("spawn")
        self.slots: list[_Slot] = []
        self.wanted = slots
        self.display = Display(len(todo), slots, quiet=quiet)

    def run(self) -> Report:
        start = time.monotonic()
        before = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, _terminate)
        try:
            with self.display:
                self.slots = [self._spawn() for _ in range(self.wanted)]
                while self._assign() or any(s.stage for s in self.slots):
                    self._listen()
        except BaseException:
            self._stop(_GRACE_S)
            raise
        finally:
            signal.signal(signal.SIGTERM, before)
            self.report.seconds = time.monotonic() - start
        self._stop(0.0)
        return self.report

    def _spawn(self) -> _Slot:
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=main, args=(theirs, self.threads), daemon=True)
        with _no_main():
            process.start()
        theirs.close()
        return _Slot(process, ours)

    def _assign(self) -> bool:
        """Give every idle slot a stage whose parents are there; tell whether any stage was given."""
        given = False
        for index, slot in enumerate(self.slots):
            if slot.stage is not None:
                continue
            stage = self._next()
            if stage is None:
                break
            order = Order(to_json(stage), self.plugins, str(self.store.root), self.again)
            slot.stage = stage
            self.display.start(index, stage)
            try:
                slot.pipe.send(tuple(order))
            except OSError:
                self._died(index)
            given = True
        return given

    def _next(self) -> Stage | None:
        if self.stop_on_error and self.report.failures:
            self.waiting.clear()
        for stage in self.waiting:
            if not any(p.key in self.open for p in stage.parents):
                self.waiting.remove(stage)
                return stage
        return None

    def _listen(self) -> None:
        busy = {slot.pipe: i for i, slot in enumerate(self.slots) if slot.stage is not None}
        for pipe in wait(list(busy), timeout=1.0):
            assert isinstance(pipe, Connection)  # noqa: S101 - narrows the type of what wait returns
            index = busy[pipe]
            try:
                message = Message(*pipe.recv())
            except (EOFError, OSError):
                self._died(index)
                continue
            if message.kind == "progress":
                self.display.progress(index, message.done, message.total, message.note, self.waiting)
            else:
                self._finished(index, message)

    def _finished(self, index: int, message: Message) -> None:
        stage = self.slots[index].stage
        assert stage is not None  # noqa: S101 - it sent a message about one
        self.slots[index].stage = None
        failure = ""
        if message.kind == "done":
            self.open.discard(stage.key)
            self.report.computed += message.computed
            self.on_done(stage)
        else:
            failure = message.note
            self._fail(stage, failure)
        self.display.finish(index, self.waiting, computed=message.computed, failure=failure)

    def _died(self, index: int) -> None:
        process = self.slots[index].process
        process.join(1.0)
        code = process.exitcode
        why = (
            f"its process was killed by signal {-code}"
            if code is not None and code < 0
            else f"its process ended with status {code}"
        )
        hint = "; the machine may be out of memory: use fewer --workers" if code == -signal.SIGKILL else ""
        self._finished(index, Message("failed", note=why + hint))
        self.slots[index] = self._spawn()

    def _fail(self, stage: Stage, reason: str) -> None:
        failure = Failure(stage, reason, self.store.log(stage))
        failed = {stage.key}
        for other in list(self.waiting):
            if any(p.key in failed for p in closure([other])):
                failed.add(other.key)
                self.waiting.remove(other)
        for key in failed:
            self.report.failures.setdefault(key, failure)

    def _stop(self, grace: float) -> None:
        for slot in self.slots:
            slot.process.terminate()
        until = time.monotonic() + grace
        for slot in self.slots:
            while slot.process.is_alive() and time.monotonic() < until:
                if slot.pipe.poll(0.1):
                    try:
                        slot.pipe.recv()
                    except (EOFError, OSError):
                        break
            slot.process.join(0.5)
            if slot.process.is_alive():
                slot.process.kill()
            slot.pipe.close()


@contextlib.contextmanager
def _no_main() -> Iterator[None]:
    """Hide the main module, so that a worker does not run the user's script again before it begins."""
    main_module = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main_module


def _writable(store: Store) -> None:
    probe = store.root / f".probe-{os.getpid()}"
    try:
        store.root.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
    except OSError as e:
        raise StoreError(
            f"{store.root} cannot be written: {e.strerror}; give another folder (--results DIR, RLRECBENCH_STORE)"
        ) from e


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise Terminated
