"""D3: a search without length normalisation that a collaborative model assists (Bao et al., 2024, arXiv 2406.14900).

Forced tokens have probability near 1, so dividing a title's score by its length favours titles that have many of them;
D3 takes the plain sum. It mixes in the tokens' probabilities under a model without text, here the collaborative one:

    score(v | prefix) = alpha log p(v | x, prefix) + (1 - alpha) log [F(prefix v) / F(prefix)],
    F(s) = sum of p_u(i) over the items i below s,    p_u = softmax of the user's collaborative scores

where p is over the whole vocabulary and the assistant's part over the legal tokens. Source: the public code's
``LogitProcesser.py``, whose ``guidance_scale`` is alpha.
"""

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from rlrecbench.api import Assistant, Catalogue, Ranked, Ranker, RankJob, Share, Weight, method

_LEAST = 1e-20  # added to each item's probability, so that no logarithm is infinite; the public code, per token


@method("d3", cite="bao2024d3")
@dataclass(frozen=True)
class D3(Ranker):
    """Debiasing-diversifying decoding of a trained model; nothing is trained beyond the method it starts from.

    Differs:
        - The published commands leave alpha at 1, which returns before the collaborative model is looked at, so their
          rows are the search without length normalisation alone. That is the default here; ``alpha`` below 1 is the
          paper's method, to be chosen on validation (0.5 to 0.9), and a row of its own in our suites.
        - The public code adds 1e-20 to the mass of every token; here to that of every item, so that masses still sum up
          the trie. The two agree wherever a mass is not itself of that size.
        - The paper's collaborative model is trained with binary cross-entropy, the suite's by default with a softmax
          over the catalogue; the suite's ``collab: {loss: bce}`` gives the paper's.
        - The search has the suite's number of beams, and finished titles take no beam's place.
    """

    alpha: Share = 1.0  # weight of the backbone's log-probability; the published commands: no collaborative part
    length_penalty: Weight = 0.0  # power of the path's length that divides its score; 0: the plain sum, as published

    @property
    def needs(self) -> frozenset[str]:
        """Collaborative scores, where they have any weight."""
        return frozenset({"collab"}) if self.alpha < 1 else frozenset()

    def rank(self, job: RankJob) -> Ranked:
        """Search with the mixed scores."""
        if self.alpha == 1:
            return self.search(job, length_penalty=self.length_penalty)
        assert job.collab is not None and job.policy is not None  # noqa: S101, PT018 - the plan sees `needs`
        p = job.collab.score(job.prompts.part, job.prompts.rows).double().softmax(1)
        log_flow = flows(job.policy.catalogue, p + _LEAST).log().float().to(job.policy.device)
        return self.search(job, length_penalty=self.length_penalty, assistant=Assistant(self.alpha, log_flow))


def flows(catalogue: Catalogue, weights: Tensor) -> Tensor:
    """Sum the items' weights up the trie for each prompt: [B, N] -> [B, nodes].

    Level by level, so that small masses keep their digits beside large ones.
    """
    trie = catalogue.tensors(weights.device)
    flow = weights.new_zeros(len(trie.token), len(weights)).index_add_(0, trie.leaf_of, weights.T)
    for start, end in reversed(list(pairwise(catalogue.trie.levels[1:].tolist()))):
        flow.index_add_(0, trie.parent[start:end], flow[start:end].clone())
    return flow.T
