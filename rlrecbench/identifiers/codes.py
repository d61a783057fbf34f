"""The codes of all items, what they become as tokens, and how good they are."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlrecbench.errors import StoreError

if TYPE_CHECKING:
    from rlrecbench.catalogue import Catalogue  # torch

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Identifiers:
    """One code per level for every item; items may share all their codes.

    Attributes:
        codes: Code of each item at each level, [N, L].
        sizes: Codebook size of each level, [L].
        content: Leading levels that say what the item is; a level after them is a collision code, which only
            tells equal items apart. None: all of them.

    Raises:
        ValueError: The shapes do not fit, or a code is outside its codebook.
    """

    codes: Ints
    sizes: tuple[int, ...]
    content: int | None = None

    def __post_init__(self) -> None:
        if self.codes.ndim != 2 or self.codes.shape[1] != len(self.sizes) or not self.codes.size:
            raise ValueError(f"codes {self.codes.shape} must be [N, L] with N > 0 and L = {len(self.sizes)} > 0")
        if (self.codes < 0).any() or (self.codes >= np.array(self.sizes)).any():
            raise ValueError(f"codes must lie in 0..size-1 of their level; the sizes are {self.sizes}")

    @property
    def vocab(self) -> int:
        """Tokens in all: the codes of all levels, and token 0, which is padding and the decoder's start."""
        return 1 + sum(self.sizes)

    @property
    def described(self) -> int:
        """Number of leading levels that say what the item is."""
        return len(self.sizes) if self.content is None else self.content

    def paths(self) -> Ints:
        """Token ids, [N, L]: 1 + the sizes of the levels before + the code."""
        offset = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])
        return (1 + offset + self.codes).astype(np.int64)

    def catalogue(self) -> "Catalogue":
        """Items, paths and trie."""
        from rlrecbench.catalogue import Catalogue

        return Catalogue(self.paths(), self.vocab, content=self.content)

    @cached_property
    def group(self) -> Ints:
        """Number of the group of items with the same codes, groups in order of their codes, [N]."""
        return np.unique(self.codes, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)

    @property
    def collision_rate(self) -> float:
        """1 - distinct identifiers / items."""
        return 1 - (int(self.group.max()) + 1) / len(self.codes)

    def report(self) -> dict[str, Any]:
        """Say how the codebooks are used and how many items collide.

        Returns:
            ``items``, ``sizes``, ``content``; per level ``used`` (codes) and ``perplexity`` (exp of their
            entropy); ``prefixes`` (distinct ones of each length), ``unique`` (distinct identifiers),
            ``colliding`` (items that share theirs) and ``biggest_group``.
        """
        counts = [np.bincount(column) for column in self.codes.T]
        groups = np.bincount(self.group)
        lengths = range(1, len(self.sizes) + 1)
        return {
            "items": len(self.codes),
            "sizes": list(self.sizes),
            "content": self.described,
            "used": [int((c > 0).sum()) for c in counts],
            "perplexity": [_perplexity(c) for c in counts],
            "prefixes": [len(np.unique(self.codes[:, :n], axis=0)) for n in lengths],
            "unique": len(groups),
            "colliding": int(groups[groups > 1].sum()),
            "biggest_group": int(groups.max()),
        }

    def write(self, folder: Path, about: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Write ``codes.npy`` and ``report.json``, which also says what else is known ``about`` them."""
        np.save(folder / "codes.npy", self.codes, allow_pickle=False)
        (folder / "report.json").write_text(json.dumps({**self.report(), **about}, indent=1))

    @staticmethod
    def read(folder: Path) -> "Identifiers":
        """Read what :meth:`write` wrote.

        Raises:
            StoreError: A file is missing or broken.
        """
        try:
            about = json.loads((folder / "report.json").read_text())
            codes = np.load(folder / "codes.npy", allow_pickle=False)
            return Identifiers(codes, tuple(about["sizes"]), about["content"])
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise StoreError(f"{folder}: the identifiers cannot be read ({e}); delete this folder and run again") from e


def deduplicated(ids: Identifiers) -> Identifiers:
    """Append a code 0, 1, 2, ... within each group of items with the same codes, in item order.

    Every item gets it, so all identifiers keep one length. Source: TIGER, section 3.1.
    """
    order = np.argsort(ids.group, kind="stable")
    start = np.cumsum(np.bincount(ids.group)) - np.bincount(ids.group)
    extra = np.empty(len(ids.codes), np.int64)
    extra[order] = np.arange(len(order)) - start[ids.group[order]]
    sizes = (*ids.sizes, int(extra.max()) + 1)
    return Identifiers(np.column_stack([ids.codes, extra]), sizes, content=len(ids.sizes))


def _perplexity(counts: Ints) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(np.exp(-(share * np.log(share)).sum()))
