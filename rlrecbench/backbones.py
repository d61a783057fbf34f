"""Backbones that a suite can name: which identifiers the items get, and which policy walks their trie."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from rlrecbench.catalogue import Catalogue
from rlrecbench.config import STRICT, Share
from rlrecbench.data.frame import Dataset
from rlrecbench.identifiers import Identifiers, IdSettings
from rlrecbench.policy.base import Policy
from rlrecbench.registry import Registry
from rlrecbench.seeds import stream


class Backbone:
    """What turns identifiers into a policy. Subclasses are frozen dataclasses of settings with an ``ids`` field."""

    __pydantic_config__ = STRICT
    version: ClassVar[int] = 1
    ids: IdSettings

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
    """T5 from scratch over semantic ids from item text: 3 codes of 256 and a collision code."""

    preset: Literal["paper", "tiny"] = "paper"  # paper: 4 + 4 layers, width 128; LETTER's TIGER configuration
    ids: IdSettings = IdSettings()  # how items get their codes
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

        codes = self.ids.levels + self.ids.dedup if self.ids.kind == "rkmeans" else 4
        return flops(self._shape(), codes * self.ids.codes, items * codes, candidates * codes)

    def _shape(self) -> Any:
        from dataclasses import replace

        from rlrecbench.policy.t5 import PRESETS

        shape = PRESETS[self.preset]
        return shape if self.dropout is None else replace(shape, dropout=self.dropout)


@backbone("letter", cite="wang2024letter")
@dataclass(frozen=True)
class Letter(Tiger):
    """T5 from scratch over LETTER's semantic ids: 4 codes of 256, as released by the authors."""

    ids: IdSettings = IdSettings(kind="released")  # the authors' index


def catalogue_of(identifiers: Identifiers) -> Catalogue:
    """Make the catalogue of the items' token paths."""
    return Catalogue(identifiers.paths(), identifiers.vocab, content=identifiers.content)


def load_catalogue(folder: Path) -> Catalogue:
    """Read published identifiers and make their catalogue."""
    return catalogue_of(Identifiers.read(folder))
