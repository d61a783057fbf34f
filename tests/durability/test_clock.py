"""Clocks that jump: status, locks and checkpoints stay sane."""

import json
import os
import time
from pathlib import Path

import pytest

import rlrecbench
from rlrecbench.cli.status import read_status
from rlrecbench.execute.progress import Clock, Running
from rlrecbench.store import Store

from .test_damage import Word

HOUR = 3600.0


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A results folder of one cell with one stage, which is at work."""
    stage = {"label": "train sft", "stage": "train", "path": "train/abc"}
    cell = {"cell": ["d", "b", "sft", 1], "key": "k", "stages": [stage]}
    (tmp_path / "plan.json").write_text(json.dumps({"store": str(tmp_path / "store"), "cells": [cell]}))
    (tmp_path / "store" / "train").mkdir(parents=True)
    return tmp_path


def beat(results: Path, at: float) -> None:
    about = {"done": 3, "total": 12, "note": "epoch 1", "time": at}
    (results / "store/train/abc.beat").write_text(json.dumps(about))


@pytest.mark.parametrize(
    ("age", "state", "detail"),
    [
        (5.0, "running", "train sft: 25 %, epoch 1, heard 5 s ago"),
        (-30.0, "running", "train sft: 25 %, epoch 1, heard 0 s ago"),  # another machine's clock, half a minute ahead
        (-HOUR, "to do", "next: train sft"),  # killed, then the clock was set back: it does not run for an hour more
        (HOUR, "to do", "next: train sft"),
        (56 * 365 * 24 * HOUR, "to do", "next: train sft"),  # 1970
    ],
)
def test_a_heartbeat_counts_two_minutes_either_way(
    results: Path, age: float, state: str, detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    beat(results, now - age)
    (row,) = read_status(results)
    assert (row["state"], row["detail"]) == (state, detail)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"time": "soon"}', '{"time": 1}'])
def test_a_heartbeat_that_is_half_written_is_none(results: Path, text: str) -> None:
    (results / "store/train/abc.beat").write_text(text)
    assert read_status(results)[0]["state"] == "to do"


@pytest.mark.parametrize("text", ["", "{", "[" * 200_000, '{"provenance": []}', '{"provenance": {"key": "other"}}'])
def test_a_broken_record_is_a_cell_to_do(results: Path, text: str) -> None:
    folder = results / "cells/d/b/sft/seed-1"
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(text)
    assert read_status(results)[0]["state"] == "to do"


def test_a_stage_without_its_record_is_not_done(results: Path) -> None:
    (results / "store/train/abc").mkdir()
    assert read_status(results)[0]["detail"] == "next: train sft"


def test_the_time_left_does_not_follow_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter is done after 10 s, so 30 s are left, whatever the wall clock says."""
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for jump in (-HOUR, HOUR):
        monkeypatch.setattr(time, "time", lambda jump=jump: jump)
        left = Clock().left([Running(Word("x"), now - 10, 0.25)], [], 1)
        assert left == pytest.approx(30)


@pytest.mark.parametrize("date", [0, 2**31 - 1])
def test_dates_of_files_mean_nothing(tmp_path: Path, date: int) -> None:
    """Locks, leftovers and results from 1970 or 2038 are like all others."""
    store = Store(tmp_path)
    store.ensure(Word("hello"))
    store.work(Word("new")).mkdir()
    store.path(Word("new")).with_suffix(".lock").write_text("")
    for path in tmp_path.rglob("*"):
        os.utime(path, (date, date))
    assert store.intact(Word("hello"))
    assert store.ensure(Word("new"))
    assert store.intact(Word("new"))


def test_the_wall_clock_is_read_for_heartbeats_and_dates_alone() -> None:
    """Waiting, checkpoints and estimates go by clocks that nobody can set; a failure has a date."""
    root = Path(rlrecbench.__file__).parent
    readers = {str(p.relative_to(root)) for p in root.rglob("*.py") if "time.time()" in p.read_text()}
    assert readers <= {"execute/worker.py", "cli/status.py", "train/processes.py"}
