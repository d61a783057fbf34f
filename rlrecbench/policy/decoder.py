"""BIGRec: a decoder language model over titles.

The forward passes are the model's own, with attention masks that make a tree of every batch: candidates are branches
on the end of the prompt they share. Training packs a prompt and its candidates into one row; search keeps one cache of
keys for each prompt, in which every node of the trie that is visited stands once and sees its ancestors only, so
nothing is ever copied from beam to beam. The beginning that all prompts of a batch share is run once for all of them.

Source: Bao et al., 2023 (BIGRec).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache

from rlrecbench.catalogue import Catalogue
from rlrecbench.errors import BenchError
from rlrecbench.policy.base import WEIGHTS, Policy, fill, must_fit, read_weights

Ints = NDArray[np.int64]
Prompts = Callable[[Ints], list[list[int]]]  # histories [B, H] -> token ids of the prompts
AHEAD = 16  # nodes that a search may run before they are asked for, where a prompt has so few (measured on two cores)
Past = tuple[tuple[Tensor, Tensor], ...]  # keys and values of each layer, [B, heads, S, D / heads]


@dataclass(frozen=True)
class DecoderEncoded:
    """Tokens of B prompts: what they all begin with, and of each the rest, filled up on the left to S.

    Attributes:
        shared: Token ids, [P].
        tokens: Token ids, anything before a rest begins, [B, S].
        there: Where there is a token, [B, S].
    """

    shared: Tensor
    tokens: Tensor
    there: Tensor

    @property
    def batch(self) -> int:
        """Number of prompts."""
        return len(self.tokens)

    def select(self, rows: Tensor) -> "DecoderEncoded":
        """The prompts of some rows."""
        return DecoderEncoded(self.shared, self.tokens[rows], self.there[rows])

    def whole(self) -> "DecoderEncoded":
        """The same prompts with nothing shared."""
        P = len(self.shared)
        tokens = torch.cat([self.shared.expand(self.batch, -1), self.tokens], 1)
        return DecoderEncoded(self.shared[:0], tokens, F.pad(self.there, (P, 0), value=True))

    @property
    def lengths(self) -> Tensor:
        """Tokens of each prompt, [B]."""
        return len(self.shared) + self.there.sum(1)

    @property
    def positions(self) -> Tensor:
        """Place of each token of the rest in its prompt, [B, S]."""
        return len(self.shared) + (self.there.cumsum(1) - 1).clamp(min=0)


@dataclass(frozen=True)
class DecoderCache:
    """Keys and values of prompts and of everything that was ever appended to them.

    Attributes:
        past: Of each layer; S places.
        seen: Which places each of the W beams is made of, itself included, [B, W, S].
        length: Tokens of each beam, the prompt's included, [B, W].
    """

    past: Past
    seen: Tensor
    length: Tensor


class DecoderPolicy(Policy):
    """A causal language model of transformers over a catalogue of titles.

    Args:
        catalogue: Items and the token paths of their titles.
        model: The model, wrapped by peft where an adapter is trained; ``get_base_model`` or itself has ``get_decoder``
            and ``get_output_embeddings``.
        prompts: Turns histories into token ids.
    """

    shared = ("catalogue", "prompts")

    def __init__(self, catalogue: Catalogue, model: Any, prompts: Prompts) -> None:
        super().__init__()
        self.catalogue = catalogue
        self.prompts = prompts
        self.model = model
        self.adapter = hasattr(model, "peft_config")
        self.width = int(self._bare.config.get_text_config(decoder=True).hidden_size)

    @property
    def _bare(self) -> Any:
        """The model as transformers knows it, an adapter's layers in it."""
        return self.model.get_base_model() if self.adapter else self.model

    @property
    def _forgetful(self) -> bool:
        """Whether layers are run again for their gradient: transformers then gives them no cache."""
        return self.training and any(getattr(part, "gradient_checkpointing", False) for part in self._bare.modules())

    # ---- the three verbs

    def encode(self, history: Tensor) -> DecoderEncoded:
        """Tokenise the prompts; what is computed from them is computed with what follows them."""
        prompts = self.prompts(history.cpu().numpy())
        first, last = min(prompts), max(prompts)
        differ = (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
        shared = min(next(differ, len(first)), len(min(prompts, key=len)) - 1)  # a rest is never empty
        rests = [prompt[shared:] for prompt in prompts]
        width = max(map(len, rests))
        tokens = np.zeros((len(rests), width), np.int64)
        there = np.zeros((len(rests), width), bool)
        for i, rest in enumerate(rests):
            tokens[i, width - len(rest) :] = rest
            there[i, width - len(rest) :] = True
        parts = np.array(prompts[0][:shared], np.int64), tokens, there
        return DecoderEncoded(*(torch.from_numpy(part).to(self.device) for part in parts))

    def decode(self, encoded: DecoderEncoded, paths: Tensor) -> Tensor:
        """Run the prompts and all their candidates as one row each; see Policy.decode.

        A terminator is not run: nothing follows it.
        """
        if self._forgetful:
            encoded = encoded.whole()
        B, C, L = paths.shape
        S = encoded.tokens.shape[1]
        fed = ((paths >= 0) & (paths != self.catalogue.terminator)).flatten(1)  # [B, C * L]
        place = torch.where(fed, S - 1 + fed.cumsum(1), S - 1)  # column of each token; else of the prompt's last
        width = int(place.max()) + 1
        row = torch.arange(B, device=paths.device).unsqueeze(1).expand_as(place)[fed]
        at = torch.arange(C * L, device=paths.device).expand_as(place)[fed]

        def spread(of_prompt: Tensor, of_token: Tensor, fill: int) -> Tensor:
            out = of_token.new_full((B, width), fill)
            out[:, :S] = of_prompt
            return out.index_put_((row, place[fed]), of_token)

        tokens = spread(encoded.tokens, paths.flatten(1)[fed], 0)
        branch = spread(torch.where(encoded.there, 0, -1), at // L + 1, -1)  # 0 the prompt, c + 1 candidate c, -1 none
        position = spread(encoded.positions, encoded.lengths[row] + at % L, 0)
        same = (branch.unsqueeze(1) == branch.unsqueeze(2)) | (branch.unsqueeze(1) == 0)
        mask = same & _causal(width, paths.device) | _itself(width, paths.device)
        hidden, _ = self._run(tokens, position, mask, self._begin(encoded))
        columns = F.pad(place.view(B, C, L), (1, 0), value=S - 1).flatten(1)
        return hidden.gather(1, columns.unsqueeze(-1).expand(-1, -1, hidden.shape[-1])).view(B, C, L + 1, -1)

    def head(self, states: Tensor) -> Tensor:
        """Apply the output layer, in float32 under autocast too, since scores are summed."""
        with torch.autocast(states.device.type, enabled=False):
            logits: Tensor = self._bare.get_output_embeddings()(states.float())
            return logits

    # ---- search

    def start(self, encoded: DecoderEncoded) -> tuple[Tensor, DecoderCache]:
        """Run the prompts.

        Raises:
            BenchError: The model is in training mode and keeps layers' inputs only.
        """
        if self._forgetful:
            raise BenchError("a search needs the keys of every layer, which checkpointing drops; call policy.eval()")
        S, device = encoded.tokens.shape[1], encoded.tokens.device
        mask = encoded.there.unsqueeze(1) & _causal(S, device) | _itself(S, device)
        hidden, past = self._run(encoded.tokens, encoded.positions, mask, self._begin(encoded))
        seen = F.pad(encoded.there, (len(encoded.shared), 0), value=True).unsqueeze(1)
        return hidden[:, -1:], DecoderCache(past, seen, encoded.lengths.unsqueeze(1))

    def step(self, cache: DecoderCache, tokens: Tensor, parents: Tensor) -> tuple[Tensor, DecoderCache]:
        """Append one token to each beam; see Policy.step."""
        seen = cache.seen.gather(1, parents.unsqueeze(-1).expand(-1, -1, cache.seen.shape[-1]))
        own = _itself(tokens.shape[1], tokens.device).expand(len(tokens), -1, -1)
        seen, length = torch.cat([seen, own], 2), cache.length.gather(1, parents)
        hidden, past = self._run(tokens, length, seen, cache.past)
        return hidden, DecoderCache(past, seen, length + 1)

    def walk(self, encoded: DecoderEncoded, lazy: bool = False) -> "TreeWalk":
        """Begin a walk down the trie; see Policy.walk."""
        return TreeWalk(self, encoded, lazy)

    def embed(self, paths: Tensor) -> Tensor:
        """Return the last layer's state at the last token of texts without a prompt; see Policy.embed."""
        there = paths >= 0
        near = torch.arange(paths.shape[1], device=paths.device)
        mask = _causal(len(near), paths.device).expand(len(paths), -1, -1)
        hidden, _ = self._run(paths.clamp(min=0), near.expand_as(paths), mask, ())
        last = (there.sum(1) - 1).clamp(min=0)
        return hidden[torch.arange(len(paths), device=paths.device), last].float()

    # ---- files

    def save(self, folder: Path) -> None:
        """Write the model as transformers does, or the adapter as peft does."""
        whole = {} if self.adapter else {"max_shard_size": "1TB"}
        self.model.save_pretrained(folder, **whole)

    def load(self, folder: Path) -> None:
        """Read what :meth:`save` wrote.

        Raises:
            StoreError: The file is missing or broken, or belongs to another model.
        """
        if not self.adapter:
            return fill(self.model, folder / WEIGHTS)
        path = folder / "adapter_model.safetensors"
        weights = read_weights(path)
        must_fit(weights, get_peft_model_state_dict(self.model), path)
        set_peft_model_state_dict(self.model, weights)

    # ---- parts

    def _begin(self, encoded: DecoderEncoded) -> Past:
        """Run what all prompts begin with, once: its keys and values for each of them."""
        P = len(encoded.shared)
        if not P:
            return ()
        near = torch.arange(P, device=encoded.shared.device).unsqueeze(0)
        _, past = self._run(encoded.shared.unsqueeze(0), near, _causal(P, near.device).unsqueeze(0), ())
        return tuple((k.expand(encoded.batch, -1, -1, -1), v.expand(encoded.batch, -1, -1, -1)) for k, v in past)

    def _run(self, tokens: Tensor, position: Tensor, mask: Tensor, past: Past) -> tuple[Tensor, Past]:
        """Run tokens through the model's layers.

        Args:
            tokens: Token ids, [B, Q].
            position: Where each stands in its sequence, [B, Q].
            mask: Which places each may see, those of the past last ones first, [B, Q, Q] or [B, Q, S + Q]; where it
                says nothing of the past, all of that is seen.
            past: Keys and values of S places.

        Returns:
            States [B, Q, D], and the keys and values of all places.
        """
        cache = _Places(past)
        before = cache.get_seq_length()
        mask = F.pad(mask, (before + mask.shape[1] - mask.shape[2], 0), value=True)
        out = self._bare.get_decoder()(
            input_ids=tokens,
            position_ids=position,
            attention_mask=mask.unsqueeze(1),
            past_key_values=None if self._forgetful else cache,
            use_cache=not self._forgetful,
        )
        return out.last_hidden_state, cache.past


class TreeWalk:
    """A walk down the trie over one cache for each prompt.

    A node's state is computed once, together with those of the only children that follow it, since nothing else can
    follow; with ``lazy`` together with the only children before it, when it is first asked for.

    Args:
        policy: The backbone.
        encoded: B encoded prompts.
        lazy: States are asked for at forks only.
    """

    def __init__(self, policy: DecoderPolicy, encoded: DecoderEncoded, lazy: bool) -> None:
        self._policy, self._lazy = policy, lazy
        self.root, cache = policy.start(encoded)
        self._prompt, self._lengths = cache.seen, encoded.lengths  # [B, 1, S], [B]
        self._past = cache.past  # of S places of the prompt, and of room for M nodes that were run
        self._states = self.root  # the root's, and then one for each of these, [B, 1 + M, D]
        self._seen = cache.seen[..., :0]  # which of them each is made of, itself included, [B, 1 + M, M]
        self._used = torch.zeros_like(self._lengths)  # how many there are, [B]
        self._slot = torch.full((encoded.batch, policy.catalogue.trie.n_nodes), -1, device=self.root.device)
        self._slot[:, 0] = 0

    def go(self, nodes: Tensor, tokens: Tensor, parents: Tensor, wanted: Tensor) -> Tensor:
        """Return the states at nodes; see Walk.go."""
        slots = self._slot.gather(1, nodes)
        missing = wanted & (slots < 0)
        if missing.any():
            self._visit(*(missing.nonzero(as_tuple=True)[0], nodes[missing]))
            slots = self._slot.gather(1, nodes)
        slots = slots.clamp(min=0).unsqueeze(-1).expand(-1, -1, self._states.shape[-1])
        return self._states.gather(1, slots)

    def _visit(self, row: Tensor, node: Tensor) -> None:
        """Run nodes that were not run before, R of them: prompt [R] and node [R], in the order of the prompts."""
        trie, spans = self._policy.trie, self._policy.catalogue.runs(row.device)
        pair = torch.unique(row * len(trie.token) + node)  # sampling may ask for one node twice
        row, node = pair // len(trie.token), pair % len(trie.token)
        item = spans.item[node]
        before = trie.parent[node] if not self._lazy else spans.fork_above[node]
        begin = trie.depth[before]  # depth of the first node that is run, less 1
        count = (trie.depth[node] if self._lazy else spans.end[node]) - begin  # [R]
        of = torch.arange(len(row), device=row.device).repeat_interleave(count)  # [T]
        step = torch.arange(len(of), device=row.device) - (count.cumsum(0) - count)[of]
        of, step, column = self._ration(row, of, step)
        rows, depth = row[of], begin[of] + step
        token, reached = trie.paths[item[of], depth], trie.nodes[item[of], depth]

        asking, at = torch.unique_consecutive(rows, return_inverse=True)  # only these prompts are run, B' of them
        whole, here = len(asking) == len(self._slot), (at, column)
        Q, S, M = int(column.max()) + 1, self._prompt.shape[2], int(self._used.max())
        tokens = torch.zeros(len(asking), Q, dtype=torch.long, device=row.device).index_put_(here, token)
        chain = torch.full_like(tokens, -1).index_put_(here, of)
        position = torch.zeros_like(tokens).index_put_(here, self._lengths[rows] + depth)
        behind = torch.zeros(*tokens.shape, M, dtype=torch.bool, device=row.device)
        behind[here] = self._seen[rows, self._slot[rows, before[of]], :M]
        own = (chain.unsqueeze(1) == chain.unsqueeze(2)) & _causal(Q, row.device)
        mask = torch.cat([self._prompt[asking].expand(-1, Q, -1), behind, own], 2)
        past = tuple((k[:, :, : S + M], v[:, :, : S + M]) for k, v in self._past)
        past = past if whole else tuple((k[asking], v[asking]) for k, v in past)
        hidden, grown = self._policy._run(tokens, position, mask, past)

        self._make_room(M + Q)
        place = self._used[rows] + column
        for kept, new in zip(self._past, grown, strict=True):
            for target, source in zip(kept, new, strict=True):
                target[rows, :, S + place] = source[at, :, S + M + column]
        self._states[rows, 1 + place] = hidden[here]
        seen = F.pad(behind[here], (0, self._seen.shape[2] - M))
        near = torch.arange(Q, device=row.device)
        self._seen[rows, 1 + place] = seen.scatter_(1, self._used[rows].unsqueeze(1) + near, own[here])
        self._slot[rows, reached] = 1 + place
        self._used += torch.bincount(rows, minlength=len(self._used))

    def _ration(self, row: Tensor, of: Tensor, step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Put nodes in columns, what was asked for first, and leave out what would only widen the batch.

        A prompt with many only children to run would make all others wait; its last ones may wait instead, until they
        are asked for.

        Args:
            row: The prompt of each node that was asked for, [R].
            of: Which of them each node belongs to, [T].
            step: How many only children it comes behind, [T].

        Returns:
            ``of``, ``step`` and the column of each node that is run now.
        """
        order = torch.argsort(row[of] * (len(of) + 1) + step, stable=True)
        of, step = of[order], step[order]
        each = torch.bincount(row[of])
        column = torch.arange(len(of), device=of.device) - (each.cumsum(0) - each)[row[of]]
        if self._lazy:
            return of, step, column
        asked = torch.bincount(row)
        width = max(int(asked.max()), len(of) // int((asked > 0).sum()), AHEAD)
        kept = column < width
        return of[kept], step[kept], column[kept]

    def _make_room(self, size: int) -> None:
        """Have room for so many nodes."""
        more = size + size // 2 - self._seen.shape[2] if size > self._seen.shape[2] else 0
        if more:
            self._past = tuple((F.pad(k, (0, 0, 0, more)), F.pad(v, (0, 0, 0, more))) for k, v in self._past)
            self._states = F.pad(self._states, (0, 0, 0, more))
            self._seen = F.pad(self._seen, (0, more, 0, more))


class _Places(DynamicCache):  # type: ignore[misc]  # transformers gives no types
    """Keys and values that grow by what is run; those of before stay as they are."""

    def __init__(self, past: Past) -> None:
        super().__init__()
        self.past = past

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any) -> Any:
        if layer_idx < len(self.past):
            keys, values = self.past[layer_idx]
            now = torch.cat([keys, key_states], 2), torch.cat([values, value_states], 2)
            self.past = (*self.past[:layer_idx], now, *self.past[layer_idx + 1 :])
        else:
            now = key_states, value_states
            self.past = (*self.past, now)
        return now

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.past[layer_idx][0].shape[2] if layer_idx < len(self.past) else 0


def _causal(size: int, device: torch.device) -> Tensor:
    """What each place may see when they stand in a row: itself and those before, [size, size]."""
    return torch.ones(size, size, dtype=torch.bool, device=device).tril()


def _itself(size: int, device: torch.device) -> Tensor:
    return torch.eye(size, dtype=torch.bool, device=device)
