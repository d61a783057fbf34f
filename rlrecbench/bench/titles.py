"""As many titles, tokens and prompts as on Movies and TV, and nothing that has to be trained first."""

from functools import cache
from pathlib import Path

import numpy as np
import torch

from rlrecbench.bench.world import Ints, World
from rlrecbench.catalogue import Catalogue
from rlrecbench.data.prepare import DataOptions, prepare
from rlrecbench.identifiers import models, titles
from rlrecbench.identifiers.settings import TitleIds
from rlrecbench.policy import language
from rlrecbench.policy.decoder import DecoderPolicy
from rlrecbench.policy.language import TinyShape

DATASET = "movies_and_tv"
PROMPTS = 16  # in a batch: what two cores train on in a second
LENGTH = 160  # tokens of a prompt; those of Movies and TV have 58 to 254
SHARED = 52  # tokens that all prompts begin with; those of Movies and TV, up to the first title
SHAPE = TinyShape(layers=6, d_model=256, heads=4, kv_heads=2, d_ff=768)  # 6 million weights


class TitleWorld(World):
    """One batch of training over titles.

    The prompts are random tokens, but for the beginning that all have in common, as real ones have their instruction.

    Args:
        catalogue: Items and the tokens of their titles, such as :func:`catalogue` reads.
        prompts: Number of prompts B.
        length: Tokens of a prompt.
        shared: Tokens that all prompts begin with.
        size: Size of the Qwen2.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        prompts: int = PROMPTS,
        length: int = LENGTH,
        shared: int = SHARED,
        size: TinyShape = SHAPE,
    ) -> None:
        super().__init__(catalogue, prompts)
        self.size = size
        self.tokens = np.random.default_rng(0).integers(catalogue.vocab, size=(catalogue.n_items, length))
        self.tokens[:, :shared] = self.tokens[0, :shared]

    def policy(self) -> DecoderPolicy:
        """A fresh policy, the same at every call."""
        catalogue = self.catalogue
        end = catalogue.terminator or 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            longest = self.tokens.shape[1] + catalogue.max_length
            return DecoderPolicy(catalogue, language.tiny(self.size, catalogue.vocab, end, end, longest), self.asking)

    def asking(self, history: Ints) -> list[list[int]]:
        """Tokens of the prompt of each history [B, H]; there is one for every item that a history may begin with."""
        prompts: list[list[int]] = self.tokens[history[:, 0]].tolist()
        return prompts


@cache
def catalogue(data: Path | None) -> Catalogue:
    """Titles of Movies and TV, or of ml-100k, as a tokenizer cuts them that was trained on them.

    Args:
        data: Folder with ``movies_and_tv``; without it the films of ml-100k.
    """
    here = data is not None and (data / DATASET).is_dir()
    items = prepare(DATASET if here else "ml-100k", DataOptions(), [data] if data and here else []).items
    texts, names = (items[c].astype(str).tolist() for c in ("title", "item_id"))
    return titles.make(texts, names, TitleIds(), models.TINY, "movies").catalogue()
