"""Training: it learns, it is reproducible, and it leaves the process as it found it."""

import json
import logging
import os
import sys
import warnings
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch

from rlrecbench.collab import TINY, Collab, Loss, SASRec, recbole_model, train
from rlrecbench.config import build
from rlrecbench.data.frame import Dataset, Examples
from rlrecbench.data.prepare import DataOptions, prepare
from rlrecbench.errors import BenchError, ConfigError, DataError
from rlrecbench.store import silent

SMALL = SASRec(layers=1, heads=2, hidden=16, inner=16, dropout=0.1, attention_dropout=0.1, lr=1e-2, epochs=4)


def recall(collab: Collab, data: Dataset, k: int) -> float:
    """Share of test rows whose target is among the k best of the catalogue."""
    best = collab.score("test", torch.arange(len(data.test))).topk(k).indices.numpy()
    return float((best == data.test.target[:, None]).any(1).mean())


def popular_recall(data: Dataset, k: int) -> float:
    """The same for the most popular items."""
    best = np.argsort(-data.popularity, kind="stable")[:k]
    return float(np.isin(data.test.target, best).mean())


@pytest.mark.parametrize("loss", ["bce", "bpr", "ce"])
def test_each_loss_learns_the_ring(loss: Loss, ring: Dataset, tmp_path: Path) -> None:
    train(ring, replace(SMALL, loss=loss, epochs=12), 1, tmp_path, silent)
    assert recall(Collab.read(tmp_path), ring, 3) > 0.8  # the walk goes on in 9 of 10 cases; chance is 3 in 40


def test_the_kept_epoch_is_the_best_on_validation(ring: Dataset, tmp_path: Path) -> None:
    train(ring, replace(SMALL, lr=0.1, epochs=8, patience=2), 1, tmp_path, silent)
    record = json.loads((tmp_path / "history.json").read_text())
    scores = [epoch["ndcg@10"] for epoch in record["epochs"]]
    assert record["best_epoch"] == 1 + scores.index(max(scores))
    collab, target = Collab.read(tmp_path), torch.from_numpy(ring.valid.target)[:, None]
    scored = collab.score("valid", torch.arange(len(ring.valid)))
    rank = (scored >= scored.gather(1, target)).sum(1).double()
    assert float(((rank <= 10) / (rank + 1).log2()).mean()) == pytest.approx(max(scores), abs=1e-9)


def test_training_stops_when_patience_is_used_up(ring: Dataset, tmp_path: Path) -> None:
    train(ring, replace(SMALL, lr=1e-9, epochs=9, patience=2, dropout=0.0), 1, tmp_path, silent)
    record = json.loads((tmp_path / "history.json").read_text())
    assert len(record["epochs"]) == record["best_epoch"] + 2 < 9


def test_same_seed_gives_the_same_bytes_and_another_seed_others(ring: Dataset, tmp_path: Path) -> None:
    digests: list[list[str]] = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        folder = tmp_path / name
        folder.mkdir()
        torch.manual_seed(len(digests))
        train(ring, replace(SMALL, epochs=2), seed, folder, silent)
        files = sorted(folder.iterdir())
        assert [f.name for f in files] == ["collab.safetensors", "history.json"]
        digests.append([sha256(f.read_bytes()).hexdigest() for f in files])
    assert digests[0] == digests[1]
    assert digests[0][0] != digests[2][0]


def test_process_is_left_as_it_was(
    ring: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "argv", ["rlrecbench", "--learning_rate=7", "--epochs=9"])
    for name in [m for m in sys.modules if m.split(".")[0] == "recbole"]:
        monkeypatch.delitem(sys.modules, name)
    before = _process()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        filters = list(warnings.filters)
        train(ring, replace(SMALL, epochs=1), 1, tmp_path / "out", silent)
        assert warnings.filters == filters
    assert "recbole.model.sequential_recommender.sasrec" in sys.modules
    assert _process() == before
    assert [str(w.message) for w in caught] == []
    assert list((tmp_path / "here").iterdir()) == []
    assert capfd.readouterr() == ("", "")


def _process() -> dict[str, object]:
    """What RecBole is known to change."""
    root = logging.getLogger()
    return {
        "argv": list(sys.argv),
        "folder": Path.cwd(),
        "environment": dict(os.environ),
        "logging": (list(root.handlers), root.level, logging.root.manager.disable),
        "streams": (sys.stdout, sys.stderr, sys.excepthook),
        "numpy": set(dir(np)),
        "numpy draws": str(np.random.get_state()),
        "torch draws": torch.get_rng_state().tolist(),
        "torch": (
            torch.is_anomaly_enabled(),
            torch.is_grad_enabled(),
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.benchmark,
            torch.get_num_threads(),
        ),
    }


def test_progress_runs_from_zero_to_the_end(ring: Dataset, tmp_path: Path) -> None:
    seen: list[tuple[float, float, str]] = []
    train(ring, replace(SMALL, epochs=2), 1, tmp_path, lambda *told: seen.append(told))
    done = [d for d, _, _ in seen]
    assert (done[0], done[-1], seen[-1][1]) == (0, 2, 2)
    assert done == sorted(done)
    assert len(done) > 2 * len(ring.train) // SMALL.batch_size
    assert "loss" in seen[-2][2]


def test_only_training_pairs_are_learned_from(ring: Dataset, tmp_path: Path) -> None:
    """With other validation targets and test rows, one epoch gives the same item vectors."""
    test = Examples.make([0], [[5]], [6])
    valid = replace(ring.valid, target=(ring.valid.target + 7) % ring.n_items)
    other = replace(ring, valid=valid, test=test)
    items = []
    for name, data in (("a", ring), ("b", other)):
        (tmp_path / name).mkdir()
        train(data, replace(SMALL, epochs=1), 1, tmp_path / name, silent)
        items.append(Collab.read(tmp_path / name).items)
    assert torch.equal(items[0], items[1])


def test_an_exploding_loss_is_told_with_the_way_out(ring: Dataset, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"loss is nan in epoch \d; lower lr"):
        train(ring, replace(SMALL, lr=1e30), 1, tmp_path, silent)


def test_too_little_data_is_an_error(ring: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ring: SASRec needs validation rows"):
        train(replace(ring, valid=ring.valid.head(0)), SMALL, 1, tmp_path, silent)


def test_missing_recbole_is_told_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "recbole.model.sequential_recommender.sasrec", None)
    with pytest.raises(BenchError, match=r"needs RecBole.*uv sync"):
        recbole_model(SMALL, 5, 5)


def test_settings_are_checked_when_they_are_read() -> None:
    assert build(SASRec, {"loss": "ce"}, "collab").loss == "ce"
    with pytest.raises(ConfigError, match=r"collab: hidden must be a multiple of heads, found 64 and 3"):
        build(SASRec, {"heads": 3}, "collab")
    with pytest.raises(ConfigError, match=r"collab: dropout"):
        build(SASRec, {"dropout": 1.5}, "collab")


@pytest.mark.slow
def test_tiny_beats_the_most_popular_films(tmp_path: Path) -> None:
    data = prepare("ml-100k", DataOptions(last=50, max_history=10), [])
    train(data, TINY, 42, tmp_path, silent)
    assert recall(Collab.read(tmp_path), data, 10) > 1.25 * popular_recall(data, 10)
