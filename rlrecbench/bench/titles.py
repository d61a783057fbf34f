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
LENGTH = 160  # tokens of a prompt; those of Movies and TV have 60 to 200
SHAPE = TinyShape(layers=6, d_model=256, heads=4, kv_heads=2, d_ff=768)  # 6 million weights


class TitleWorld(World):
    """One batch of training over titles.

    The prompts are random tokens and have no common beginning, so nothing is gained from one; real prompts share
    their instruction, a third of their tokens.

    Args:
        catalogue: Items and the tokens of their titles, such as :func:`catalogue` reads.
        prompts: Number of prompts B.
        length: Tokens of a prompt.
        size: Size of the Qwen2.
    """

    def __init__(
        self, catalogue: Catalogue, prompts: int = PROMPTS, length: int = LENGTH, size: TinyShape = SHAPE
    ) -> None:
        super().__init__(catalogue, prompts)
        self.size = size
        self.tokens = np.random.default_rng(0).integers(catalogue.vocab, size=(catalogue.n_items, length))

    def policy(self) -> DecoderPolicy:
        """A fresh policy, the same at every call."""
        catalogue = self.catalogue
        end = catalogue.terminator or 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            longest = self.tokens.shape[1] + catalogue.max_length
            return DecoderPolicy(catalogue, language.tiny(self.size, catalogue.vocab, end, end, longest), self.asking)

    def asking(self, history: Ints) -> list[list[int]]:
        """The prompt of each history [B, H]: one for every item that it may begin with."""
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
