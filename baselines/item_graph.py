"""Item graph: transition counts, the sanity row that trained models must beat."""

from dataclasses import dataclass
from math import lcm
from typing import Any, NamedTuple

import torch
from scipy.sparse import csr_array
from torch import Tensor

from rlrecbench.api import Count, Dataset, Ranked, Ranker, RankJob, method


class Graph(NamedTuple):
    """Transition counts [N, N] and a fill [N] that is smaller than any vote."""

    follows: Any
    fill: Tensor


@method("item-graph")
@dataclass(frozen=True)
class ItemGraph(Ranker):
    """How often an item followed the last items in training, the d-th last with weight 1/d; then popularity."""

    generative = False
    last: Count = 3  # items of the history that vote

    def fit(self, data: Dataset) -> Graph:
        """Count what directly followed what in the training pairs."""
        before = data.train.values[data.train.offsets[1:] - 1]
        ones = torch.ones(len(before)).numpy()
        follows = csr_array((ones, (before, data.train.target)), shape=(data.n_items,) * 2)
        popular = torch.as_tensor(data.popularity, dtype=torch.float32)
        return Graph(follows, popular / (popular.max() + 1) / lcm(*range(1, self.last + 1)))

    def rank(self, job: RankJob) -> Ranked:
        """Add up the votes of the last items."""
        graph: Graph = job.fitted
        history = job.prompts.history.cpu()
        length = (history >= 0).sum(1)
        scores = graph.fill.repeat(len(history), 1)
        for d in range(1, self.last + 1):
            item = history.gather(1, (length - d).clamp(min=0)[:, None])[:, 0].clamp(min=0)
            votes = torch.as_tensor(graph.follows[item.numpy()].toarray(), dtype=torch.float32)
            scores += votes * (length >= d)[:, None] / d
        values, items = scores.sort(dim=1, descending=True, stable=True)
        return Ranked(items[:, : job.k], values[:, : job.k])
