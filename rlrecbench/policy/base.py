"""What the generic code asks of a backbone: encode a prompt once, score candidates that share it, search.

Shapes: B prompts, C candidates, L tokens, W beams, D width, V vocabulary, H history.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rlrecbench.catalogue import Catalogue, TrieTensors
from rlrecbench.errors import BenchError, StoreError

WEIGHTS = "model.safetensors"


class Encoded(Protocol):
    """Encoded prompts; only the backbone that made them looks inside."""

    @property
    def batch(self) -> int:
        """Number of prompts B."""

    def select(self, rows: Tensor) -> Self:
        """The prompts of some rows, [B'] row numbers."""


class Walk(Protocol):
    """States along a walk down the trie, for B prompts together."""

    @property
    def root(self) -> Tensor:
        """State before the first token, [B, 1, D]."""

    def go(self, nodes: Tensor, tokens: Tensor, parents: Tensor, wanted: Tensor) -> Tensor:
        """Go on by one token each.

        Args:
            nodes: Nodes of the trie that are reached, [B, W].
            tokens: Tokens that lead there, [B, W].
            parents: Which place of the last call (of the root at first) each comes from, [B, W].
            wanted: Whose state is read, [B, W].

        Returns:
            States after the tokens, anything where not wanted, [B, W, D].
        """


class Policy(nn.Module, ABC):
    """A backbone: a distribution over tokens given a prompt and the tokens so far.

    ``Any`` stands for the backbone's own encoded prompts and search caches, which nobody else looks into.

    Attributes:
        catalogue: The items and their trie.
        width: Width D of the states.
        shared: Names of attributes that copies have in common.
    """

    catalogue: Catalogue
    width: int
    shared: ClassVar[tuple[str, ...]] = ("catalogue",)

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

    def walk(self, encoded: Any, lazy: bool = False) -> Walk:
        """Begin a walk down the trie.

        Args:
            encoded: B encoded prompts.
            lazy: States are wanted only where a node has several children (the trie measure), so those between may
                wait until a later one needs them.
        """
        return Steps(self, encoded)

    def embed(self, paths: Tensor) -> Tensor:
        """Return the last state of texts that stand alone, without a prompt.

        Args:
            paths: Tokens of R texts, -1 behind the end, [R, L].

        Returns:
            States, [R, D].

        Raises:
            BenchError: The backbone's tokens are no text.
        """
        raise BenchError(
            f"{type(self).__name__} has no texts to embed, its tokens are codes; use a backbone of titles (bigrec-qwen)"
        )

    def frozen(self) -> Self:
        """Return a copy that is not trained, sharing whatever is not trained here either (a LoRA's base model)."""
        shared = [getattr(self, name) for name in self.shared]
        still = [*shared, *(p for p in self.parameters() if not p.requires_grad), *self.buffers()]
        return copy.deepcopy(self, {id(thing): thing for thing in still}).requires_grad_(False).eval()

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
        """Write the trained weights as safetensors."""
        save_file({n: p.detach().cpu().contiguous() for n, p in trained(self).items()}, folder / WEIGHTS)

    def load(self, folder: Path) -> None:
        """Read weights written by ``save``.

        Raises:
            StoreError: The file is missing or broken, or belongs to another model.
        """
        fill(self, folder / WEIGHTS)


class Steps:
    """A walk of one step per token, as :class:`Walk` asks for it."""

    def __init__(self, policy: Policy, encoded: Any) -> None:
        self._policy = policy
        self.root, self._cache = policy.start(encoded)

    def go(self, nodes: Tensor, tokens: Tensor, parents: Tensor, wanted: Tensor) -> Tensor:
        """Take a step; see :meth:`Walk.go`."""
        states, self._cache = self._policy.step(self._cache, tokens, parents)
        return states


def trained(module: nn.Module) -> dict[str, Tensor]:
    """Return the weights that receive gradients, by name."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def put(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give a module weights by name, as :func:`trained` names them."""
    own = dict(module.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            own[name].copy_(value)


def fill(module: nn.Module, path: Path) -> None:
    """Give a module the trained weights in a file.

    Raises:
        StoreError: The file is missing or broken, or belongs to another model.
    """
    weights, own = read_weights(path), trained(module)
    must_fit(weights, own, path)
    put(module, weights)


def must_fit(weights: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights whose names or shapes are not a model's own.

    Raises:
        StoreError: They are not.
    """
    wrong = sorted(own.keys() ^ weights.keys()) or [n for n, p in own.items() if p.shape != weights[n].shape]
    if wrong:
        raise StoreError(
            f"{path}: weight {wrong[0]!r} does not fit this model; the weights must come "
            "from the same backbone, size and identifiers"
        )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a file of weights.

    Raises:
        StoreError: It is missing or broken.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as e:
        raise StoreError(f"{path} holds no readable weights ({e}); delete the folder to train again") from e
