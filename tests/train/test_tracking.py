"""Trackers follow train.jsonl: the same numbers at the same steps, each once, and never at the training's expense."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from rlrecbench import registry
from rlrecbench.config import build
from rlrecbench.conformance import Probe
from rlrecbench.errors import ConfigError
from rlrecbench.method import methods
from rlrecbench.store import Report, silent
from rlrecbench.train import Budget, Outcome, TrainJob, loop, tracking, train
from rlrecbench.train.tracking import TRACKERS, Tracking, check_installed

registry.load()
Point = tuple[int, str, float]


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An own working directory and home, which must stay empty; no network."""
    for name in [n for n in os.environ if n.startswith(("WANDB_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("cwd", "home"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "cwd")
    before = dict(os.environ)
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]
    assert not list((tmp_path / "cwd").rglob("*"))
    assert not [p for p in (tmp_path / "home").rglob("*") if p.is_file()]


def _train(folder: Path, *trackers: str, report: Report = silent, epochs: int = 3) -> Outcome:
    folder.mkdir(parents=True, exist_ok=True)
    probe = Probe(build(methods["sft"], {}, "sft"))
    job = TrainJob(
        data=probe.data, policy=probe.policy(), method=probe.tuner, seed=1, folder=folder, beams=10, device="cpu",
        budget=build(Budget, {"epochs": epochs, "batch_size": 64, "eval_examples": 20}, "test"),
    )  # fmt: skip
    if trackers:
        settings = {"train": {"lr": 0.1, "max_steps": None}, "method": {"name": "sft"}}
        job = replace(job, tracking=Tracking(trackers, folder.parent / "tracking", "suite", "d/b/m/seed-1", settings))
    return train(job, report)


def _logged(folder: Path) -> list[Point]:
    """Every number of train.jsonl with its step."""
    lines = [json.loads(line) for line in (folder / "train.jsonl").open()]
    return sorted((line["step"], name, value) for line in lines for name, value in line.items() if name != "step")


def _events(folder: Path) -> list[Point]:
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,
    )

    found = EventAccumulator(str(folder / "tracking/tensorboard/d/b/m/seed-1"))
    found.Reload()
    return sorted((e.step, tag, e.value) for tag in found.Tags()["scalars"] for e in found.Scalars(tag))


def _same(found: list[Point], expected: list[Point]) -> None:
    assert [p[:2] for p in found] == [p[:2] for p in expected]
    assert [p[2] for p in found] == pytest.approx([p[2] for p in expected], rel=1e-6)  # events are float32


def test_tensorboard_has_what_the_log_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the weights are those of a training without a tracker."""
    monkeypatch.setattr(loop, "_LOG_EVERY", 2)
    with_it = _train(tmp_path / "work", "tensorboard")
    expected = _logged(tmp_path / "work")
    assert len({step for step, _, _ in expected}) > 6
    _same(_events(tmp_path), expected)
    [hparams] = (tmp_path / "tracking/tensorboard").rglob("hparams.yml")
    assert "train.lr: 0.1" in hparams.read_text()
    without = _train(tmp_path / "other")
    assert all(torch.equal(without.weights[n], w) for n, w in with_it.weights.items())
    assert [p for p in _logged(tmp_path / "other") if p[1] != "seconds"] == [p for p in expected if p[1] != "seconds"]


def test_a_resumed_training_goes_on_and_repeats_no_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in its 11th step, the checkpoint at 8: steps 8 to 10 are run again and told once.

    The first try had no tracker until it was stopped once, so what it logged comes first.
    """
    monkeypatch.setattr(loop, "_LOG_EVERY", 1)

    class Killed(BaseException):
        pass

    def stop(done: float, total: float, note: str) -> None:
        if note.startswith("epoch"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path / "work", report=stop)
    write = loop._Run._write

    def dies(run: Any, line: dict[str, Any]) -> None:
        write(run, line)
        if line["step"] == 10:
            raise Killed

    monkeypatch.setattr(loop._Run, "_write", dies)
    with pytest.raises(Killed):
        _train(tmp_path / "work", "tensorboard")
    monkeypatch.setattr(loop._Run, "_write", write)
    _train(tmp_path / "work", "tensorboard")
    seconds = {"seconds"}  # of a step that was run twice, the first try's
    _same(
        [p for p in _events(tmp_path) if p[1] not in seconds],
        [p for p in _logged(tmp_path / "work") if p[1] not in seconds],
    )


def test_a_training_from_the_start_replaces_one_of_the_same_name(tmp_path: Path) -> None:
    _train(tmp_path / "work", "tensorboard", epochs=3)
    time.sleep(1.0)  # the names of event files are ordered by seconds
    _train(tmp_path / "again", "tensorboard", epochs=2)
    _same(_events(tmp_path), _logged(tmp_path / "again"))


def test_mlflow_keeps_a_run_in_the_folder(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    import mlflow

    _train(tmp_path / "work", "mlflow")
    client = mlflow.MlflowClient((tmp_path / "tracking/mlflow").as_uri())
    experiment = client.get_experiment_by_name("suite")
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "d/b/m/seed-1"
    assert run.info.status == "FINISHED"
    assert run.data.params == {"train.lr": "0.1", "train.max_steps": "null", "method.name": "sft"}
    found = [
        (m.step, name.replace("_at_", "@"), m.value)
        for name in run.data.metrics
        for m in client.get_metric_history(run.info.run_id, name)
    ]
    _same(sorted(found), _logged(tmp_path / "work"))


def test_wandb_writes_a_run_offline(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    _train(tmp_path / "work", "wandb")
    [run] = (tmp_path / "tracking/wandb").glob("offline-run-*/run-*.wandb")
    held = run.read_bytes()
    for word in (b"d/b/m/seed-1", b"suite", b"valid/ndcg@10", b"legal_mass", b"train.lr"):
        assert word in held, word


def test_a_tracker_that_fails_is_left_alone_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its folder cannot be made, or the disk is full in the middle; the other one gets everything."""
    monkeypatch.setattr(loop, "_LOG_EVERY", 1)
    (tmp_path / "tracking").mkdir()
    (tmp_path / "tracking/mlflow").write_text("a file where a folder should be")
    _train(tmp_path / "work", "mlflow", "tensorboard", epochs=2)
    said = capsys.readouterr().err
    assert said.count("warning: tracker mlflow failed and gets no more of this training") == 1
    _same(_events(tmp_path), _logged(tmp_path / "work"))
    tell = tracking._Follower.tell

    def full(follower: tracking._Follower, line: dict[str, Any]) -> None:
        if line["step"] == 3:
            raise OSError(28, "No space left on device")
        tell(follower, line)

    monkeypatch.setattr(tracking._Follower, "tell", full)
    outcome = _train(tmp_path / "disk/full", "tensorboard", epochs=2)
    assert outcome.steps == 8
    assert capsys.readouterr().err.count("No space left on device") == 1
    assert {step for step, _, _ in _events(tmp_path / "disk")} == {0, 1, 2}


def test_a_tracker_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed(TRACKERS)
    with pytest.raises(ConfigError, match="no tracker 'tensorbord'; there are tensorboard, wandb, mlflow"):
        check_installed(("tensorbord",))
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"--track wandb: the package wandb is not installed; pip install 'rlrecbench"
    ):
        check_installed(("wandb",))


def test_the_option_knows_the_trackers() -> None:
    from rlrecbench.cli.run import run

    [option] = [p for p in run.params if p.name == "track"]
    assert tuple(option.type.choices) == TRACKERS  # type: ignore[attr-defined]  # a click.Choice
    assert CliRunner().invoke(run, ["x.yaml", "--track", "aim"]).exit_code == 2
