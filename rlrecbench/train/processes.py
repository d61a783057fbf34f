"""One training on several processes of a machine, by accelerate's launcher: gloo on CPUs, nccl on GPUs.

Whoever wants the training starts the launcher, the launcher starts this module N times. They talk through files in
a temporary folder, the desk: ``order.json`` for all, ``progress.json`` from the first process, ``stop`` for it,
``failed-<rank>.json`` from one that fails. The first process alone holds state that must be saved; where it stops, the
others are ended.
"""

import contextlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from rlrecbench.allocator import keep_memory
from rlrecbench.device import device_of
from rlrecbench.errors import BenchError, ConfigError
from rlrecbench.store import Report
from rlrecbench.train import launcher

Json = dict[str, Any]
Entry = Callable[[Json, Report], None]
_POLL_S = 0.1
_GRACE_S = 18.0  # for the first process to save its state; whoever stops a run waits 20 s


class Stopped(BaseException):
    """The training is being stopped; it saves its state and lets this pass."""


def check_devices(processes: int, device: str) -> None:
    """Refuse more processes than there are GPUs to train on.

    Raises:
        ConfigError: The message names both numbers.
    """
    if processes > 1 and device_of(device).type == "cuda" and processes > (there := torch.cuda.device_count()):
        raise ConfigError(
            f"train.processes: {processes} processes need a GPU each, and torch sees {there} here; "
            f"lower it to {there}, or use --device cpu"
        )


def launch(entry: str, order: Json, processes: int, device: str, report: Report) -> None:
    """Run a function on several processes that learn together, and wait for their end.

    Args:
        entry: The function, as ``module:name``; it gets the order and a report, and every process calls it.
        order: What it is told, as JSON holds it.
        processes: How many.
        device: "auto", "cpu" or "cuda".
        report: Receives the progress of the first process. Where it raises, that process saves its state, all end,
            and the exception passes.

    Raises:
        BenchError: A process failed or was killed; the message names it and the reason.
    """
    check_devices(processes, device)
    threads = max(1, torch.get_num_threads() // processes)
    with tempfile.TemporaryDirectory(prefix="rlrecbench-") as name:
        desk = Path(name)
        whole = {"entry": entry, "order": order, "processes": processes, "threads": threads}
        (desk / "order.json").write_text(json.dumps(whole))
        running = subprocess.Popen(  # noqa: S603 - this program and a folder of its own, no shell
            [sys.executable, "-P", launcher.__file__, str(desk)],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # a terminal's interrupt is for whoever reports, who then stops us
        )
        try:
            _attend(running, desk, report, f"starting {processes} processes")
        finally:
            _end(running, desk)
        if running.returncode or not (desk / "done").exists():
            raise BenchError(_reason(desk, processes, running.returncode))


def _attend(running: "subprocess.Popen[bytes]", desk: Path, report: Report, note: str) -> None:
    """Pass progress on until all have ended; where the report raises, let the first process save its state."""
    seen = (0.0, 1.0, note)
    try:
        while running.poll() is None:
            report(*seen)
            time.sleep(_POLL_S)
            if (desk / "progress.json").exists():
                done, total, note = json.loads((desk / "progress.json").read_text())
                seen = done, total, note
    except BaseException:
        (desk / "stop").touch()
        until = time.monotonic() + _GRACE_S
        while running.poll() is None and time.monotonic() < until and not (desk / "stopped").exists():
            time.sleep(_POLL_S)
        raise


def _end(running: "subprocess.Popen[bytes]", desk: Path) -> None:
    """Kill what still runs; no process is left that could write."""
    if running.poll() is None:
        running.kill()
        running.wait()
    for path in desk.glob("*.pid"):
        with contextlib.suppress(OSError):
            os.kill(int(path.read_text()), signal.SIGKILL)


def _reason(desk: Path, processes: int, status: int) -> str:
    """Say which process failed first, and of what."""
    ended = json.loads((desk / "ended.json").read_text()) if (desk / "ended.json").exists() else []
    for rank, _, name in ended:
        if name not in ("<N/A>", "SIGTERM"):  # the others are ended with SIGTERM
            hint = "; the machine may be out of memory" if name == "SIGKILL" else ""
            return f"training process {rank + 1} of {processes} was killed by {name}{hint}; run again to go on"
    failed = [json.loads(path.read_text()) for path in desk.glob("failed-*.json")]
    if failed:
        reason: str = min(failed, key=lambda f: float(f["time"]))["reason"]
        return reason
    for rank, code, name in ended:
        what = f"was killed by {name}" if name == "SIGTERM" else f"ended with status {code}"
        return f"training process {rank + 1} of {processes} {what}; run again to go on"
    return f"the launcher of {processes} training processes ended with status {status}"


def _member(desk: Path) -> int:
    """Be one of the processes."""
    rank = int(os.environ["RANK"])
    launcher.leave_with_parent(int(os.environ[launcher.LAUNCHER]))
    _write(desk / f"{rank}.pid", str(os.getpid()))
    order = json.loads((desk / "order.json").read_text())
    torch.set_num_threads(order["threads"])
    keep_memory()

    def report(done: float, total: float, note: str) -> None:
        if rank == 0:
            if (desk / "stop").exists():
                raise Stopped
            _write(desk / "progress.json", json.dumps([done, total, note]))

    def failed(reason: str) -> int:
        _write(desk / f"failed-{rank}.json", json.dumps({"time": time.time(), "reason": reason}))
        return 1

    try:
        entry: Entry = pkgutil.resolve_name(order["entry"])
        entry(order["order"], report)
    except Stopped:
        (desk / "stopped").touch()
        return 0
    except BenchError as e:
        print(e, file=sys.stderr)
        return failed(str(e))
    except Exception as e:
        traceback.print_exc()
        first = next(iter(str(e).splitlines()), "")
        return failed(f"training process {rank + 1} of {order['processes']} failed: {type(e).__name__}: {first}")
    if rank == 0:
        (desk / "done").touch()
    return 0


def _write(path: Path, text: str) -> None:
    path.with_name(f".{path.name}").write_text(text)
    path.with_name(f".{path.name}").replace(path)


if __name__ == "__main__":
    status = _member(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # a process that waits for one that is no more would not end by itself
