"""The collaborative model: RecBole's SASRec in, scores of every item for every row of a data set out.

No other file imports RecBole. Of RecBole only the model is used: its ``Config``, ``Trainer`` and data loaders
read ``sys.argv``, write folders into the working directory, reset global seeds and loggers and set
``CUDA_VISIBLE_DEVICES``; importing the model does none of this, and it asks of its configuration and its data
set only what a dictionary and a number of items answer. ``tests/collab`` checks that an epoch of the loop
here ends with the same weights as an epoch of RecBole's own ``Trainer`` on the same batches.

RecBole's item 0 is padding, so its item ``i + 1`` is our item ``i``; that is the only mapping.
"""

import copy
import json
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import softplus

from rlrecbench import checkpoint
from rlrecbench.config import Count, Positive, Share
from rlrecbench.data.frame import PARTS, Dataset, Examples, Part
from rlrecbench.errors import BenchError, DataError
from rlrecbench.seeds import stream
from rlrecbench.store import Report

Ints = NDArray[np.int64]
Fields = dict[str, Tensor]
Loss = Literal["bce", "bpr", "ce"]

_FILE = "collab.safetensors"
_CHECKPOINT_S = 60.0  # between checkpoints, which are made after whole epochs
_SEQUENCE, _LENGTH, _ITEM, _NEGATIVE = "item_id_list", "item_length", "item_id", "neg_item_id"


@dataclass(frozen=True)
class SASRec:
    """Self-attentive sequential recommendation; positions go up to the data's longest history.

    With bce and bpr a user's own items are never negatives, so the item just seen usually scores highest and
    costs a rank where history counts as candidates; ce learns that nobody buys it again. Beauty, test recall@5
    over the full catalogue: bce .021 after 40 epochs, ce .049 after 7 (dropout .3, none in attention).

    Source: Kang and McAuley 2018; RecBole 1.2.1's defaults where the paper has no such setting.
    """

    layers: Count = 2  # self-attention blocks; paper
    heads: Count = 2  # attention heads per block; RecBole (the paper has 1)
    hidden: Count = 64  # width of item embeddings and user states; RecBole
    inner: Count = 256  # width of the feed-forward layers; RecBole
    dropout: Share = (
        0.3  # of embeddings and layer outputs; between the paper's .2 and .5, chosen on Beauty's validation part
    )
    attention_dropout: Share = 0.0  # of attention weights; RecBole has .5, which costs most of a CPU's time
    lr: Positive = 1e-3  # Adam's learning rate, constant; paper
    batch_size: Count = 512  # training pairs per step
    epochs: Count = 200  # at most; paper
    patience: Count = 10  # epochs without a better ndcg@10 on validation before training stops; RecBole
    loss: Loss = "ce"  # over the whole catalogue; RecBole. bce: one negative, sigmoid(score) is a probability; paper
    valid_rows: Count = 10_000  # validation rows that select the epoch, evenly spaced over all of them

    def __post_init__(self) -> None:
        if self.hidden % self.heads:
            raise ValueError(f"hidden must be a multiple of heads, found {self.hidden} and {self.heads}")


PAPER = SASRec()
TINY = SASRec(layers=1, heads=1, inner=64, dropout=0.0, attention_dropout=0.0, lr=3e-3, epochs=4, patience=2)


