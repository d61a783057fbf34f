"""Most popular: the same list for everybody, the floor under every table."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rlrecbench.api import Dataset, Ranked, Ranker, RankJob, method


@method("most-popular")
@dataclass(frozen=True)
class MostPopular(Ranker):
    """Items by their number of training interactions; ties by lower item number."""

    generative = False

    def fit(self, data: Dataset) -> Tensor:
        """Count the training interactions of each item, [N]."""
        return torch.as_tensor(data.popularity)

    def rank(self, job: RankJob) -> Ranked:
        """Give every prompt the k most popular items."""
        counts: Tensor = job.fitted
        values, items = counts.sort(descending=True, stable=True)
        B = len(job.prompts.rows)
        return Ranked(items[: job.k].expand(B, -1), values[: job.k].float().expand(B, -1))
