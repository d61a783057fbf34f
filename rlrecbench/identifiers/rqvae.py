"""Training of RQ-VAE on all items of a catalogue, and of LETTER, which adds two losses to it."""

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import mse_loss

from rlrecbench import checkpoint
from rlrecbench.errors import BenchError
from rlrecbench.identifiers.clusters import codebook
from rlrecbench.identifiers.codes import Identifiers
from rlrecbench.identifiers.collisions import reassigned
from rlrecbench.identifiers.letter import Clusters, alignment, diversity
from rlrecbench.identifiers.quantiser import Quantiser, nearest
from rlrecbench.identifiers.settings import LetterIds, Quantised
from rlrecbench.seeds import generator, stream
from rlrecbench.store import Report, silent

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Json = dict[str, Any]
_AT_ONCE = 8192  # items per pass without gradient
_BETTER = 0.999  # a reconstruction error counts as better below this share of the best one
_CHECKPOINT_S = 60.0


class Trained(NamedTuple):
    """A trained quantiser.

    Attributes:
        codes: Code of each item at each level, [N, L]; items of equal features have equal codes.
        model: The network.
        history: One entry per look at all items: epoch, mean losses of the epoch's batches, then over all items with
            their nearest codes the reconstruction error, collisions and usage, then how many codes were revived.
        seconds: Time that training took, over all tries.
    """

    codes: Ints
    model: Quantiser
    history: list[Json]
    seconds: float


def train(
    features: Floats,
    settings: Quantised,
    embeddings: Tensor | None = None,
    *,
    folder: Path | None = None,
    device: torch.device | str = "cpu",
    report: Report = silent,
) -> Trained:
    """Train a quantiser of the items' features and give the items their codes.

    It ends when neither fewer items collide nor the reconstruction error falls any more.

    Args:
        features: Of all items, [N, D]; they are centred and scaled to a mean square of 1.
        settings: The network and its training; with :class:`LetterIds` LETTER's losses are added.
        embeddings: Collaborative embeddings of the items, [N, latent]; for LETTER's alignment.
        folder: Where a checkpoint is kept; training goes on from what is there.
        device: Where to compute.
        report: Receives progress in epochs.

    Returns:
        Codes, network and log.

    Raises:
        BenchError: The loss is no longer a number.
    """
    cuda = list(range(torch.cuda.device_count())) if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(cuda):
        torch.manual_seed(stream(settings.seed, "quantiser"))
        return _Training(features, settings, embeddings, folder, torch.device(device)).run(report)