def train(
    dataset: Dataset,
    settings: SASRec,
    seed: int,
    folder: Path,
    report: Report,
    device: torch.device | str = "cpu",
) -> None:
    """Train SASRec on the training pairs, or go on with it, and write what :class:`Collab` reads.

    The epoch with the best ndcg@10 on validation is kept. Written: ``collab.safetensors`` (item embeddings
    and the user state of every row of every part) and ``history.json`` (loss and validation per epoch).

    Args:
        dataset: The data; only ``dataset.train`` is learned from.
        settings: The model and its budget.
        seed: Root seed; the same seed gives the same bytes on the same machine.
        folder: Where to write, and where checkpoints are kept.
        report: Receives progress in epochs.
        device: Where to compute.

    Raises:
        BenchError: RecBole is not installed, or the loss is no longer a number.
        DataError: The data set is too small to learn from.
    """
    for part, rows in (("training", dataset.train), ("validation", dataset.valid)):
        if not len(rows):
            raise DataError(f"{dataset.name}: SASRec needs {part} rows, found none; use a larger data set")
    if dataset.n_items < 2:
        raise DataError(f"{dataset.name}: SASRec needs at least 2 items; use a larger data set")
    device = torch.device(device)
    cuda = list(range(torch.cuda.device_count())) if device.type == "cuda" else []
    with torch.random.fork_rng(cuda):
        torch.manual_seed(stream(seed, "collab", "model"))
        width = max(int(dataset.part(part).lengths.max(initial=1)) for part in PARTS)
        model = recbole_model(settings, dataset.n_items, width).to(device)
        history = _fit(model, dataset, settings, seed, folder, report)
    tensors: dict[str, Tensor] = {part: user_states(model, dataset.part(part)) for part in PARTS}
    tensors["items"] = model.item_embedding.weight.detach()[1:].cpu().clone()
    save_file(tensors, folder / _FILE)
    (folder / "history.json").write_text(json.dumps(history, indent=1))


class Collab:
    """Scores of a trained collaborative model: the product of user states and item embeddings.

    Attributes:
        items: Item embeddings, [N, D].
    """

    def __init__(self, items: Tensor, states: dict[Part, Tensor]) -> None:
        self.items = items
        self._states = states

    @classmethod
    def read(cls, folder: Path, device: torch.device | str = "cpu") -> "Collab":
        """Read what :func:`train` wrote; needs no RecBole."""
        arrays = load_file(folder / _FILE, device=str(device))
        return cls(arrays["items"], {part: arrays[part] for part in PARTS})

    def to(self, device: torch.device | str) -> "Collab":
        """The same scores on another device."""
        return Collab(self.items.to(device), {part: x.to(device) for part, x in self._states.items()})

    def states(self, part: Part) -> Tensor:
        """User states of the rows of a part, [R, D]."""
        return self._states[part]

    def score(self, part: Part, rows: Tensor) -> Tensor:
        """Raw scores of all items for some rows of a part: [B] -> [B, N].

        The sigmoid of a raw score is a probability only if the model was trained with ``loss: bce``.
        """
        with _full_precision(self.items):
            return self._states[part][rows.to(self.items.device)] @ self.items.T

    def of(self, part: Part, rows: Tensor, items: Tensor) -> Tensor:
        """Raw scores of candidates: rows [B], items [B, C] -> [B, C]; 0 where an item is absent (-1)."""
        state = self._states[part][rows.to(self.items.device)]
        at = items.to(self.items.device)
        with _full_precision(self.items):
            scores = (self.items[at.clamp(min=0)] @ state[:, :, None]).squeeze(-1)
        return scores.masked_fill(at < 0, 0.0)


def _full_precision(x: Tensor) -> torch.autocast:
    """Autocast off: rewards must not depend on the precision that the policy trains in."""
    return torch.autocast(x.device.type, enabled=False)


def recbole_model(settings: SASRec, n_items: int, width: int) -> Any:
    """Build RecBole's SASRec for N items and histories of at most ``width`` items.

    Raises:
        BenchError: RecBole cannot be imported.
    """
    # Importing any of RecBole's sequential models switches torch's anomaly detection on (its SINE does): a
    # training step then takes three times as long.
    anomaly = torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from recbole.model.sequential_recommender.sasrec import SASRec as Model
    except ImportError as e:
        raise BenchError(
            f"SASRec needs RecBole, which cannot be imported ({e}); install it with 'uv sync', or on "
            "Python 3.11 with 'pip install recbole==1.2.1'"
        ) from e
    finally:
        torch.autograd.set_detect_anomaly(*anomaly)
    return Model(recbole_config(settings, width), _Items(n_items + 1))


def recbole_config(settings: SASRec, width: int) -> dict[str, Any]:
    """Say the settings in RecBole's words: all that its SASRec reads of a configuration."""
    return {
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": _ITEM,
        "LIST_SUFFIX": _SEQUENCE.removeprefix(_ITEM),
        "ITEM_LIST_LENGTH_FIELD": _LENGTH,
        "NEG_PREFIX": _NEGATIVE.removesuffix(_ITEM),
        "MAX_ITEM_LIST_LENGTH": width,
        "device": "cpu",
        "n_layers": settings.layers,
        "n_heads": settings.heads,
        "hidden_size": settings.hidden,
        "inner_size": settings.inner,
        "hidden_dropout_prob": settings.dropout,
        "attn_dropout_prob": settings.attention_dropout,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "initializer_range": 0.02,
        "loss_type": "CE" if settings.loss == "ce" else "BPR",
    }


