"""A worker process: computes one stage after another, each with its own log file.

It receives data, never objects: a stage as JSON, the plug-in files, the store's folder.
"""

import ctypes
import json
import os
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from rlrecbench.errors import BenchError

_REPORT_EVERY_S = 0.5


class Order(NamedTuple):
    """What a worker is asked to compute."""

    stage: str  # JSON, see store.to_json
    plugins: tuple[str, ...]
    store: str
    again: bool


class Message(NamedTuple):
    """What a worker says: kind is "progress", "done" or "failed"."""

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
    _keep_memory()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    while True:
        while not pipe.poll(0.2):
            if stop.is_set():
                return
        try:
            order = Order(*pipe.recv())
            pipe.send(tuple(_carry_out(order, pipe, stop, threads)))
        except (EOFError, BrokenPipeError, Interrupted):
            return


def _carry_out(order: Order, pipe: Connection, stop: threading.Event, threads: int) -> Message:
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
    sent = 0.0

    def report(done: float, total: float, note: str) -> None:
        nonlocal sent
        if stop.is_set():
            raise Interrupted
        now = time.monotonic()
        if now - sent > _REPORT_EVERY_S or done >= total:
            sent = now
            beat = {"done": done, "total": total, "note": note, "time": time.time()}
            shelf.heartbeat(stage).write_text(json.dumps(beat))
            try:
                pipe.send(tuple(Message("progress", done, total, note)))
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


def _keep_memory() -> None:
    """Ask glibc to keep freed memory: returning it after every step costs a tenth of the time in page faults."""
    trim, top_pad, mmap = -1, -2, -3  # malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for option, value in ((mmap, 32 << 20), (trim, 1 << 30), (top_pad, 64 << 20)):
        mallopt(option, value)


def _attempt(stage: Any, shelf: Any, report: Any, again: bool) -> Message:
    try:
        return Message("done", computed=shelf.ensure(stage, report, again=again))
    except BenchError as e:
        print(e, file=sys.stderr)
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
        sys.stdout.flush()
        sys.stderr.flush()
        for fd, old in zip((1, 2), self.saved, strict=True):
            os.dup2(old, fd)
            os.close(old)
