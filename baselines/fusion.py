"""Score fusion: what a trained backbone and the collaborative model find, ranked by both.

    score(v) = alpha log p(v) + (1 - alpha) log q(v),    q = softmax of the collaborative scores over the catalogue

Candidates are the best of the beam search and as many of the collaborative model's best; p is computed for each of
them, so the order among candidates is exact. A control: a method that is taught by the collaborative model should beat
this, which learns nothing.
"""

from dataclasses import dataclass, replace

import torch

from rlrecbench.api import Ranked, Ranker, RankJob, Share, method, score


@method("fusion")
@dataclass(frozen=True)
class Fusion(Ranker):
    """The trained backbone's log-probability and the collaborative model's, mixed; nothing is trained beyond them.

    Differs:
        - No paper's; GFlowGR has no such row. ``d3`` with alpha below 1 mixes token by token inside the search.
        - Items of one leaf have the leaf's probability each, so the collaborative model orders them.
    """

    needs = frozenset({"collab"})
    alpha: Share = 0.5  # weight of the backbone; ours: both count alike, nothing is tuned

    def rank(self, job: RankJob) -> Ranked:
        """Score the union of both models' best and sort it."""
        assert job.collab is not None and job.policy is not None  # noqa: S101, PT018 - the plan sees `needs`
        found = self.search(replace(job, k=job.beams)).items
        q = job.collab.score(job.prompts.part, job.prompts.rows).log_softmax(1)
        liked = q.topk(min(job.beams, q.shape[1]), 1).indices
        twice = (liked[:, :, None] == found[:, None, :]).any(2)
        items = torch.cat([found, liked.masked_fill(twice, -1)], 1)
        with torch.no_grad():
            logp = score(job.policy, job.policy.encode(job.prompts.history), items).vocab.sum(-1)
        mixed = self.alpha * logp + (1 - self.alpha) * q.gather(1, items.clamp(min=0))
        best = mixed.masked_fill(items < 0, -torch.inf).topk(min(job.k, items.shape[1]), 1)
        return Ranked(items.gather(1, best.indices), best.values)
