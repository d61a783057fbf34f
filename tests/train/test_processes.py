"""One training on several processes: the same numbers as one process, and what becomes of it when one fails.

The processes are real, started by accelerate's launcher over gloo, and a launch takes seconds; so one launch trains
with all methods, one after another. They import this file to know what to do.
"""

import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from rlrecbench import registry
from rlrecbench.config import build
from rlrecbench.conformance import Probe
from rlrecbench.errors import BenchError, ConfigError
from rlrecbench.method import FineTune, Step, methods
from rlrecbench.store import Report, silent
from rlrecbench.train import Budget, TrainJob, loop, train
from rlrecbench.train.loop import mean_of, micro_batches
from rlrecbench.train.pool import Pool
from rlrecbench.train.processes import check_devices, launch


@dataclass(frozen=True)
class Dies(FineTune):
    """Ends its own process in the 21st step, if that is the second of several."""

    start = "base"

    def loss(self, step: Step) -> Tensor:
        if step.progress >= 20 / 24 and os.environ.get("RANK") == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return step.nll()


@dataclass(frozen=True)
class Diverges(FineTune):
    """Has no loss for the prompts of the second of several processes."""

    start = "base"

    def loss(self, step: Step) -> Tensor:
        return step.nll() * (float("nan") if os.environ.get("RANK") == "1" else 1.0)


# Method, settings, batch, learning rate: shares of 31 are unequal, and 256 rows in 51s leave one prompt for two.
# PPO's value begins at the mean reward, where its bias has a gradient of rounding errors: AdamW's step is a whole one.
CASES: Mapping[str, tuple[str, dict[str, Any], int, float]] = {
    "sft": ("sft", {}, 31, 1e-3),
    "dpo": ("dpo", {}, 51, 1e-3),
    "gflowgr-tb": ("gflowgr-tb", {}, 31, 1e-3),
    "ppo": ("ppo", {"updates": 2}, 31, 1e-5),
    "sprec": ("sprec", {}, 31, 1e-3),
}
PLAIN: Mapping[str, FineTune] = {"dies": Dies(), "diverges": Diverges()}


def _job(folder: Path, method: FineTune, batch: int, lr: float, dropout: float = 0.0, **changes: Any) -> TrainJob:
    probe = Probe(method)
    policy: Any = probe.policy()
    policy.shape = replace(policy.shape, dropout=dropout)
    budget = {"epochs": 2, "batch_size": batch, "lr": lr, "epoch_share": 1.0, "eval_examples": 40}
    job = TrainJob(
        data=probe.data, policy=policy, method=method, budget=build(Budget, budget, "test"), seed=1, folder=folder,
        collab=probe.collab, text=probe.text, beams=10, device="cpu", rank_batch=16,
    )  # fmt: skip
    return replace(job, **changes)


def run(order: dict[str, Any], report: Report) -> None:
    """Train with each of the ordered cases; every process of a launch calls this."""
    registry.load()
    loop._LOG_EVERY = 1
    folder = Path(order["folder"])
    for case in order["cases"]:
        name, settings, batch, lr = CASES.get(case, (case, {}, 32, 1e-3))
        method: Any = PLAIN[name] if name in PLAIN else build(methods[name], settings, name)
        (folder / case).mkdir(parents=True, exist_ok=True)
        job = _job(folder / case, method, batch, lr, **order.get("changes", {}))
        if "epochs" in order:
            job = replace(job, budget=replace(job.budget, epochs=order["epochs"]))
        outcome = train(job, report)
        if os.environ.get("RANK", "0") == "0":
            save_file(outcome.weights, folder / case / "weights.safetensors")


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes find this file by its name; here every step is logged, too."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setattr(loop, "_LOG_EVERY", 50)


def _launch(report: Report = silent, **order: Any) -> None:
    launch("test_processes:run", order, 2, "cpu", report)


def _lines(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "train.jsonl").open()]
    for line in lines:
        line.pop("seconds", None)
    return lines


def _must_be_close(one: Path, two: Path) -> None:
    """Losses and evaluations of every step to 1e-4, weights to 2e-4; a gradient jumps where a ReLU changes sides."""
    a, b = _lines(one), _lines(two)
    assert [(line["step"], sorted(line)) for line in a] == [(line["step"], sorted(line)) for line in b]
    for x, y in zip(a, b, strict=True):
        for name in x.keys() & {"loss", "grad_norm", "valid/ndcg@10"}:
            rel = 5e-3 if name == "grad_norm" else 1e-4
            assert x[name] == pytest.approx(y[name], rel=rel, abs=1e-4), (x["step"], name)
    mine, theirs = load_file(one / "weights.safetensors"), load_file(two / "weights.safetensors")
    for name, value in mine.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-3, atol=2e-4)


