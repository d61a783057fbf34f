"""The collaborative model's training goes on from a checkpoint as if nothing had happened, dropout included."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

from rlrecbench import checkpoint, collab
from rlrecbench.data.frame import Dataset, Examples
from rlrecbench.store import silent

N, USERS = 12, 40
SETTINGS = collab.SASRec(layers=1, heads=1, hidden=8, inner=8, dropout=0.3, epochs=6, patience=6, batch_size=16)


class StoppedError(Exception):
    """What a report raises when the run is being stopped."""


def walk() -> Dataset:
    """Users who go on by one item; three positions to learn from."""

    def part(ends: range) -> Examples:
        rows = [(u, [(u + i) % N for i in range(end)], (u + end) % N) for u in range(USERS) for end in ends]
        user, history, target = zip(*rows, strict=True)
        return Examples.make(list(user), list(history), list(target))

    ids = [str(i) for i in range(N)]
    items = pd.DataFrame({"item_id": ids, "title": ids, "text": ids})
    names = np.arange(USERS).astype(str)
    parts = part(range(1, 4)), part(range(4, 5)), part(range(5, 6))
    return Dataset("walk", "leave-one-out", items, names, *parts, {"max_history": 5}, "")


@pytest.mark.parametrize("stop", [2, 5])
def test_a_training_stopped_in_an_epoch_ends_with_the_same_bytes(
    tmp_path: Path, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collab, "_CHECKPOINT_S", 0.0)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    collab.train(walk(), SETTINGS, 1, whole, silent)

    def stopping(done: float, total: float, note: str) -> None:
        if stop < done < stop + 1:  # the last whole epoch is saved, this one is lost
            raise StoppedError

    with pytest.raises(StoppedError):
        collab.train(walk(), SETTINGS, 1, parts, stopping)
    found = checkpoint.load(parts)
    assert found is not None
    assert len(found.record["epochs"]) == stop
    begun: list[float] = []
    collab.train(walk(), SETTINGS, 1, parts, lambda done, total, note: begun.append(done))
    assert begun[0] == stop
    for name in ("collab.safetensors", "history.json"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()
    assert set(load_file(whole / "collab.safetensors")) == {"items", "train", "valid", "test"}


def test_patience_that_ran_out_before_the_stop_is_not_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing learned after the first epoch and a patience of 2, epochs 2 and 3 are the last."""
    monkeypatch.setattr(collab, "_CHECKPOINT_S", 0.0)
    settings = collab.SASRec(layers=1, heads=1, hidden=8, inner=8, dropout=0.0, lr=1e-12, epochs=9, patience=2)

    def stopping(done: float, total: float, note: str) -> None:
        if done == total:
            raise StoppedError

    with pytest.raises(StoppedError):
        collab.train(walk(), settings, 1, tmp_path, stopping)
    begun: list[float] = []
    collab.train(walk(), settings, 1, tmp_path, lambda done, total, note: begun.append(done))
    assert begun == [9]  # nothing is left to train
    found = checkpoint.load(tmp_path)
    assert found is not None
    assert len(found.record["epochs"]) == 3
