"""Our numbers against RecBole's own: the scores of its model, and an epoch of its Trainer."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rlrecbench.collab import (
    Collab,
    Loss,
    Pairs,
    SASRec,
    bce,
    gradient_step,
    recbole_config,
    recbole_model,
    train,
    user_states,
)
from rlrecbench.data.frame import Dataset

SMALL = SASRec(layers=2, heads=2, hidden=16, inner=32, lr=1e-2, epochs=1)


def test_scores_are_those_of_full_sort_predict(ring: Dataset) -> None:
    """RecBole's padding item 0 is dropped; histories are padded to the longest, as RecBole's loader does."""
    torch.manual_seed(0)
    model = recbole_model(SMALL, ring.n_items, 6).eval()
    rows = range(len(ring.train))
    collab = Collab(model.item_embedding.weight.detach()[1:], {"train": user_states(model, ring.train)})
    sequence = np.zeros((len(rows), 6), np.int64)
    for row in rows:
        history = ring.train.history(row)
        sequence[row, : len(history)] = history + 1
    fields = {"item_id_list": torch.from_numpy(sequence), "item_length": torch.from_numpy(ring.train.lengths)}
    with torch.no_grad():
        theirs = model.full_sort_predict(fields)
    assert len(set(ring.train.lengths.tolist())) == 6
    assert torch.allclose(collab.score("train", torch.tensor(rows)), theirs[:, 1:], atol=1e-6)


def test_written_scores_are_those_of_the_trained_model(ring: Dataset, tmp_path: Path) -> None:
    train(ring, replace(SMALL, epochs=2), 1, tmp_path, lambda *_: None)
    collab = Collab.read(tmp_path)
    assert collab.items.shape == (ring.n_items, 16)
    for part in ("train", "valid", "test"):
        assert collab.states(part).shape == (len(ring.part(part)), 16)
        assert collab.states(part).dtype == torch.float32
    assert len(json.loads((tmp_path / "history.json").read_text())["epochs"]) == 2


@pytest.fixture
def trainer_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let RecBole's Config and Trainer run on numpy 2, and undo afterwards what they change."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["recbole"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    kept = {"bool": bool, "int": int, "float": float, "complex": complex, "object": object, "str": str}
    added = {"float_": np.float64, "complex_": np.complex128, "unicode_": np.str_, "long": int, "unicode": str}
    for name, value in (kept | added).items():
        monkeypatch.setattr(np, name, value, raising=False)


@pytest.mark.usefixtures("trainer_world")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("loss", ["ce", "bpr"])
def test_an_epoch_equals_an_epoch_of_recboles_trainer(loss: Loss, ring: Dataset) -> None:
    settings = replace(SMALL, loss=loss)
    torch.manual_seed(3)
    ours = recbole_model(settings, ring.n_items, 6)
    from recbole.config import Config
    from recbole.data.interaction import Interaction
    from recbole.trainer.trainer import Trainer

    words = {k: v for k, v in recbole_config(settings, 6).items() if k != "device"}
    config = Config(
        model=type(ours),
        dataset="ring",
        config_dict={**words, "learning_rate": settings.lr, "train_neg_sample_args": None},
    )
    torch.manual_seed(3)
    theirs = recbole_model(settings, ring.n_items, 6)
    pairs, rng = Pairs(ring.train, ring.n_items), np.random.default_rng(0)
    batches = [pairs.fields(rows, rng) for rows in np.array_split(rng.permutation(len(ring.train)), 10)]

    torch.manual_seed(4)
    total = Trainer(config, theirs)._train_epoch([Interaction(dict(b)) for b in batches], 0)
    torch.manual_seed(4)
    optimizer = torch.optim.Adam(ours.train().parameters(), lr=settings.lr, fused=True)
    losses = [float(gradient_step(ours, optimizer, settings.loss, batch)) for batch in batches]

    assert sum(losses) == pytest.approx(total, rel=1e-5)
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        # Attention ignores a constant added to all keys: that gradient is rounding, which Adam scales up.
        assert "key.bias" in name or torch.allclose(a, b, atol=1e-5), name


def test_bce_is_the_cross_entropy_of_two_classes(ring: Dataset) -> None:
    torch.manual_seed(0)
    model = recbole_model(SMALL, ring.n_items, 6).eval()
    rows = np.arange(20)
    fields = Pairs(ring.train, ring.n_items).fields(rows, np.random.default_rng(0))
    scores = user_states(model, ring.train, rows) @ model.item_embedding.weight.detach().T
    at = torch.arange(20)
    chance = scores.sigmoid()
    positive, negative = chance[at, fields["item_id"]], chance[at, fields["neg_item_id"]]
    expected = -(positive.log() + (1 - negative).log()).mean()
    assert float(bce(model, fields).detach()) == pytest.approx(float(expected), abs=1e-6)