@dataclass(frozen=True)
class _Items:
    """What RecBole's model asks of a data set."""

    count: int

    def num(self, field: str) -> int:
        return self.count


def _fit(model: Any, dataset: Dataset, settings: SASRec, seed: int, folder: Path, report: Report) -> dict[str, Any]:
    """Train from the last checkpoint on; leave the best epoch's weights in the model, return the record of training."""
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.lr, fused=True)
    pairs = Pairs(dataset.train, dataset.n_items)
    count = min(settings.valid_rows, len(dataset.valid))
    valid_rows = np.linspace(0, len(dataset.valid) - 1, count).astype(np.int64)
    epochs: list[dict[str, float]] = []
    best, kept, note = 0, copy.deepcopy(model.state_dict()), ""
    if (found := checkpoint.load(folder)) is not None:
        epochs, best, kept = found.record["epochs"], found.record["best"], found.tensors["best"]
        model.load_state_dict(found.tensors["model"])
        checkpoint.restore(optimizer, found.tensors["optimizer"])
        _restore_random(found.tensors["random"], model.item_embedding.weight.device)
    saved = time.perf_counter()
    for epoch in range(len(epochs), settings.epochs):
        if len(epochs) - best > settings.patience:
            break
        rng = np.random.default_rng(stream(seed, "collab", "epoch", epoch))
        batches = list(shuffled(dataset.train.lengths, settings.batch_size, rng))
        losses = []
        model.train()
        for i, rows in enumerate(batches):
            report(epoch + i / len(batches), settings.epochs, note)
            losses.append(gradient_step(model, optimizer, settings.loss, pairs.fields(rows, rng)))
        loss = float(torch.stack(losses).mean())
        if not np.isfinite(loss):
            raise BenchError(f"SASRec's loss is {loss} in epoch {epoch + 1}; lower lr (now {settings.lr})")
        epochs.append({"loss": loss, **validate(model, dataset.valid, valid_rows)})
        note = f"loss {loss:.4f}, valid ndcg@10 {epochs[-1]['ndcg@10']:.4f}"
        if epoch == 0 or epochs[epoch]["ndcg@10"] > epochs[best]["ndcg@10"]:
            best, kept = epoch, copy.deepcopy(model.state_dict())
        if time.perf_counter() - saved > _CHECKPOINT_S:
            state = {
                "model": model.state_dict(), "best": kept, "optimizer": checkpoint.moments(optimizer),
                "random": _random(model.item_embedding.weight.device),
            }  # fmt: skip
            checkpoint.save(folder, len(epochs), state, {"epochs": epochs, "best": best})
            saved = time.perf_counter()
    report(settings.epochs, settings.epochs, f"kept epoch {best + 1} of {len(epochs)}")
    model.load_state_dict(kept)
    return {"best_epoch": best + 1, "valid_rows": count, "epochs": epochs}


def _random(device: torch.device) -> dict[str, Tensor]:
    """The state of the generators that a model on this device draws from."""
    on_gpu = {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}
    return {"cpu": torch.get_rng_state(), **on_gpu}


def _restore_random(states: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)


def gradient_step(model: Any, optimizer: torch.optim.Optimizer, loss: Loss, fields: Fields) -> Tensor:
    """Take one step on a batch in RecBole's fields; return the loss, detached."""
    fields = {name: value.to(model.item_embedding.weight.device) for name, value in fields.items()}
    optimizer.zero_grad()
    value: Tensor = bce(model, fields) if loss == "bce" else model.calculate_loss(fields)
    torch.autograd.backward(value)
    optimizer.step()
    return value.detach()


