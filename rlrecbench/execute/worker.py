"""A worker process: computes one stage after another, each with its own log file.

It receives data, never objects: a stage as JSON, the plug-in files, the store's folder.
"""

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rlrecbench.allocator import keep_memory
from rlrecbench.errors import BenchError

if TYPE_CHECKING:
    from rlrecbench.store import Stage, Store

_REPORT_EVERY_S = 0.5


class Order(NamedTuple):
    """What a worker is asked to compute."""

    stage: str  # JSON, see store.to_json
    plugins: tuple[str, ...]
    store: str
    again: bool


class Message(NamedTuple):
    """What a worker says: kind is "progress", "done" or "failed"; "lost" is said of a worker that is no more."""

    kind: str
    done: float = 0.0
    total: float = 0.0
    note: str = ""
    computed: bool = False


class Interrupted(BaseException):
    """The run is being stopped; long stages save their state and let this pass."""


def main(pipe: Connection, threads: int) -> None:
    """Serve orders until the pipe closes."""
    stop = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    settle(threads)

    def send(message: Message) -> None:
        pipe.send(tuple(message))

    while True:
        while not pipe.poll(0.2):
            if stop.is_set():
                return
        try:
            order = Order(*pipe.recv())
            send(carry_out(order, send, stop, threads))
        except (EOFError, BrokenPipeError, Interrupted):
            return


def settle(threads: int) -> None:
    """Prepare this process for computing, before it imports torch."""
    keep_memory()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def carry_out(
    order: Order, send: Callable[[Message], None], stop: threading.Event, threads: int, *, patience: float = 0.0
) -> Message:
    """Compute a stage.

    Args:
        order: Which.
        send: Takes progress; OSError: nobody listens any more.
        stop: When set, the stage saves its state and ends at its next report.
        threads: Cores to compute on.
        patience: Seconds until what another machine has published must be visible here.

    Raises:
        Interrupted: ``stop`` was set, or nobody listens.
    """
    import torch

    from rlrecbench import registry, stages, store

    torch.set_num_threads(threads)
    assert stages.Prepare.name  # noqa: S101 - importing stages has registered them
    try:
        registry.load([Path(p) for p in order.plugins])
        stage = store.from_json(order.stage)
    except BenchError as e:
        return Message("failed", note=str(e))
    shelf = store.Store(Path(order.store))
    if patience and not visible(shelf, store.closure([stage])[:-1], patience):
        return Message("failed", note=f"what it needs is not in {shelf.root} here; do all nodes share that folder?")
    sent = 0.0

    def report(done: float, total: float, note: str) -> None:
        nonlocal sent
        if stop.is_set():
            raise Interrupted
        now = time.monotonic()
        if now - sent > _REPORT_EVERY_S or done >= total:
            sent = now
            if total:  # else it waits for another run, whose heartbeat this is
                beat = {"done": done, "total": total, "note": note, "time": time.time()}
                shelf.heartbeat(stage).write_text(json.dumps(beat))
            try:
                send(Message("progress", done, total, note))
            except OSError as e:
                raise Interrupted from e

    try:
        shelf.log(stage).parent.mkdir(parents=True, exist_ok=True)
        with _Logged(shelf.log(stage)):
            message = _attempt(stage, shelf, report, order.again)
        shelf.heartbeat(stage).unlink(missing_ok=True)
        return message
    except OSError as e:
        return Message("failed", note=str(store.unwritable(shelf.root, e)))


def visible(shelf: "Store", stages: "Sequence[Stage]", patience: float) -> bool:
    """Tell whether stages are done as this machine sees it; a network file system may be some seconds behind."""
    until = time.monotonic() + patience
    while not all(shelf.has(s) for s in stages):
        if time.monotonic() > until:
            return False
        time.sleep(0.5)
    return True


def _attempt(stage: Any, shelf: Any, report: Any, again: bool) -> Message:
    try:
        return Message("done", computed=shelf.ensure(stage, report, again=again))
    except BenchError as e:
        print(e, file=sys.stderr)
        if e.__cause__ is not None:
            traceback.print_exception(e.__cause__)
        return Message("failed", note=str(e))
    except MemoryError:
        traceback.print_exc()
        return Message("failed", note="out of memory; lower train.micro_batch or rank.batch")
    except Exception as e:
        traceback.print_exc()
        hint = "; out of memory: lower train.micro_batch or rank.batch" if "out of memory" in str(e).lower() else ""
        return Message("failed", note=f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}{hint}")


class _Logged:
    """Send what is printed, by libraries too, to a log file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        self.saved = [os.dup(1), os.dup(2)]
        with self.path.open("a") as f:
            for fd in (1, 2):
                os.dup2(f.fileno(), fd)

    def __exit__(self, *_: object) -> None:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:  # a full disk takes no log
            for fd, old in zip((1, 2), self.saved, strict=True):
                os.dup2(old, fd)
                os.close(old)
