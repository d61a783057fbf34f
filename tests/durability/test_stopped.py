"""Runs that are interrupted, terminated and killed, by signals as shells, terminals and kernels send them."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from rlrecbench.cli import _main
from rlrecbench.execute import runner

from .kill_table import table
from .runs import HANGS_S, ONE, Run, computed, wait_for


def workers(driver: "subprocess.Popen[str]") -> list[int]:
    """Process ids of a run's workers."""
    children = Path(f"/proc/{driver.pid}/task/{driver.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def begun(run: Run, *more: str) -> "subprocess.Popen[str]":
    """Start a run and wait until its training has gone further than before."""
    before = {path.parent.name for path in run.trainings()}
    process = run.start(*more)
    wait_for(lambda: {path.parent.name for path in run.trainings()} - before, process)
    return process


def interrupt_group_twice(process: "subprocess.Popen[str]") -> int:
    """Ctrl-C, and again in the middle of saving."""
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(random.uniform(0.0, 0.5))
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    return process.wait(timeout=HANGS_S)


def terminate_driver(process: "subprocess.Popen[str]") -> int:
    """What ``kill`` and schedulers do."""
    process.terminate()
    return process.wait(timeout=HANGS_S)


def test_a_run_survives_all_that_can_stop_it(tmp_path: Path, finished: Run) -> None:
    """SIGTERM, Ctrl-C twice, a worker killed for its memory, all killed: in the end the same bytes."""
    run = Run(tmp_path, *ONE)
    assert terminate_driver(begun(run)) == 143
    assert "terminated; the state is saved" in run.said()
    assert interrupt_group_twice(begun(run)) == 130
    assert "interrupted; the state is saved" in run.said()
    assert "Traceback" not in run.said()
    process = begun(run, "--workers", "1")
    (worker,) = workers(process)
    os.kill(worker, signal.SIGKILL)
    assert process.wait(timeout=HANGS_S) == 3
    assert "killed by signal 9; the machine may be out of memory" in " ".join(run.said().split())
    assert any("most-popular" in name for name in run.contents())
    process = begun(run)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert run.finish() == 0, run.said()
    assert run.contents() == finished.contents()


def test_sigterm_counts_while_a_run_is_still_being_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any stage begins, and while reports are written, there is nothing to save, but much to say."""

    def interrupted(suite: str, options: runner.Options) -> runner.Planned:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
        raise AssertionError("SIGTERM was ignored")

    monkeypatch.setattr(runner, "plan", interrupted)
    assert _main(["run", "small.yaml", "--results", str(tmp_path)]) == 143
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("group", [False, True])
def test_signals_to_the_driver_or_to_all(tmp_path: Path, finished: Run, number: int, group: bool) -> None:
    """About 40 s each."""
    run = Run(tmp_path, *ONE)
    process = begun(run)
    (os.killpg if group else os.kill)(process.pid, number)
    assert process.wait(timeout=HANGS_S) == 128 + number
    assert "the state is saved" in run.said()
    assert "Traceback" not in run.said()
    assert run.trainings()
    assert run.finish() == 0, run.said()
    assert run.contents() == finished.contents()


@pytest.mark.slow
def test_killed_twenty_times_at_random_moments(tmp_path: Path) -> None:
    """About ten minutes; ``python -m tests.durability.kill_table`` prints what this checks."""
    found = list(table(tmp_path, 20, within=40.0, seed=random.randrange(10**6)))
    assert len(found) == 20
    assert all(kill.equal for kill in found)


@pytest.mark.slow
def test_four_runs_at_once_compute_every_stage_once(tmp_path: Path, finished: Run) -> None:
    """About a minute."""
    runs = [Run(tmp_path, *ONE) for _ in range(4)]
    at_once(runs, finished)


def test_two_runs_at_once_compute_every_stage_once(tmp_path: Path, finished: Run) -> None:
    at_once([Run(tmp_path, *ONE) for _ in range(2)], finished)


def at_once(runs: list[Run], finished: Run) -> None:
    """Start runs together in one folder and compare what they leave, and how often each stage says that it is done."""
    processes = [run.start(said=f"stderr-{i}") for i, run in enumerate(runs)]
    assert [process.wait(timeout=HANGS_S) for process in processes] == [0] * len(runs)
    said = [run.said(f"stderr-{i}") for i, run in enumerate(runs)]
    assert runs[0].contents() == finished.contents()
    assert sum(map(computed, said)) == computed(finished.said())