def bce(model: Any, fields: Fields) -> Tensor:
    """Binary cross-entropy of one positive and one negative item per pair, the mean over pairs.

    Source: SASRec, section 3.5. RecBole's SASRec offers bpr and ce only.
    """
    state = model.forward(fields[_SEQUENCE], fields[_LENGTH])  # [B, D]
    positive = (state * model.item_embedding(fields[_ITEM])).sum(-1)  # [B]
    negative = (state * model.item_embedding(fields[_NEGATIVE])).sum(-1)
    return (softplus(-positive) + softplus(negative)).mean()


class Pairs:
    """Training pairs with one negative each: uniform over the items that the user has not used in training.

    Source: the samplers of SASRec and RecBole. A user who has used nearly everything may get a used item
    after ten tries, but never the target.
    """

    def __init__(self, examples: Examples, n_items: int) -> None:
        self.examples = examples
        self.n_items = n_items
        user = np.concatenate([np.repeat(examples.user, examples.lengths), examples.user])
        self._used = np.unique(user * n_items + np.concatenate([examples.values, examples.target]))

    def negatives(self, rows: Ints, rng: np.random.Generator) -> Ints:
        """One negative item for each pair, [B]."""
        user, target = self.examples.user[rows], self.examples.target[rows]
        drawn = np.empty_like(target)
        bad = np.arange(len(rows))
        for _ in range(10):
            drawn[bad] = (target[bad] + rng.integers(1, self.n_items, len(bad))) % self.n_items
            key = user[bad] * self.n_items + drawn[bad]
            at = np.minimum(np.searchsorted(self._used, key), len(self._used) - 1)
            bad = bad[self._used[at] == key]
        return drawn

    def fields(self, rows: Ints, rng: np.random.Generator) -> Fields:
        """A batch in RecBole's fields and item numbers."""
        return {
            **histories(self.examples, rows),
            _ITEM: torch.from_numpy(self.examples.target[rows] + 1),
            _NEGATIVE: torch.from_numpy(self.negatives(rows, rng) + 1),
        }


def shuffled(lengths: Ints, size: int, rng: np.random.Generator) -> Iterator[Ints]:
    """Random batches of rows of similar length: rows are sorted within random groups of 32 batches."""
    order = rng.permutation(len(lengths))
    groups = [order[i : i + 32 * size] for i in range(0, len(order), 32 * size)]
    rows = np.concatenate([g[np.argsort(lengths[g], kind="stable")] for g in groups])
    for i in rng.permutation(-(-len(rows) // size)):
        yield rows[i * size : (i + 1) * size]


def histories(examples: Examples, rows: Ints) -> Fields:
    """Histories in RecBole's fields and item numbers; an empty one is a single padding item."""
    return {
        _SEQUENCE: torch.from_numpy(examples.padded(rows) + 1),
        _LENGTH: torch.from_numpy(np.maximum(examples.lengths[rows], 1)),
    }


@torch.no_grad()
def user_states(model: Any, examples: Examples, rows: Ints | None = None) -> Tensor:
    """User states of rows (None: all) with dropout off, on the CPU, [R, D] float32."""
    rows = np.arange(len(examples)) if rows is None else rows
    device = model.item_embedding.weight.device
    model.eval()
    states = torch.empty(len(rows), model.hidden_size)
    order = np.argsort(examples.lengths[rows], kind="stable")
    for i in range(0, len(order), 1024):
        at = order[i : i + 1024]
        fields = histories(examples, rows[at])
        states[torch.from_numpy(at)] = model(fields[_SEQUENCE].to(device), fields[_LENGTH].to(device)).cpu()
    return states


@torch.no_grad()
def validate(model: Any, valid: Examples, rows: Ints) -> dict[str, float]:
    """Recall and ndcg at 10 over the full catalogue; among equal scores the target ranks last."""
    items = model.item_embedding.weight[1:]  # [N, D]
    states, targets = user_states(model, valid, rows).to(items), torch.from_numpy(valid.target[rows])
    ranks = torch.empty(len(rows), dtype=torch.float64)
    for i in range(0, len(rows), 512):
        scores = states[i : i + 512] @ items.T  # [B, N]
        wanted = scores.gather(1, targets[i : i + 512, None].to(items.device))
        ranks[i : i + 512] = (scores >= wanted).sum(1).cpu()
    hit = (ranks <= 10).double()
    return {"recall@10": float(hit.mean()), "ndcg@10": float((hit / (ranks + 1).log2()).mean())}