class _Training:
    """The state of one training."""

    def __init__(
        self,
        features: Floats,
        settings: Quantised,
        embeddings: Tensor | None,
        folder: Path | None,
        device: torch.device,
    ) -> None:
        self.settings, self.folder, self.device = settings, folder, device
        self.letter = settings if isinstance(settings, LetterIds) else None
        x = standardised(features)
        self.features = torch.from_numpy(x).to(device)
        distinct, row_of = np.unique(x, axis=0, return_inverse=True)
        self.row_of = row_of.reshape(-1)  # distinct row of each item, [N]
        self.distinct = torch.from_numpy(distinct).to(device)
        self.embeddings = None if embeddings is None else embeddings.detach().to(device, torch.float32)
        if self.letter is not None and self.letter.alignment > 0:
            given = None if self.embeddings is None else tuple(self.embeddings.shape)
            if given != (len(x), settings.latent):
                raise ValueError(f"alignment needs embeddings [{len(x)}, {settings.latent}], found {given}")
        self.model = Quantiser(
            settings.layers(x.shape[1]),
            settings.levels,
            settings.codes,
            commitment=settings.commitment,
            straight_through=settings.straight_through,
            batch_norm=settings.batch_norm and len(distinct) > 1,
        ).to(device)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True
        )
        self.clusters: Clusters | None = None
        self.epoch, self.history = 0, list[Json]()
        self.began, self.before = time.perf_counter(), 0.0  # this try, and seconds of the tries before it

    def run(self, report: Report) -> Trained:
        """Train to the end."""
        if not self._resume():
            self._begin(report)
        saved = time.perf_counter()
        while self.epoch < self.settings.epochs and not self._settled():
            losses = self._train_epoch()
            self.epoch += 1
            if not math.isfinite(losses["loss"]):
                raise self._diverged(losses["loss"])
            if self.epoch % self.settings.evaluate == 0 or self.epoch == self.settings.epochs:
                self._look(losses)
                if self.folder is not None and time.perf_counter() - saved > _CHECKPOINT_S:
                    self._save(self.folder)
                    saved = time.perf_counter()
            report(self.epoch, self.settings.epochs, self._note())
        return Trained(self._codes(), self.model.cpu(), self.history, self._seconds())

    # --- one epoch ------------------------------------------------------------------------------------------

    def _train_epoch(self) -> dict[str, float]:
        """Pass over all items once in random order; mean losses."""
        self.model.train()
        if self.letter is not None and self.epoch % self.letter.cluster_every == 0:
            self._cluster(self.letter)
        random = generator(self.settings.seed, "quantiser", "epoch", self.epoch)
        order = torch.randperm(len(self.features), generator=random).to(self.device)
        batches = order.tensor_split(-(-len(order) // self.settings.batch_size))  # sizes differ by one at most
        total: dict[str, Tensor] = {}
        for rows in batches:
            try:
                losses = self._losses(rows, random)
            except ValueError as e:  # the uniform mapping refuses distances that are not finite
                raise self._diverged(math.nan) from e
            self.optimizer.zero_grad()
            torch.autograd.backward(losses["loss"])
            self.optimizer.step()
            for name, value in losses.items():
                total[name] = total.get(name, torch.zeros((), device=self.device)) + value.detach() / len(batches)
        return {name: float(value) for name, value in total.items()}

    def _losses(self, rows: Tensor, random: torch.Generator) -> dict[str, Tensor]:
        x, model = self.features[rows], self.model
        out = model.quantise(model.encoder(x), self.settings.sinkhorn)
        losses = {"reconstruction": mse_loss(model.decoder(out.latent), x), "quantisation": out.loss}
        loss = losses["reconstruction"] + losses["quantisation"]
        if self.letter is not None and self.letter.alignment > 0:
            assert self.embeddings is not None  # noqa: S101 - checked at the start
            losses["alignment"] = alignment(out.latent, self.embeddings[rows])
            loss = loss + self.letter.alignment * losses["alignment"]
        if self.letter is not None and self.clusters is not None:
            partners = self.clusters.partners(out.codes, random)
            losses["diversity"] = diversity(model.codebooks, out.codes, partners)
            loss = loss + self.letter.diversity * losses["diversity"]
        return {"loss": loss, **losses}

    def _cluster(self, letter: LetterIds) -> None:
        if letter.diversity > 0 and letter.codes > 1:
            self.clusters = Clusters.of(self.model.codebooks, letter.clusters, stream(letter.seed, "epoch", self.epoch))

    # --- looks at all items ---------------------------------------------------------------------------------

    @torch.no_grad()
    def _begin(self, report: Report) -> None:
        """Let every codebook begin at clusters of what the levels before leave over of all items."""
        self.model.train()  # batch normalisation has no running statistics yet
        residual = self._encoded()
        for level in range(self.settings.levels):
            report(0, self.settings.epochs, f"codebook {level + 1} of {self.settings.levels}")
            last = level + 1 == self.settings.levels
            points = residual.double().cpu().numpy()
            made = codebook(
                points[self.row_of],
                self.settings.codes,
                stream(self.settings.seed, "codebook", level),
                bound=self.settings.init == "constrained",
            )
            self.model.codebooks[level] = torch.from_numpy(made).to(residual)
            if not last:
                residual = residual - self.model.codebooks[level][nearest(residual, self.model.codebooks[level])]

    def _look(self, losses: dict[str, float]) -> None:
        """Write down how all items fare, then move codes that none of them has, unless this was the last look."""
        codes, residuals, error = self._quantised()
        ids = Identifiers(codes[self.row_of], (self.settings.codes,) * self.settings.levels)
        use = ids.report()
        line = {
            "epoch": self.epoch,
            **losses,
            "error": error,
            "collision_rate": ids.collision_rate,
            "used": use["used"],
            "perplexity": use["perplexity"],
            "revived": 0,
        }
        self.history.append(line)
        if self._revival_due() and self.epoch < self.settings.epochs and not self._settled():
            line["revived"] = self._revive(codes, residuals)

    def _revival_due(self) -> bool:
        """Whether a multiple of ``revive`` epochs has passed since the look before."""
        every, since = self.settings.revive, self.epoch - self.settings.evaluate
        return every > 0 and self.epoch // every > since // every

    def _revive(self, codes: Ints, residuals: Sequence[Tensor]) -> int:
        """Move each unused code to the residual of a random item, without momentum; how many were moved."""
        random = np.random.default_rng(stream(self.settings.seed, "revive", self.epoch))
        moved = 0
        state = self.optimizer.state[self.model.codebooks]
        for level, residual in enumerate(residuals):
            dead = np.setdiff1d(np.arange(self.settings.codes), codes[:, level])
            if len(residual) <= self.settings.codes or not len(dead):
                continue
            to = torch.from_numpy(random.choice(len(residual), len(dead), replace=False))
            at = torch.from_numpy(dead).to(self.device)
            with torch.no_grad():
                self.model.codebooks[level, at] = residual[to.to(self.device)]
                for name in ("exp_avg", "exp_avg_sq"):
                    state[name][level, at] = 0
            moved += len(dead)
        return moved

    @torch.no_grad()
    def _encoded(self) -> Tensor:
        """Latents of the distinct items."""
        parts = self.distinct.tensor_split(-(-len(self.distinct) // _AT_ONCE))
        return torch.cat([self.model.encoder(part) for part in parts])

    @torch.no_grad()
    def _quantised(self) -> tuple[Ints, list[Tensor], float]:
        """Nearest codes of the distinct items [n, L], each level's residual [n, E], and all items' error."""
        self.model.eval()
        residual = self._encoded()
        codes, residuals, total = [], [], torch.zeros_like(residual)
        for book in self.model.codebooks:
            chosen = nearest(residual, book)
            codes.append(chosen.cpu().numpy())
            residuals.append(residual)
            residual, total = residual - book[chosen], total + book[chosen]
        made = torch.cat([self.model.decoder(part) for part in total.split(_AT_ONCE)])
        weight = torch.from_numpy(np.bincount(self.row_of, minlength=len(made))).to(made)
        error = float((weight[:, None] * (made - self.distinct).square()).sum() / self.features.numel())
        return np.stack(codes, 1), residuals, error

    def _codes(self) -> Ints:
        """Nearest codes of all items, colliding ones reassigned."""
        codes, residuals, _ = self._quantised()
        codes = codes[self.row_of]
        if self.settings.reassign:
            residual = residuals[-1][torch.from_numpy(self.row_of).to(self.device)]
            book = self.model.codebooks[-1].detach()
            codes = reassigned(codes, residual, book, self.settings.sinkhorn, self.settings.reassign)
        return codes

    def _settled(self) -> bool:
        """Tell whether neither collisions nor the reconstruction error have fallen for ``patience`` epochs."""
        last, rate, error = 0, math.inf, math.inf
        for line in self.history:
            if line["collision_rate"] < rate or line["error"] < _BETTER * error:
                last = line["epoch"]
                rate, error = min(rate, line["collision_rate"]), min(error, line["error"])
        return self.epoch - last >= self.settings.patience

    def _diverged(self, loss: float) -> BenchError:
        return BenchError(
            f"the loss of the item identifiers is {loss} in epoch {self.epoch}; lower ids.lr (now {self.settings.lr})"
        )

    def _note(self) -> str:
        if not self.history:
            return ""
        line = self.history[-1]
        return f"collisions {100 * line['collision_rate']:.2f} %, error {line['error']:.4f}"

    # --- checkpoints ----------------------------------------------------------------------------------------

    def _save(self, folder: Path) -> None:
        tensors = {"model": self.model.state_dict(), "optimizer": checkpoint.moments(self.optimizer)}
        if self.clusters is not None:
            tensors["clusters"] = {"labels": self.clusters.labels}
        checkpoint.save(folder, self.epoch, tensors, {"history": self.history, "seconds": self._seconds()})

    def _resume(self) -> bool:
        found = checkpoint.load(self.folder, self.device) if self.folder is not None else None
        if found is None:
            return False
        self.model.load_state_dict(found.tensors["model"])
        checkpoint.restore(self.optimizer, found.tensors["optimizer"])
        if "clusters" in found.tensors:
            self.clusters = Clusters(found.tensors["clusters"]["labels"])
        self.epoch, self.history = found.record["step"], found.record["history"]
        self.before = found.record["seconds"]
        return True

    def _seconds(self) -> float:
        return self.before + time.perf_counter() - self.began


def standardised(features: Floats) -> Floats:
    """Centre features and scale them by one number to a mean square of 1; constant ones become 0, [N, D]."""
    x = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    scale = float(np.sqrt(np.square(x).mean()))
    return np.asarray(x / scale if scale > 1e-9 else np.zeros_like(x), np.float32)


def write(made: Trained, folder: Path) -> None:
    """Write ``model.safetensors``, ``training.jsonl`` (one look at all items per line) and ``cost.json``."""
    save_file(checkpoint.plain(made.model.state_dict()), folder / "model.safetensors")
    (folder / "training.jsonl").write_text("".join(json.dumps(line) + "\n" for line in made.history))
    (folder / "cost.json").write_text(json.dumps({"train_s": made.seconds}, indent=1))
