"""Checkpoints: what is read back, what a kill between two renames leaves, and the optimiser's state."""

from pathlib import Path

import torch

from rlrecbench import checkpoint


def test_the_newest_checkpoint_comes_back_and_older_ones_are_gone(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path) is None
    for step in (9, 10):
        checkpoint.save(tmp_path, step, {"model": {"w": torch.full((2,), step)}, "none": {}}, {"note": f"at {step}"})
    found = checkpoint.load(tmp_path)
    assert found is not None
    assert found.record == {"note": "at 10", "step": 10}
    assert list(found.tensors) == ["model"]
    assert found.tensors["model"]["w"].tolist() == [10, 10]
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-10"]


def test_the_same_step_with_another_record_replaces_the_first(tmp_path: Path) -> None:
    for note in ("before", "after"):
        checkpoint.save(tmp_path, 3, {"model": {"w": torch.zeros(1)}}, {"note": note})
    found = checkpoint.load(tmp_path)
    assert found is not None
    assert found.record["note"] == "after"


def test_a_kill_between_two_renames_loses_nothing(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 3, {"model": {"w": torch.ones(1)}}, {})
    (tmp_path / "checkpoint-3").rename(tmp_path / "checkpoint.old")
    (tmp_path / "checkpoint.tmp").mkdir()
    found = checkpoint.load(tmp_path)
    assert found is not None
    assert found.record["step"] == 3


def test_an_optimiser_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    def trained(steps: int, stop: int | None) -> torch.Tensor:
        w = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        optimizer = torch.optim.AdamW([w], lr=0.1)
        for step in range(steps):
            optimizer.zero_grad()
            w.square().sum().backward()
            optimizer.step()
            if step == stop:
                checkpoint.save(tmp_path, step, {"optimizer": checkpoint.moments(optimizer)}, {})
                found = checkpoint.load(tmp_path)
                assert found is not None
                optimizer = torch.optim.AdamW([w], lr=0.1)
                checkpoint.restore(optimizer, found.tensors["optimizer"])
        return w.detach()

    assert torch.equal(trained(6, stop=None), trained(6, stop=2))
