"""SASRec: self-attentive sequential recommendation (Kang and McAuley, 2018), RecBole's implementation."""

from dataclasses import dataclass

from rlrecbench.api import Ranked, Ranker, RankJob, method


@method("sasrec", cite="kang2018sasrec")
@dataclass(frozen=True)
class SASRecRanker(Ranker):
    """The collaborative model by itself; its settings stand in the suite under ``collab:``."""

    generative = False
    needs = frozenset({"collab"})

    def rank(self, job: RankJob) -> Ranked:
        """Sort the catalogue by the model's score."""
        assert job.collab is not None  # noqa: S101 - the plan sees `needs`
        scores = job.collab.score(job.prompts.part, job.prompts.rows)
        values, items = scores.topk(min(job.k, scores.shape[1]), 1)
        return Ranked(items, values)
