"""The local crew: N worker processes on this machine."""

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType

from rlrecbench.execute.scheduler import Crew
from rlrecbench.execute.worker import Message, Order, main
from rlrecbench.store import Stage, Store, to_json


@dataclass
class _Slot:
    process: BaseProcess
    pipe: Connection
    busy: bool = False


def default_workers() -> int:
    """One worker per core, eight at most; one per run where there is an accelerator to share."""
    import torch

    return 1 if torch.cuda.is_available() else max(1, min(8, cores()))


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def processes(
    store: Store, todo: Sequence[Stage], *, workers: int | None, plugins: Sequence[Path], again: bool
) -> Iterator[Crew]:
    """The crew of a run without ``--ray``; workers None: :func:`default_workers`."""
    yield Processes(store, min(workers or default_workers(), len(todo)), plugins, again=again)


class Processes:
    """Worker processes that share this machine's cores.

    Args:
        store: Where results are published.
        n: Processes.
        plugins: Files every process imports.
        again: Compute what is done already.
    """

    retries = 0  # a process that dies here would most likely die again: out of memory, a crash in the stage itself

    def __init__(self, store: Store, n: int, plugins: Sequence[Path], *, again: bool) -> None:
        self.store, self.again = store, again
        self.plugins = tuple(str(p) for p in plugins)
        self.threads = max(1, cores() // n)
        self.context = multiprocessing.get_context("spawn")
        self.n = n
        self.slots: dict[int, _Slot] = {}  # begun when first needed, so that stopping finds all there are

    def places(self) -> Sequence[int]:
        """The processes by number."""
        return range(self.n)

    def suits(self, place: int, stage: Stage) -> bool:
        """All processes are alike."""
        return True

    def begin(self, place: int, stage: Stage) -> None:
        """Send a stage to a process; that it has died shows in :meth:`listen`."""
        slot = self.slots.get(place) or self._spawn(place)
        slot.busy = True
        with contextlib.suppress(OSError):
            slot.pipe.send(tuple(Order(to_json(stage), self.plugins, str(self.store.root), self.again)))

    def listen(self) -> Sequence[tuple[int, Message]]:
        """Wait for messages, a second at most."""
        busy = {slot.pipe: i for i, slot in self.slots.items() if slot.busy}
        heard = []
        for pipe in wait(list(busy), timeout=1.0):
            assert isinstance(pipe, Connection)  # noqa: S101 - narrows the type of what wait returns
            place = busy[pipe]
            try:
                message = Message(*pipe.recv())
                self.slots[place].busy = message.kind == "progress"
            except (EOFError, OSError):
                message = Message("lost", note=_why(self.slots.pop(place).process))
            heard.append((place, message))
        return heard

    def stop(self, grace: float) -> int:
        """End all processes; those at work get ``grace`` seconds to save their state. Returns how many did not."""
        killed = 0
        for slot in self.slots.values():
            slot.process.terminate()
        until = time.monotonic() + grace
        for slot in self.slots.values():
            while slot.process.is_alive() and time.monotonic() < until:
                if slot.pipe.poll(0.1):
                    try:
                        slot.pipe.recv()
                    except (EOFError, OSError):  # it has saved its state and ends
                        break
            slot.process.join(max(0.5, until - time.monotonic()))
            if slot.process.is_alive():
                slot.process.kill()
                killed += slot.busy
            slot.pipe.close()
        return killed

    def _spawn(self, place: int) -> _Slot:
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=main, args=(theirs, self.threads), daemon=True)
        with _no_main():
            process.start()
        theirs.close()
        self.slots[place] = _Slot(process, ours)
        return self.slots[place]


def _why(process: BaseProcess) -> str:
    process.join(1.0)
    code = process.exitcode
    if code is None or code >= 0:
        return f"its process ended with status {code}"
    hint = "; the machine may be out of memory: use fewer --workers" if code == -signal.SIGKILL else ""
    return f"its process was killed by signal {-code}{hint}"


@contextlib.contextmanager
def _no_main() -> Iterator[None]:
    """Hide the main module, so that a worker does not run the user's script again before it begins."""
    main_module = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main_module
