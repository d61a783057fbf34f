"""BIGRec's grounding: write freely, then rank titles by their distance to the text (Bao et al., arXiv 2308.08434).

With e(.) the untrained backbone's last-layer state at the last token of a text that stands alone:

    D_i = |e(text written for the user) - e(title i)|_2

ascending. Statistics can be injected: with d the D_i scaled to [0, 1] per user, and c the popularity of the titles or
the user's collaborative scores scaled to [0, 1],

    rank by d_i (1 + c_i)^-gamma.

Source: the public code's ``evaluate.py``, ``adjust_pda.py`` and ``adjust_ci.py``.
"""

from dataclasses import dataclass
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from rlrecbench.api import (
    Count,
    Dataset,
    Found,
    Policy,
    Ranked,
    Ranker,
    RankJob,
    Weight,
    beam_free,
    method,
    rank_items,
)

_ROWS = 256  # texts embedded together; ours
_DIRECT = "donot_use_mm_for_euclid_dist"  # products of long vectors would cancel, and depend on the batch
_titles: WeakKeyDictionary[Policy, Tensor] = WeakKeyDictionary()  # of each untrained backbone, whose weights stay


@method("bigrec-grounding", cite="bao2023bigrec")
@dataclass(frozen=True)
class BIGRecGrounding(Ranker):
    """Unconstrained generation by a trained model, grounded in the titles by embeddings of the untrained one.

    Differs:
        - Texts are embedded with the line break that ends our titles, the public code's without it; both end before the
          end-of-sequence token.
        - The text is the best one by the suite's ``rank: {length_penalty}``, whose default is the plain sum; the public
          code leaves transformers' length penalty at 1.
        - A text is cut at the length of the longest title; the public code writes up to 128 tokens.
        - Of items with one title the highest collaborative score counts, and popularities add up; the public code takes
          the last item of a title. Items of one title stand side by side in the list.
        - The public code chooses gamma on validation for each metric and cut-off; here a row has one gamma.
        - Embeddings are in the backbone's own precision; the public code has float16.
    """

    beams: Count = 4  # width of the free search, whose best text is taken; public code
    injection: Literal["none", "popularity", "collab"] = "none"  # statistics that bend the distances; paper's base row
    gamma: Weight = 0.0  # strength of the injection; public code tries 0 to 99 on validation

    def __post_init__(self) -> None:
        if self.gamma and self.injection == "none":
            raise ValueError(f"gamma is {self.gamma}, but nothing is injected; set injection to popularity or collab")

    @property
    def needs(self) -> frozenset[str]:
        """The untrained backbone, and collaborative scores where they are injected."""
        return frozenset({"base", "collab"}) if self.injection == "collab" else frozenset({"base"})

    def fit(self, data: Dataset) -> Tensor:
        """Count the training interactions of each item, [N]."""
        return torch.as_tensor(data.popularity)

    @torch.no_grad()
    def rank(self, job: RankJob) -> Ranked:
        """Write a text for each prompt and rank the titles by their distance to it."""
        assert job.policy is not None and job.base is not None  # noqa: S101, PT018 - the plan sees `needs`
        titles = embedded_titles(job.base)
        encoded = job.policy.encode(job.prompts.history)
        texts = beam_free(job.policy, encoded, self.beams, length_penalty=job.length_penalty)
        distance = torch.cdist(embedded(job.base, texts), titles, compute_mode=_DIRECT)  # [B, T]
        if self.injection != "none":
            distance = bent(distance, self._statistics(job), self.gamma)
        nearest, at = distance.sort(dim=1, stable=True)
        leaves = distinct(job.policy)[0][at[:, : job.k]]
        found = Found(leaves, -nearest[:, : job.k])
        rows = job.prompts.rows.cpu().numpy()
        return Ranked(*rank_items(found, job.policy.catalogue, rows, job.k, job.seed))

    def _statistics(self, job: RankJob) -> Tensor:
        """Return the popularity of the titles [1, T] or the prompts' collaborative scores of them [B, T]."""
        assert job.policy is not None  # noqa: S101 - rank() has seen it
        leaves, title_of = distinct(job.policy)
        if self.injection == "popularity":
            counts: Tensor = job.fitted.to(title_of.device)
            return counts.new_zeros(1, len(leaves)).index_add(1, title_of, counts[None])
        assert job.collab is not None  # noqa: S101 - the plan sees `needs`
        score = job.collab.score(job.prompts.part, job.prompts.rows).to(title_of.device)
        most = score.new_full((len(score), len(leaves)), -torch.inf)
        return most.scatter_reduce(1, title_of.expand_as(score), score, "amax")


def bent(distance: Tensor, statistics: Tensor, gamma: float) -> Tensor:
    """Scale both to [0, 1] along the titles and return d (1 + c)^-gamma: [B, T] and [B, T] or [1, T] -> [B, T]."""
    return _scaled(distance) * (1 + _scaled(statistics)).pow(-gamma)


def _scaled(x: Tensor) -> Tensor:
    x = x.double()
    low, high = x.aminmax(dim=1, keepdim=True)
    return (x - low) / (high - low).clamp(min=torch.finfo(x.dtype).tiny)


def distinct(policy: Policy) -> tuple[Tensor, Tensor]:
    """Return the leaf of each of the T distinct titles, ascending, [T], and the title of each item, [N]."""
    leaves, title_of = torch.unique(policy.trie.leaf_of, return_inverse=True)
    return leaves, title_of


def embedded_titles(base: Policy) -> Tensor:
    """Embed every distinct title, once for each untrained backbone: [T, D]."""
    if base not in _titles:
        start, items = base.catalogue.leaf_items(base.device)
        _titles[base] = embedded(base, base.trie.paths[items[start[distinct(base)[0]]]])
    return _titles[base]


def embedded(base: Policy, paths: Tensor) -> Tensor:
    """Embed texts [R, L] without their terminator, some at a time in the order of their length: [R, D].

    A text that has nothing else keeps it.
    """
    last = paths == (-1 if base.catalogue.terminator is None else base.catalogue.terminator)
    texts = paths.masked_fill(last & ((paths >= 0).sum(1, keepdim=True) > 1), -1)
    lengths = (texts >= 0).sum(1)
    order = lengths.argsort(stable=True)
    parts = [base.embed(texts[rows, : int(lengths[rows].max())]) for rows in order.split(_ROWS)]
    return torch.cat(parts).float()[order.argsort()]
