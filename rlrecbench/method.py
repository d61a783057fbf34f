"""The plug-in contract: what a ranker or a fine-tuning method sees, and what it gives back.

A method is a loss over (prompt, candidate items, rewards) and a rule for drawing candidates. It never sees
an optimiser, a device, a tokenizer, a file or a backbone's name. Shapes: B prompts, C candidates, L tokens,
D width, N items. Item ids are 0..N-1, -1 is absent. Log-probabilities are in nats, float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from rlrecbench.catalogue import Catalogue
from rlrecbench.config import STRICT
from rlrecbench.data.frame import Dataset, Part
from rlrecbench.errors import BenchError, ConfigError
from rlrecbench.policy.base import Encoded, Policy
from rlrecbench.policy.score import TokenScores, score
from rlrecbench.policy.search import Assistant, beam, rank_items, sample, sample_unmasked
from rlrecbench.registry import Registry

if TYPE_CHECKING:
    from rlrecbench.collab import Collab

Measure = Literal["vocab", "trie"]
KNOWN_NEEDS = frozenset({"base", "collab", "text"})
methods: Registry[type[Ranker]] = Registry("method")
method = methods.register


class Prompts(NamedTuple):
    """B rows of one part of a data set.

    Attributes:
        part: "train", "valid" or "test".
        rows: Row numbers in that part, [B].
        history: Items, oldest first, -1 on the right, [B, H].
    """

    part: Part
    rows: Tensor
    history: Tensor


class Ranked(NamedTuple):
    """Ranked lists: items [B, K] (best first, -1 where the list is short) and their scores [B, K]."""

    items: Tensor
    scores: Tensor


@dataclass(frozen=True)
class RankJob:
    """One batch to rank.

    Attributes:
        prompts: Whom to rank for.
        k: Length of the lists.
        beams: Width of the search.
        seed: Orders the items of one leaf.
        policy: The trained backbone; None for a ranker that needs none.
        collab: Collaborative scores, if the ranker needs them.
        fitted: What :meth:`Ranker.fit` returned.
        length_penalty: A path's score is divided by its tokens to this power.
        base: The backbone before any training, if the ranker needs it.
    """

    prompts: Prompts
    k: int
    beams: int
    seed: int
    policy: Policy | None = None
    collab: Collab | None = None
    fitted: Any = None
    length_penalty: float = 0.0
    base: Policy | None = None


class Ranker:
    """Gives every prompt a ranked list. The default is beam search over the trie.

    Subclasses are frozen dataclasses; their fields are the hyper-parameters a suite can set, each with a
    trailing comment that gives unit and source.

    What is a property here is a declaration with a default. A subclass overrides it with a plain value
    (``measure = "trie"``), with a field where a suite may set it (``updates: Count = 1``), or with a property
    where it follows from other settings.

    Attributes:
        generative: Needs a backbone. Without one the ranker runs once per data set and seed.
        version: Bumped when a fix changes results.
        decoding: The measure of the search's scores.
    """

    __pydantic_config__ = STRICT
    generative: ClassVar[bool] = True
    version: ClassVar[int] = 1
    decoding: ClassVar[Measure] = "vocab"  # LETTER, TIGER: masked after the softmax, not renormalised

    @property
    def needs(self) -> frozenset[str]:
        """What else it reads: "collab" (collaborative scores), "text" (vectors of the items' texts), "base".

        "base" is the untrained backbone, for rankers.
        """
        return frozenset()

    def fit(self, data: Dataset) -> Any:
        """Compute once from the training data what :meth:`rank` and the draws need; the default needs nothing."""
        return None

    def rank(self, job: RankJob) -> Ranked:
        """Rank the catalogue for one batch of prompts; the default is :meth:`search`.

        Raises:
            BenchError: The ranker needs a backbone and there is none.
        """
        return self.search(job)

    def search(
        self,
        job: RankJob,
        *,
        temperature: float = 1.0,
        length_penalty: float | None = None,
        assistant: Assistant | None = None,
    ) -> Ranked:
        """Rank by a beam search over the trie.

        Args:
            job: The batch.
            temperature: Divides the logits.
            length_penalty: Of a path's score; None: the job's.
            assistant: Another distribution to mix in.

        Raises:
            BenchError: There is no backbone.
        """
        if job.policy is None:
            raise BenchError(f"{type(self).__name__} ranks with a backbone; give the suite one under 'backbones:'")
        with torch.no_grad():
            found = beam(
                job.policy,
                job.policy.encode(job.prompts.history),
                job.beams,
                measure=self.decoding,
                temperature=temperature,
                length_penalty=job.length_penalty if length_penalty is None else length_penalty,
                assistant=assistant,
            )
            items, scores = rank_items(found, job.policy.catalogue, job.prompts.rows.cpu().numpy(), job.k, job.seed)
        return Ranked(items, scores)


class Head(NamedTuple):
    """A trainable part of a method beside the backbone, such as log Z, a flow or a value.

    Attributes:
        module: What is trained.
        lr: Learning rate as a multiple of the backbone's.
        decay: Weight decay.
    """

    module: nn.Module
    lr: float = 1.0
    decay: float = 0.0


class Scalar(nn.Module):
    """One trainable number."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self) -> Tensor:
        """Return the number."""
        return self.value


@dataclass(frozen=True)
class Drawn:
    """What a method draws for a batch, without gradient.

    Attributes:
        items: Candidates, -1 absent, [B, C].
        rewards: A reward per candidate, [B, C], if the method uses rewards.
        extra: Anything else per prompt or candidate, [B, ...].
        paths: What was sampled without the trie's mask (:meth:`Draw.unmasked`), [B, C, L]; candidates whose
            path is no item's are -1 in ``items`` and present all the same. None: the items' own paths.
    """

    items: Tensor
    rewards: Tensor | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    paths: Tensor | None = None


class FineTune(Ranker):
    """A fine-tuning method: draw candidates, then a loss over them.

    Attributes:
        start: Where training starts: "base" (the backbone as created), or another method's name.
        budget: Defaults of the training budget that differ from the suite's, such as ``{"lr": 1e-5}``.
    """

    start: ClassVar[str] = "sft"
    budget: ClassVar[Mapping[str, Any]] = {}

    @property
    def measure(self) -> Measure:
        """Of :attr:`Step.logp`: over the whole vocabulary ("vocab") or each node's legal children ("trie")."""
        return "vocab"

    @property
    def redraw(self) -> int | None:
        """When candidates are drawn: None once and then fixed, 0 at every step, n every n epochs."""
        return None

    @property
    def reference(self) -> int | Literal["start"] | None:
        """The frozen policy of :attr:`Step.ref_logp`: none, "start", or n: renewed every n epochs."""
        return None

    @property
    def reference_lasts(self) -> bool:
        """Whether draws are made ahead and the reference stays as long as they do, so its part is computed once."""
        ahead = self.redraw != 0 and self.reference is not None
        return ahead and (self.reference == "start" or self.reference == self.redraw)

    @property
    def updates(self) -> int:
        """Gradient steps per draw."""
        return 1

    @property
    def rollouts(self) -> bool:
        """A model draws the candidates, the policy or a teacher: the target and the history may be among them.

        Otherwise the target may stand in column 0 only, and neither its leaf nor the history in any other.
        """
        return False

    @property
    def dropout(self) -> bool:
        """Whether the policy trains with dropout."""
        return True

    def candidates(self, draw: Draw) -> Tensor | Drawn:
        """Draw candidates [B, C] for a batch; by convention the target stands in column 0."""
        return draw.beside_target()

    def prepare(self, step: Step) -> Mapping[str, Tensor]:
        """Compute once per draw, without gradient, what all its updates share, such as advantages: [B, ...].

        The step sees the whole batch, the policy and the heads as they were when the candidates were drawn; heads
        have been through :meth:`begin`, but for the first draws that are made ahead of training. What is returned
        stands in :attr:`Step.extra`.
        """
        return {}

    def loss(self, step: Step) -> Tensor:
        """Return the loss: a scalar, a mean over the prompts."""
        raise NotImplementedError

    def heads(self, width: int) -> dict[str, Head]:
        """Return trainable parts beside the backbone, whose states are ``width`` wide."""
        return {}

    def begin(self, step: Step) -> None:
        """Initialise heads from the first batch, without gradient."""


def check_declarations(method: Ranker, where: str) -> None:
    """Refuse a method that declares what does not exist.

    Raises:
        ConfigError: A declaration has no allowed value; the message names both.
    """
    allowed: dict[str, tuple[bool, str]] = {
        "needs": (set(method.needs) <= KNOWN_NEEDS, f"a set with any of {', '.join(sorted(KNOWN_NEEDS))}"),
    }
    if isinstance(method, FineTune):
        redraw, reference, updates = method.redraw, method.reference, method.updates
        allowed |= {
            "measure": (method.measure in ("vocab", "trie"), "'vocab' or 'trie'"),
            "redraw": (redraw is None or _whole(redraw, 0), "None, 0 or a number of epochs"),
            "reference": (reference in (None, "start") or _whole(reference, 1), "None, 'start' or a number of epochs"),
            "updates": (_whole(updates, 1), "a number of gradient steps, at least 1"),
            "rollouts": (isinstance(method.rollouts, bool), "True or False"),
            "dropout": (isinstance(method.dropout, bool), "True or False"),
        }
    for name, (held, values) in allowed.items():
        if not held:
            found = getattr(method, name)
            raise ConfigError(f"{where}: {type(method).__name__} declares {name} = {found!r}; allowed: {values}")


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


class Draw:
    """A batch for which candidates are drawn; nothing here has a gradient.

    Args:
        prompts: The prompts.
        target: Items to predict, [B].
        policy: The policy as it is now.
        generator: Random stream of this draw.
        popularity: Training interactions of each item, [N].
        progress: Share of the training budget that is spent, in [0, 1].
        epoch: Epochs done.
        collab: Collaborative scores, if the method needs them.
        frequency: Occurrences of each item in the training histories, every sliding window counted, [N];
            None: the popularity.
        text: Unit vectors of the items' texts, if the method needs them, [N, E].
        fitted: What :meth:`Ranker.fit` returned.
    """

    def __init__(
        self,
        prompts: Prompts,
        target: Tensor,
        policy: Policy,
        generator: torch.Generator,
        popularity: Tensor,
        progress: float = 0.0,
        epoch: int = 0,
        collab: Collab | None = None,
        frequency: Tensor | None = None,
        text: Tensor | None = None,
        fitted: Any = None,
    ) -> None:
        self.prompts = prompts
        self.target = target
        self.policy = policy
        self.generator = generator
        self.popularity = popularity
        self.progress = progress
        self.epoch = epoch
        self.fitted = fitted
        self.frequency = popularity if frequency is None else frequency
        self._collab = collab
        self._text = text

    @property
    def catalogue(self) -> Catalogue:
        """Items and their paths."""
        return self.policy.catalogue

    @property
    def history(self) -> Tensor:
        """Items, oldest first, -1 on the right, [B, H]."""
        return self.prompts.history

    @cached_property
    def encoded(self) -> Encoded:
        """The encoded prompts."""
        with torch.no_grad():
            return self.policy.encode(self.history)

    def beside_target(self, items: Tensor | None = None) -> Tensor:
        """Put the target in column 0, before the given candidates: [B, 1 + n]."""
        target = self.target[:, None]
        return target if items is None else torch.cat([target, items], 1)

    def uniform(self, n: int) -> Tensor:
        """Draw n distinct items uniformly, never the target, its leaf or the history: [B, n]."""
        return self._distinct(n, torch.ones_like(self.popularity, dtype=torch.float32))

    def popular(self, n: int, counts: Tensor | None = None) -> Tensor:
        """Draw n distinct items in proportion to counts, by default their training interactions: [B, n].

        Args:
            n: How many.
            counts: Of each item, such as :attr:`frequency`, [N].
        """
        return self._distinct(n, (self.popularity if counts is None else counts).float())

    def rarer(self, n: int) -> Tensor:
        """Draw n distinct items, uniform over those strictly less frequent than the target: [B, n].

        Where there are fewer, the rest is -1; for the target that is rarest, all of it.
        """
        allowed = (self.frequency[None] < self.frequency[self.target][:, None]) & ~self._forbidden()
        key = torch.rand(allowed.shape, generator=self.generator, device=allowed.device).masked_fill(~allowed, -1.0)
        best = key.topk(min(n, key.shape[1]), 1)
        picked = torch.where(best.values < 0, -1, best.indices)
        return torch.nn.functional.pad(picked, (0, n - picked.shape[1]), value=-1)

    def hard(self, n: int, lo: float, hi: float) -> Tensor:
        """Draw n distinct items from a band of ranks under the collaborative model: [B, n].

        Args:
            n: How many.
            lo: Start of the band as a share of the catalogue, 0 the highest score.
            hi: End of the band.
        """
        order = self.collab_all().masked_fill(self._forbidden(), -torch.inf).argsort(1, descending=True)
        band = order[:, int(lo * order.shape[1]) : max(int(hi * order.shape[1]), int(lo * order.shape[1]) + n)]
        key = torch.rand(band.shape, generator=self.generator, device=band.device)
        picked = self._allowed_only(band.gather(1, key.argsort(1)[:, :n]))
        return torch.nn.functional.pad(picked, (0, n - picked.shape[1]), value=-1)

    def similar(self, n: int, nearest: int) -> Tensor:
        """Draw n distinct items from those whose text is closest to the history's mean text: [B, n].

        A history without text has no neighbours: -1.

        Args:
            n: How many.
            nearest: How many of the closest items are drawn from.

        Raises:
            BenchError: The method does not declare that it needs texts.
        """
        if self._text is None:
            raise BenchError('this method reads item texts; declare needs = frozenset({"text"}) in its class')
        seen = ((self.history >= 0).unsqueeze(-1) * self._text[self.history.clamp(min=0)]).sum(1)
        with torch.autocast(seen.device.type, enabled=False):
            close = (seen @ self._text.T).masked_fill(self._forbidden(), -torch.inf)
        close = close.masked_fill((seen == 0).all(1, keepdim=True), -torch.inf)
        best = close.topk(min(max(nearest, n), close.shape[1]), 1)
        key = torch.rand(best.indices.shape, generator=self.generator, device=close.device)
        picked = key.masked_fill(best.values == -torch.inf, -1.0).topk(min(n, best.indices.shape[1]), 1)
        return torch.where(picked.values < 0, -1, best.indices.gather(1, picked.indices))

    def sampled(self, n: int, temperature: float = 1.0) -> Tensor:
        """Draw n items from the trie policy, with replacement; the target may occur: [B, n]."""
        drawn = sample(self.policy, self.encoded, n, temperature=temperature, generator=self.generator)
        return self._item_of(drawn.leaves)

    def unmasked(self, n: int) -> Drawn:
        """Draw n token paths from the whole vocabulary; few of them may be items: ``items`` and ``paths``."""
        drawn = sample_unmasked(self.policy, self.encoded, n, generator=self.generator)
        return Drawn(self._item_of(drawn.leaves), paths=drawn.paths)

    def beams(self, n: int, measure: Measure = "vocab", where: Tensor | None = None) -> Tensor:
        """Return an item of each of the n best leaves of a trie beam search, best first: [B, n].

        The target may be among them. Where the search finds fewer, the rest is -1.

        Args:
            n: Width of the search.
            measure: Of the scores; published beams use "vocab".
            where: Prompts that are searched for, [B]; the others get -1. None: all.
        """
        if where is None:
            return self._item_of(beam(self.policy, self.encoded, n, measure=measure).leaves)
        out = self.target.new_full((len(self.target), n), -1)
        rows = where.nonzero()[:, 0]
        if len(rows):
            with torch.no_grad():
                encoded = self.policy.encode(self.history[rows])
            out[rows] = self._item_of(beam(self.policy, encoded, n, measure=measure).leaves)
        return out

    def mistakes(self, n: int, width: int) -> Tensor:
        """Return the policy's n best items that are neither the target, on its leaf, nor in the history: [B, n].

        Args:
            n: How many; -1 where the search finds fewer.
            width: Beams to look among.
        """
        found = self.beams(max(width, n))
        found = torch.where(found < 0, -1, self._allowed_only(found.clamp(min=0)))
        order = (found < 0).long().argsort(dim=1, stable=True)
        return found.gather(1, order)[:, :n]

    def flows(self, items: Tensor, weights: Tensor) -> Tensor:
        """Return the flow through every state of the candidates' paths: [B, C, L + 1], float64.

        F(s) is the sum of the weights of all items below s: state 0 is the root, state L the leaf; behind the
        end of a short path the leaf's flow is repeated.

        Args:
            items: Candidates, [B, C]; an absent one gets item 0's flows.
            weights: Non-negative weight of each item, [N], or of each item for each prompt, [B, N].

        Source: Flower, section 3.2.
        """
        trie = self.catalogue.tensors(items.device)
        order, first, last = self.catalogue.spans(items.device)
        at = items.clamp(min=0)
        nodes = torch.where(trie.nodes[at] < 0, trie.leaf_of[at].unsqueeze(-1), trie.nodes[at])
        nodes = torch.nn.functional.pad(nodes, (1, 0))
        below = torch.nn.functional.pad(weights.double()[..., order].cumsum(-1), (1, 0))
        if below.ndim == 1:
            return below[last[nodes]] - below[first[nodes]]
        flat = nodes.flatten(1)
        return (below.gather(1, last[flat]) - below.gather(1, first[flat])).view(nodes.shape)

    def collab(self, items: Tensor) -> Tensor:
        """Return raw collaborative scores of candidates [B, C].

        Raises:
            BenchError: The method does not declare that it needs collaborative scores.
        """
        return self._scores().of(self.prompts.part, self.prompts.rows, items)

    def collab_all(self) -> Tensor:
        """Return raw collaborative scores of the whole catalogue [B, N]."""
        return self._scores().score(self.prompts.part, self.prompts.rows)

    def _scores(self) -> Collab:
        if self._collab is None:
            raise BenchError(
                'this method reads collaborative scores; declare needs = frozenset({"collab"}) in its class'
            )
        return self._collab

    def _item_of(self, leaves: Tensor) -> Tensor:
        """Pick an item of each leaf at random: [B, n] leaves -> items, -1 stays."""
        catalogue = self.catalogue
        start, items = catalogue.leaf_items(leaves.device)
        at = leaves.clamp(min=0)
        size = start[at + 1] - start[at]
        pick = (torch.rand(leaves.shape, generator=self.generator, device=leaves.device) * size).long()
        return torch.where(leaves < 0, -1, items[start[at] + torch.minimum(pick, size - 1)])

    def _forbidden(self) -> Tensor:
        """Mark target, its leaf's items and the history: [B, N]."""
        leaf = self.catalogue.tensors(self.target.device).leaf_of
        mask = leaf[None] == leaf[self.target][:, None]
        row, col = (self.history >= 0).nonzero(as_tuple=True)
        mask[row, self.history[row, col]] = True
        return mask

    def _allowed_only(self, items: Tensor) -> Tensor:
        leaf = self.catalogue.tensors(self.target.device).leaf_of
        bad = leaf[items] == leaf[self.target][:, None]
        bad |= (items[:, :, None] == self.history[:, None, :]).any(2)
        return torch.where(bad, -1, items)

    def _distinct(self, n: int, weights: Tensor) -> Tensor:
        """Draw without replacement; the rows that cannot be filled end with -1.

        Draws with replacement and draws the bad entries again; the few rows that stay bad (or all rows of a
        small catalogue) are drawn exactly with Gumbel keys over the whole catalogue.
        """
        B, N = len(self.target), len(weights)
        if n == 0:
            return self.target.new_zeros(B, 0)
        out = self.target.new_full((B, n), -1)
        todo = torch.arange(B, device=out.device)
        if n * 8 <= N:
            out = self._weighted(B * n, weights).view(B, n)
            for _ in range(8):
                bad = (self._allowed_only(out) < 0) | _repeated(out)
                if not bad.any():
                    return out
                out[bad] = self._weighted(int(bad.sum()), weights)
            todo = ((self._allowed_only(out) < 0) | _repeated(out)).any(1).nonzero()[:, 0]
        if len(todo):
            key = torch.rand(len(todo), N, generator=self.generator, device=out.device)
            key = weights.log() - (-key.clamp(min=1e-20).log()).log()
            key = key.masked_fill(self._forbidden()[todo], -torch.inf)
            best = key.topk(min(n, N), 1)
            out[todo] = -1
            out[todo, : best.indices.shape[1]] = torch.where(best.values == -torch.inf, -1, best.indices)
        return out

    def _weighted(self, n: int, weights: Tensor) -> Tensor:
        u = torch.rand(n, generator=self.generator, device=weights.device, dtype=torch.float64)
        total = weights.double().cumsum(0)
        return torch.searchsorted(total, u * total[-1], right=True).clamp(max=len(weights) - 1)


class Step:
    """One gradient step's view of a batch. Everything is computed when first asked for.

    Args:
        drawn: The candidates.
        prompts: The prompts.
        policy: The policy being trained.
        measure: Which log-probabilities :attr:`logp` and :attr:`ref_logp` are.
        heads: The method's trainable parts.
        epoch: Epochs done.
        progress: Share of the training budget that is spent, in [0, 1].
        reference: Computes the reference's token log-probabilities [B, C, L] in the same measure.
        old_tokens: Token log-probabilities at the time of the draw, [B, C, L], if updates > 1.
        log: Receives diagnostics for ``train.jsonl``; None where the step is not logged.
    """

    def __init__(
        self,
        drawn: Drawn,
        prompts: Prompts,
        policy: Policy,
        measure: Measure,
        heads: Mapping[str, nn.Module],
        epoch: int = 0,
        progress: float = 0.0,
        reference: Callable[[], Tensor] | None = None,
        old_tokens: Tensor | None = None,
        log: dict[str, float] | None = None,
    ) -> None:
        self.items = drawn.items
        self.paths = drawn.paths
        self.rewards = drawn.rewards
        self.extra = drawn.extra
        self.prompts = prompts
        self.policy = policy
        self.measure = measure
        self.heads = heads
        self.epoch = epoch
        self.progress = progress
        self.old_tokens = old_tokens
        self._reference = reference
        self._log = log

    @property
    def catalogue(self) -> Catalogue:
        """Items and their paths."""
        return self.policy.catalogue

    @cached_property
    def present(self) -> Tensor:
        """Which candidates exist, [B, C]; of unmasked samples also those that are no item."""
        return self.items >= 0 if self.paths is None else self.paths[..., 0] >= 0

    @cached_property
    def encoded(self) -> Encoded:
        """The encoded prompts."""
        return self.policy.encode(self.prompts.history)

    @cached_property
    def tokens(self) -> TokenScores:
        """Token log-probabilities in both measures, each [B, C, L]."""
        return score(self.policy, self.encoded, self.items, self.paths)

    @cached_property
    def logp_tokens(self) -> Tensor:
        """Token log-probabilities in the method's measure, [B, C, L]."""
        return self.tokens.trie if self.measure == "trie" else self.tokens.vocab

    @cached_property
    def logp(self) -> Tensor:
        """Log-probability log pi(item | prompt) in the method's measure, [B, C]."""
        return self.logp_tokens.sum(-1)

    @cached_property
    def ref_tokens(self) -> Tensor:
        """Token log-probabilities of the reference, [B, C, L].

        Raises:
            BenchError: The method declares no reference.
        """
        if self._reference is None:
            raise BenchError('this method reads a reference policy; declare reference = "start" in its class')
        return self._reference()

    @cached_property
    def ref_logp(self) -> Tensor:
        """Log-probability of the reference, log pi_ref(item | prompt), [B, C], without gradient."""
        return self.ref_tokens.sum(-1)

    @cached_property
    def gain(self) -> Tensor:
        """Log-ratio log pi - log pi_ref, [B, C]; 0 for absent candidates."""
        return self.logp - self.ref_logp

    def nll(self, reduction: Literal["token", "item"] = "token") -> Tensor:
        """Cross-entropy of column 0 over the vocabulary, a mean over the prompts.

        Args:
            reduction: Of a path's tokens: their mean (LETTER's code) or their sum (GFlowGR eq. 1).
        """
        nll = -self.tokens.vocab[:, 0].sum(-1)
        return (nll / self.lengths[:, 0] if reduction == "token" else nll).mean()

    @property
    def states(self) -> Tensor:
        """Decoder states; state l has read l tokens and predicts token l, [B, C, L, D]."""
        return self.tokens.states

    @cached_property
    def lengths(self) -> Tensor:
        """Path length of each candidate; 0 where absent, [B, C]."""
        return self.tokens.present.sum(-1)

    def log_preferences(self, margin: Tensor, paired: Tensor) -> None:
        """Keep what a preference loss is judged by; column 0 is chosen, the others rejected.

        Args:
            margin: What the loss makes large, [B, K].
            paired: Which of them count, [B, K].
        """
        if self._log is None:
            return
        drift, rejected = self.gain.detach(), self.present[:, 1:]
        self.log(
            accuracy=(margin > 0)[paired].float().mean(),
            margin=margin[paired].mean(),
            chosen_drift=drift[:, 0].mean(),
            rejected_drift=drift[:, 1:][rejected].mean(),
        )

    def log(self, **values: Tensor | float) -> None:
        """Keep diagnostics of this step for ``train.jsonl``, if it is one that is logged.

        What is not a number, such as a mean over no pairs, is left out.
        """
        if self._log is None:
            return
        for name, value in values.items():
            number = float(value.detach()) if isinstance(value, Tensor) else float(value)
            if not math.isnan(number):
                self._log[name] = number


def _repeated(items: Tensor) -> Tensor:
    """Mark entries that occur earlier in their row: [B, n]."""
    order = items.argsort(dim=1, stable=True)
    ranked = items.gather(1, order)
    same = torch.zeros_like(items, dtype=torch.bool)
    same[:, 1:] = ranked[:, 1:] == ranked[:, :-1]
    return torch.zeros_like(same).scatter(1, order, same)