@given(st.integers(1, 40), st.integers(1, 7), st.one_of(st.none(), st.integers(1, 9)))
def test_every_prompt_belongs_to_one_micro_batch_and_the_weights_add_up(
    size: int, processes: int, limit: int | None
) -> None:
    pieces = [micro_batches(size, limit, index, processes) for index in range(processes)]
    counted = [p for mine in pieces for p in mine if p.weight]
    assert [row for p in counted for row in range(p.start, p.stop)] == list(range(size))
    assert sum(p.weight for p in counted) == pytest.approx(1)
    assert all(p.stop - p.start <= (limit or size) for p in counted)
    assert all(mine for mine in pieces)  # every process takes part


def test_logged_values_are_means_over_prompts() -> None:
    """Shares of 1/4 and 3/4 of a batch; what only one of them has is that one's."""
    assert mean_of([(0.25, {"loss": 4.0, "a": 1.0}), (0.75, {"loss": 8.0})]) == {"loss": 7.0, "a": 1.0}


def test_pools_of_different_rows_join() -> None:
    """Rows 4, 1 and row 3; nothing was drawn for 0 and 2, nor by a process without a batch."""
    one = Pool(torch.tensor([-1, 1, -1, -1, 0]), {"items": torch.tensor([[40], [10]])})
    two = Pool(torch.tensor([-1, -1, -1, 0, -1]), {"items": torch.tensor([[30]])})
    none = Pool(torch.full((5,), -1), {})
    joined = Pool.join([none, one, two])
    assert joined.place.tolist() == [-1, 1, -1, 2, 0]
    assert joined.tensors["items"][joined.place[[1, 3, 4]]].flatten().tolist() == [10, 30, 40]


def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    """Plain, with a reference, with heads, with several updates a draw, and in rounds with a renewed reference.

    The progress of the first process arrives, and only it writes.
    """
    told: list[tuple[float, float, str]] = []
    _launch(lambda *progress: told.append(progress), cases=list(CASES), folder=str(tmp_path / "two"))
    run({"cases": list(CASES), "folder": str(tmp_path / "one")}, silent)
    for case in CASES:
        _must_be_close(tmp_path / "one" / case, tmp_path / "two" / case)
        assert not list((tmp_path / "two" / case).glob("part-*"))
    assert told[0][2] == "starting 2 processes"
    assert told[-1][0] == told[-1][1] > 0


@pytest.mark.slow  # 15 s
def test_with_dropout_two_processes_are_two_micro_batches(tmp_path: Path) -> None:
    """A mask belongs to a place in the batch, so whole shares draw the masks of micro-batches of their size."""
    order: dict[str, Any] = {"cases": ["flower"], "changes": {"dropout": 0.1, "micro_batch": 16}}
    _launch(**order, folder=str(tmp_path / "two"))
    run({**order, "folder": str(tmp_path / "one")}, silent)
    _must_be_close(tmp_path / "one/flower", tmp_path / "two/flower")


@pytest.mark.slow  # 15 s
def test_a_process_that_is_killed_is_named_and_the_state_goes_on_with_one(tmp_path: Path) -> None:
    """Three epochs of 8 steps; the second process dies in the 21st, the checkpoint is that of the second evaluation."""
    order: dict[str, Any] = {"cases": ["dies"], "epochs": 3}
    with pytest.raises(BenchError, match=r"training process 2 of 2 was killed by SIGKILL; .*; run again to go on"):
        _launch(**order, folder=str(tmp_path / "two"))
    assert [p.name for p in (tmp_path / "two/dies").glob("checkpoint-*")] == ["checkpoint-16"]
    run({**order, "folder": str(tmp_path / "two")}, silent)
    run({**order, "folder": str(tmp_path / "one")}, silent)
    _must_be_close(tmp_path / "one/dies", tmp_path / "two/dies")


def test_a_stop_saves_the_state_before_the_end(tmp_path: Path) -> None:
    def stop(done: float, total: float, note: str) -> None:
        if note.startswith("epoch") and done >= 5:
            raise KeyboardInterrupt

    order: dict[str, Any] = {"cases": ["sft"], "epochs": 40}
    with pytest.raises(KeyboardInterrupt):
        _launch(stop, **order, folder=str(tmp_path / "two"))
    saved = [int(p.name.partition("-")[2]) for p in (tmp_path / "two/sft").glob("checkpoint-*")]
    assert len(saved) == 1
    assert 5 <= saved[0] < 40 * 9
    assert not (tmp_path / "two/sft/weights.safetensors").exists()


@pytest.mark.slow  # 12 s
def test_a_loss_that_is_not_a_number_in_one_process_is_said_as_alone(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"^the loss was not finite by step 0; lower lr"):
        _launch(cases=["diverges"], folder=str(tmp_path))


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_devices(2, "auto")
    check_devices(3, "cpu")
    with pytest.raises(ConfigError, match="3 processes need a GPU each, and torch sees 2 here; lower it to 2"):
        check_devices(3, "cuda")
