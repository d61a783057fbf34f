"""What the generic code asks of a backbone: encode a prompt once, score candidates that share it, search.

Shapes: B prompts, C candidates, L tokens, W beams, D width, V vocabulary, H history.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rlrecbench.catalogue import Catalogue, TrieTensors
from rlrecbench.errors import StoreError

WEIGHTS = "model.safetensors"


class Encoded(Protocol):
    """Encoded prompts; only the backbone that made them looks inside."""

    @property
    def batch(self) -> int:
        """Number of prompts B."""

    def select(self, rows: Tensor) -> Self:
        """The prompts of some rows, [B'] row numbers."""


class Policy(nn.Module, ABC):
    """A backbone: a distribution over tokens given a prompt and the tokens so far.

    ``Any`` stands for the backbone's own encoded prompts and search caches, which nobody else looks into.

    Attributes:
        catalogue: The items and their trie.
        width: Width D of the states.
    """

    catalogue: Catalogue
    width: int

    @abstractmethod
    def encode(self, history: Tensor) -> Encoded:
        """Encode the prompts once.

        Args:
            history: Item numbers, oldest first, -1 filled up on the right; a row may be empty, [B, H].
        """

    @abstractmethod
    def decode(self, encoded: Any, paths: Tensor) -> Tensor:
        """Run C token paths per prompt with teacher forcing; the prompt is not repeated.

        Args:
            encoded: B encoded prompts.
            paths: Token ids, -1 behind the end, [B, C, L].

        Returns:
            States [B, C, L + 1, D]; state l predicts token l and has seen the l tokens before it.
        """

    @abstractmethod
    def head(self, states: Tensor) -> Tensor:
        """Turn states [..., D] into logits [..., V], float32."""

    @abstractmethod
    def start(self, encoded: Any) -> tuple[Tensor, Any]:
        """Begin a search: the state before the first token [B, 1, D], and its cache."""

    @abstractmethod
    def step(self, cache: Any, tokens: Tensor, parents: Tensor) -> tuple[Tensor, Any]:
        """Extend beams by one token each.

        Args:
            cache: Cache of the beams so far; it stays valid.
            tokens: Token to append, [B, W].
            parents: Which old beam each new beam extends, [B, W].

        Returns:
            The new beams' states [B, W, D], and their cache.
        """

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def trie(self) -> TrieTensors:
        """The catalogue's trie on the policy's device."""
        return self.catalogue.tensors(self.device)

    @property
    def parameters_trained(self) -> int:
        """Number of weights that receive gradients."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def save(self, folder: Path) -> None:
        """Write the weights as safetensors."""
        weights = {name: p.detach().cpu().contiguous() for name, p in self.named_parameters()}
        save_file(weights, folder / WEIGHTS)

    def load(self, folder: Path) -> None:
        """Read weights written by ``save``.

        Raises:
            StoreError: The file is missing or broken, or belongs to another model.
        """
        path = folder / WEIGHTS
        try:
            weights = load_file(path)
        except (OSError, SafetensorError) as e:
            raise StoreError(f"{path} holds no readable weights ({e}); delete the folder to train again") from e
        own = dict(self.named_parameters())
        wrong = sorted(own.keys() ^ weights.keys()) or [n for n, p in own.items() if p.shape != weights[n].shape]
        if wrong:
            raise StoreError(
                f"{path}: weight {wrong[0]!r} does not fit this model; the weights must come "
                "from the same backbone, size and identifiers"
            )
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(weights[name])
