"""Runs of a small suite as a user starts them: processes of their own, in a folder of their own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

SUITE = """
name: small
seeds: [1]
datasets:
  - ml-100k: {last: 8, max_history: 4}
backbones:
  - tiger: {preset: tiny, ids: {kind: rkmeans, levels: 2, codes: 16, dim: 8}}
methods:
  - sft
  - dpo: {start: sft, epochs: 1}
  - gflowgr-tb: {start: sft, epochs: 1}
train: {epochs: 2, batch_size: 128, lr: 2.0e-3, eval_examples: 50, checkpoint_minutes: 0.001}
rank: {beams: 5, k: 5}
collab: {layers: 1, heads: 1, inner: 64, dropout: 0.0, epochs: 3}
metrics: [recall@5, ndcg@5]
stats: {baseline: sft, primary: ndcg@5}
"""
ONE = ("--set", "methods=[sft, most-popular]")  # the smallest run with a training and something beside it
HANGS_S = 900  # what takes so long will not end; a loaded machine may need a few minutes
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "120"}


class Run:
    """A folder with the suite, and what is done in it.

    Args:
        folder: Made if it is not there.
        options: Added to every ``run``.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "small.yaml").write_text(SUITE)
        self.folder, self.options = folder, options
        self.results, self.store = folder / "results" / "small", folder / "results" / "store"

    def command(self, *more: str) -> list[str]:
        """The command line."""
        words = ["run", "small.yaml", "--workers", "2", "--limit-users", "100", *self.options, *more]
        return [sys.executable, "-m", "rlrecbench", *words]

    def start(self, *more: str, before: tuple[str, ...] = (), said: str = "stderr") -> "subprocess.Popen[str]":
        """Start a run in a process group of its own; its messages go to a file, see :meth:`said`."""
        with (self.folder / said).open("w") as errors:
            return subprocess.Popen(
                [*before, *self.command(*more)],
                cwd=self.folder,
                env=ENV,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                text=True,
                start_new_session=True,
                preexec_fn=_heed_interrupts,
            )

    def said(self, file: str = "stderr") -> str:
        """What the last run said on stderr."""
        return (self.folder / file).read_text()

    def finish(self, *more: str, before: tuple[str, ...] = ()) -> int:
        """Run to the end; the exit status."""
        return self.start(*more, before=before).wait(timeout=HANGS_S)

    def call(self, *words: str, before: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
        """Any other command."""
        command = [*before, sys.executable, "-m", "rlrecbench", *words]
        return subprocess.run(
            command, cwd=self.folder, env=ENV, capture_output=True, text=True, timeout=HANGS_S, check=False
        )

    def contents(self) -> dict[str, object]:
        """What must be equal from run to run."""
        return contents(self.results)

    def trainings(self) -> list[Path]:
        """Checkpoints of trainings that are not published."""
        return list(self.store.glob("train/*.work/checkpoint-*/progress.json"))


def contents(results: Path) -> dict[str, object]:
    """What must be equal from run to run: lists, users, and metrics without cost and provenance."""
    out: dict[str, object] = {}
    for path in sorted((results / "cells").rglob("*")):
        name = str(path.relative_to(results))
        if path.name == "metrics.json":
            record = json.loads(path.read_text())
            out[name] = {k: v for k, v in record.items() if k not in ("cost", "provenance")}
        elif path.suffix == ".parquet":
            out[name] = path.read_bytes()
    return out


def computed(said: str) -> int:
    """How many stages a run says that it computed."""
    found = re.search(r"(\d+) stages computed", said)
    return int(found[1]) if found else 0


def wait_for(condition: Callable[[], object], process: "subprocess.Popen[str]", seconds: float = 600) -> None:
    """Wait until something is so while a run goes on."""
    until = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            said = process.stderr.read() if process.stderr else ""
            raise AssertionError(f"the run ended with status {process.returncode} before: {said}")
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.02)


def _heed_interrupts() -> None:
    """A shell starts background jobs with SIGINT ignored, and their children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
