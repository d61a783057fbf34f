"""Backbones that a suite can name: which identifiers the items get, and which policy walks their trie."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch

from rlrecbench.catalogue import Catalogue
from rlrecbench.config import STRICT, Share
from rlrecbench.data.frame import Dataset
from rlrecbench.identifiers import AnyIds, Identifiers, IdSettings, LetterIds, RQVAEIds, or_kind
from rlrecbench.policy.base import Policy
from rlrecbench.registry import Registry
from rlrecbench.seeds import stream


class Backbone:
    """What turns identifiers into a policy. Subclasses are frozen dataclasses of settings with an ``ids`` field."""

    __pydantic_config__ = STRICT
    version: ClassVar[int] = 1
    ids: AnyIds

    def policy(self, identifiers: Identifiers, data: Dataset, seed: int) -> Policy:
        """Create the untrained policy of one seed."""
        raise NotImplementedError

    def flops(self, items: float, candidates: float) -> float:
        """Estimate a forward pass: a prompt of so many items, and so many candidates or beams."""
        raise NotImplementedError


backbones: Registry[type[Backbone]] = Registry("backbone")
backbone = backbones.register


@backbone("tiger", cite="rajput2023tiger")
@dataclass(frozen=True)
class Tiger(Backbone):
    """T5 from scratch over semantic ids of item text: RQ-VAE's 3 codes of 256 and a collision code.

    Differs:
        - TIGER embeds title, price, brand and category with Sentence-T5, LETTER title and description with LLaMA-7B;
          here all the text of an item becomes TF-IDF vectors, which need no download. ``ids.features`` takes a
          sentence-transformers model or a file of vectors.
        - Features are centred and scaled by one number to a mean square of 1; left at unit length, their
          reconstruction would weigh 1/D of the quantisation.
        - TIGER trains its RQ-VAE with Adagrad for 20,000 epochs, LETTER with AdamW for as many; here AdamW, at most
          1,000 epochs, and the last weights are kept, not those with the fewest collisions.
        - The encoder has TIGER's layers, scaled to the width of the features; LETTER's goes from 4096 to 2048-1024-512-
          256-128-64 (``ids.hidden``).
        - With ``kind: rqvae`` unused codes move to random items' residuals every ten epochs (``ids.revive``);
          the paper asks for 80 % usage and does not say how.
        - Items of equal features always get equal codes; only a collision code tells them apart.
        - TIGER puts a token of the user before the history; public code leaves it out, and so do we.
    """

    preset: Literal["paper", "tiny"] = "paper"  # paper: 4 + 4 layers, width 128; LETTER's TIGER configuration
    ids: Annotated[IdSettings, or_kind("rqvae")] = RQVAEIds()  # how items get their codes
    dropout: Share | None = None  # none: the preset's, 0.1

    def policy(self, identifiers: Identifiers, data: Dataset, seed: int) -> Policy:
        """Create the T5 with weights drawn from the seed's own stream."""
        from rlrecbench.policy.t5 import T5Policy

        catalogue = catalogue_of(identifiers)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream(seed, "weights"))
            return T5Policy(catalogue, self._shape())

    def flops(self, items: float, candidates: float) -> float:
        """Count the multiply-adds of the layers twice."""
        from rlrecbench.policy.t5 import flops

        tokens = self.ids.tokens
        return flops(self._shape(), tokens * (self.ids.codes or 256), items * tokens, candidates * tokens)

    def _shape(self) -> Any:
        from dataclasses import replace

        from rlrecbench.policy.t5 import PRESETS

        shape = PRESETS[self.preset]
        return shape if self.dropout is None else replace(shape, dropout=self.dropout)


@backbone("letter", cite="wang2024letter")
@dataclass(frozen=True)
class Letter(Tiger):
    """T5 from scratch over LETTER's semantic ids: 4 codes of 256 that know text and collaborative embeddings.

    Differs:
        - LETTER released neither its SASRec nor a recipe for it; here it is the suite's ``collab:`` at the latent's
          width, trained on the training part with the identifiers' own seed.
        - Codes are clustered for the diversity loss every 50 epochs from one start (``ids.cluster_every``), in the code
          every epoch from ten; codebooks begin at clusters of one start too. The loss takes its logits between codes,
          which gives each item the same value.
        - The ranking-guided loss of the paper has temperature 1 in its code, which is plain cross-entropy: ``sft``.
    """

    ids: Annotated[IdSettings, or_kind("letter")] = LetterIds()  # trained here; the authors' index is {kind: released}


def catalogue_of(identifiers: Identifiers) -> Catalogue:
    """Make the catalogue of the items' token paths."""
    return Catalogue(identifiers.paths(), identifiers.vocab, content=identifiers.content)


def load_catalogue(folder: Path) -> Catalogue:
    """Read published identifiers and make their catalogue."""
    return catalogue_of(Identifiers.read(folder))
