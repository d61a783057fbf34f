"""As many items, tokens and prompts as on Beauty, and nothing that has to be trained first."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from rlrecbench.catalogue import Catalogue
from rlrecbench.collab import Collab
from rlrecbench.data.frame import Dataset, Examples
from rlrecbench.method import Draw, Prompts
from rlrecbench.policy.base import Policy
from rlrecbench.policy.t5 import PRESETS, T5Policy, T5Shape
from rlrecbench.seeds import generator

Ints = NDArray[np.int64]

CODES = 256  # per level; LETTER
LEVELS = 4  # LETTER
ITEMS = 12_101  # Beauty
PROMPTS = 128  # in a batch; S-DPO (LETTER: 256)
HISTORY = 7  # items; mean of Beauty's training pairs, whose batches are of similar length
HIDDEN = 64  # width of the collaborative model; RecBole's SASRec
TEXT = 384  # width of a text vector; the small sentence encoders


class World:
    """One batch of training, drawn at random.

    Args:
        paths: Token paths of the items, [N, L], such as :func:`index` reads, or a catalogue.
        prompts: Number of prompts B.
        shape: Size of the T5.
    """

    def __init__(self, paths: Ints | Catalogue, prompts: int = PROMPTS, shape: T5Shape = PRESETS["paper"]) -> None:
        rng = np.random.default_rng(0)
        self.shape = shape
        self.catalogue = paths if isinstance(paths, Catalogue) else Catalogue(paths, vocab=int(paths.max()) + 1)
        N = self.catalogue.n_items
        self.popularity = torch.from_numpy(5 + 400 // (1 + rng.permutation(N)))  # Zipf; Beauty's 5-core
        self.frequency = HISTORY * self.popularity
        self.prompts = Prompts(
            "train", torch.arange(prompts), torch.from_numpy(rng.integers(N, size=(prompts, HISTORY)))
        )
        self.target = torch.from_numpy(rng.integers(N, size=prompts))
        made = torch.Generator().manual_seed(0)
        self.collab = Collab(
            torch.randn(N, HIDDEN, generator=made) / HIDDEN**0.5,
            {"train": torch.randn(prompts, HIDDEN, generator=made)},
        )
        self.text = normalize(torch.randn(N, TEXT, generator=made))
        rows = Examples.make([*range(prompts)], [*self.prompts.history.numpy()], self.target.tolist())
        ids = [str(i) for i in range(N)]
        items = pd.DataFrame({"item_id": ids, "title": ids, "text": ids})
        self.data = Dataset("bench", "examples", items, np.array(ids[:prompts]), rows, rows, rows, {}, "bench")

    def policy(self) -> Policy:
        """A fresh policy, the same at every call."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return T5Policy(self.catalogue, self.shape)

    def draw(self, policy: Policy, seed: int, fitted: Any = None) -> Draw:
        """The batch, in the middle of the second epoch, for a method that fitted this to the data."""
        return Draw(
            self.prompts, self.target, policy, generator(seed, "bench"), self.popularity, progress=0.5, epoch=1,
            collab=self.collab, frequency=self.frequency, text=self.text, fitted=fitted,
        )  # fmt: skip


def index(data: Path | None, rng: np.random.Generator) -> Ints:
    """Token paths of Beauty's released LETTER index, or of a random index with as many items, [N, L]."""
    path = data / "beauty" / "beauty.letter_index.json.gz" if data else None
    if path is None or not path.is_file():
        codes = rng.integers(CODES, size=(ITEMS, LEVELS))
    else:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            rows = json.load(file)
        codes = np.array([[int(re.sub(r"\D", "", code)) for code in rows[item]] for item in sorted(rows, key=int)])
    return 1 + CODES * np.arange(LEVELS) + codes
