"""TIGER and LETTER: a T5 encoder-decoder over semantic-id codes.

The weights live in a real ``transformers.T5ForConditionalGeneration``; the forward passes are written here,
so that all candidates and beams of a user are query rows against one set of cross-attention keys and values.

Source: Rajput et al., 2023 (TIGER); Wang et al., 2024 (LETTER); architecture of Raffel et al., 2020 (T5).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import T5Config, T5ForConditionalGeneration

from rlrecbench.catalogue import Catalogue
from rlrecbench.policy.base import Policy
from rlrecbench.policy.dropout import dropout, relu_dropout

BUCKETS = 32  # relative position buckets; T5
REACH = 128  # tokens; positions farther apart share a bucket; T5
PAD = 0  # also the decoder's start token; LETTER's configuration


@dataclass(frozen=True)
class T5Shape:
    """Size of the model."""

    layers: int = 4  # in the encoder, and as many in the decoder; LETTER
    d_model: int = 128  # width D; LETTER
    d_ff: int = 1024  # inner width of the feed-forward layers; LETTER
    heads: int = 6  # attention heads; LETTER
    d_kv: int = 64  # width of a head; LETTER
    dropout: float = 0.1  # probability; LETTER


PRESETS: Mapping[str, T5Shape] = MappingProxyType(
    {"paper": T5Shape(), "tiny": T5Shape(layers=2, d_model=64, d_ff=256, heads=4, d_kv=16)}
)


@dataclass(frozen=True)
class T5Encoded:
    """Cross-attention keys and values of B prompts of at most S tokens.

    Attributes:
        keys: Transposed, one per layer, [B, heads, d_kv, S].
        values: One per layer, [B, heads, S, d_kv].
        mask: 0 at a token, -inf behind the end, [B, 1, 1, S].
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    mask: Tensor

    @property
    def batch(self) -> int:
        """Number of prompts."""
        return len(self.mask)

    def select(self, rows: Tensor) -> "T5Encoded":
        """The prompts of some rows."""
        return T5Encoded(tuple(k[rows] for k in self.keys), tuple(v[rows] for v in self.values), self.mask[rows])


@dataclass(frozen=True)
class T5Cache:
    """Self-attention keys and values of W beams that have taken t tokens.

    Attributes:
        encoded: The prompts.
        past: Per layer keys and values side by side, [B * W, t, 2 * heads * d_kv].
        beams: W.
    """

    encoded: T5Encoded
    past: tuple[Tensor, ...]
    beams: int


class T5Policy(Policy):
    """A randomly initialised T5 over a catalogue of codes.

    The weights are drawn from torch's global generator: seed it before.

    Args:
        catalogue: Items and code paths; token 0 is reserved for padding and the decoder's start.
        shape: Size of the model.

    Raises:
        ValueError: A path uses token 0.
    """

    def __init__(self, catalogue: Catalogue, shape: T5Shape = PRESETS["paper"]) -> None:
        super().__init__()
        if (catalogue.paths == PAD).any():
            raise ValueError("token 0 is the padding of the T5 backbone; codes must start at token 1")
        self.catalogue = catalogue
        self.shape = shape
        self.width = shape.d_model
        self.t5 = T5ForConditionalGeneration(_configuration(shape, catalogue.vocab))

    # ---- the three verbs

    def encode(self, history: Tensor) -> T5Encoded:
        """Encode the codes of the history; an empty history is one padding token.

        Linear layers see only real tokens, packed [T, D]; attention sees them padded [B, S].
        """
        tokens, fill, valid = self._prompts(history)
        mask = torch.where(valid, 0.0, -math.inf)[:, None, None, :]
        blocks: Any = self.t5.encoder.block
        size = valid.shape[1]
        distance = torch.arange(1 - size, size, device=mask.device)
        table = blocks[0].layer[0].SelfAttention.relative_attention_bias(_bucket(distance, two_sided=True))
        near = torch.arange(size, device=mask.device)
        bias = table[near[None, :] - near[:, None] + size - 1].permute(2, 0, 1)  # [heads, S, S]
        full = len(tokens) == fill.numel()  # no padding: packed and padded are the same
        bias = bias if full else bias + mask
        kept = valid.flatten().nonzero().squeeze(1)

        x = self._drop(F.embedding(tokens, self.t5.shared.weight))
        for block in blocks:
            attention: Any = block.layer[0].SelfAttention
            y = _project(_normed(block.layer[0], x), attention.q, attention.k, attention.v)
            y = self._self_attention(_padded(y, fill), bias)
            x = x + self._drop(attention.o(y if full else y.index_select(0, kept)))
            x = self._feed_forward(block, x)
        x = self._drop(_norm(x, self.t5.encoder.final_layer_norm))
        return self._crossing(x, fill, mask)

    def decode(self, encoded: T5Encoded, paths: Tensor) -> Tensor:
        """Teacher forcing; see Policy.decode."""
        B, C, L = paths.shape
        T = L + 1
        tokens = F.pad(paths.clamp(min=PAD), (1, 0), value=PAD)
        at = torch.arange(T, device=paths.device)
        back = at[:, None] - at[None, :]
        bias = self._decoder_bias(back.clamp(min=0)).masked_fill(back < 0, -math.inf)

        x = self._drop(F.embedding(tokens.view(B, C * T), self.t5.shared.weight))
        for i, block in enumerate(self._decoder_blocks()):
            attention: Any = block.layer[0].SelfAttention
            y = _project(_normed(block.layer[0], x), attention.q, attention.k, attention.v)
            y = self._self_attention(y.view(B * C, T, -1), bias)
            x = x + self._drop(attention.o(y.view(B, C * T, -1)))
            x = self._cross(block, i, x, encoded)
            x = self._feed_forward(block, x)
        x = self._drop(_norm(x, self.t5.decoder.final_layer_norm))
        return x.view(B, C, T, self.width)

    def head(self, states: Tensor) -> Tensor:
        """Tied output layer, scaled by D^-0.5 as in T5; float32 under autocast too, since scores are summed."""
        with torch.autocast(states.device.type, enabled=False):
            return F.linear(states.float() * self.width**-0.5, self.t5.shared.weight)

    # ---- search

    def start(self, encoded: T5Encoded) -> tuple[Tensor, T5Cache]:
        """Take the decoder's start token."""
        tokens = torch.full((encoded.batch, 1), PAD, device=encoded.mask.device)
        return self._advance(encoded, tokens, ())

    def step(self, cache: T5Cache, tokens: Tensor, parents: Tensor) -> tuple[Tensor, T5Cache]:
        """Take one token per beam; see Policy.step."""
        first = torch.arange(len(parents), device=parents.device)[:, None] * cache.beams
        rows = (first + parents).flatten()
        return self._advance(cache.encoded, tokens, tuple(p.index_select(0, rows) for p in cache.past))

    def _advance(self, encoded: T5Encoded, tokens: Tensor, past: tuple[Tensor, ...]) -> tuple[Tensor, T5Cache]:
        """Run one position; ``past`` belongs to the new beams already."""
        B, W = tokens.shape
        heads, size = self.shape.heads, self.shape.d_kv
        seen = past[0].shape[1] + 1 if past else 1
        bias = self._decoder_bias(torch.arange(seen - 1, -1, -1, device=tokens.device))  # [heads, t]
        x = self._drop(F.embedding(tokens, self.t5.shared.weight))
        grown = []
        for i, block in enumerate(self._decoder_blocks()):
            attention: Any = block.layer[0].SelfAttention
            normed = _normed(block.layer[0], x)
            q, new = _project(normed, attention.q, attention.k, attention.v).tensor_split([heads * size], -1)
            new = new.reshape(B * W, 1, -1)
            grown.append(torch.cat([past[i], new], 1) if past else new)
            keys, values = grown[i].unflatten(2, (2, heads, size)).unbind(2)
            # One query per beam and few keys: products and sums are faster than thousands of tiny matmuls.
            scores = (q.reshape(B * W, 1, heads, size) * keys).sum(-1) + bias.T
            share = self._drop(scores.softmax(1).to(values.dtype))
            mixed = (share.unsqueeze(-1) * values).sum(1).view(B, W, -1)
            x = x + self._drop(attention.o(mixed))
            x = self._cross(block, i, x, encoded)
            x = self._feed_forward(block, x)
        states = self._drop(_norm(x, self.t5.decoder.final_layer_norm))
        return states, T5Cache(encoded, tuple(grown), W)

    # ---- parts

    def _prompts(self, history: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Packed tokens [T], for each padded place its packed row [B, S] (0 behind the end), valid [B, S]."""
        trie = self.trie
        history = history.to(self.device)
        codes = torch.where(history[..., None] >= 0, trie.paths[history.clamp(min=0)], -1).flatten(1)
        codes = F.pad(codes, (1, 0), value=-1)
        codes[:, 0] = torch.where((codes >= 0).any(1), -1, PAD)
        lengths = (codes >= 0).sum(1)
        near = torch.arange(int(lengths.max()), device=self.device)
        valid = near < lengths[:, None]
        fill = torch.where(valid, (lengths.cumsum(0) - lengths)[:, None] + near, 0)
        return codes[codes >= 0], fill, valid

    def _crossing(self, x: Tensor, fill: Tensor, mask: Tensor) -> T5Encoded:
        """Project the encoder's output to every decoder layer's keys and values."""
        keys, values = [], []
        for block in self._decoder_blocks():
            attention: Any = block.layer[1].EncDecAttention
            y = _padded(_project(x, attention.k, attention.v), fill).unflatten(-1, (2, self.shape.heads, -1))
            keys.append(y[:, :, 0].permute(0, 2, 3, 1).contiguous())
            values.append(y[:, :, 1].transpose(1, 2).contiguous())
        return T5Encoded(tuple(keys), tuple(values), mask)

    def _cross(self, block: Any, layer: int, x: Tensor, encoded: T5Encoded) -> Tensor:
        """Attend from [B, Q, D] query rows to the prompt they share."""
        attention: Any = block.layer[1].EncDecAttention
        q = attention.q(_normed(block.layer[1], x)).view(*x.shape[:2], self.shape.heads, -1).transpose(1, 2)
        mixed = self._attend(q, encoded.keys[layer], encoded.values[layer], encoded.mask)
        return x + self._drop(attention.o(mixed.transpose(1, 2).reshape(*x.shape[:2], -1)))

    def _self_attention(self, projected: Tensor, bias: Tensor) -> Tensor:
        """Attend within rows; queries, keys, values side by side [R, S, 3 * heads * d_kv] -> [R * S, heads * d_kv]."""
        q, k, v = projected.unflatten(-1, (3, self.shape.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self._attend(q, k.transpose(2, 3), v, bias).transpose(1, 2).flatten(2).flatten(0, 1)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """Attention with keys already transposed; T5 does not scale the products."""
        scores = q @ k + bias
        return self._drop(scores.softmax(-1).to(v.dtype)) @ v

    def _feed_forward(self, block: Any, x: Tensor) -> Tensor:
        dense: Any = block.layer[-1].DenseReluDense
        inner = relu_dropout(dense.wi(_normed(block.layer[-1], x)), self.shape.dropout, self.training)
        return x + self._drop(dense.wo(inner))

    def _decoder_blocks(self) -> Iterable[Any]:
        blocks: Any = self.t5.decoder.block
        return blocks  # type: ignore[no-any-return]  # a ModuleList is not typed by its elements

    def _decoder_bias(self, back: Tensor) -> Tensor:
        """Relative bias for distances [...] to earlier positions -> [heads, ...]."""
        blocks: Any = self.t5.decoder.block
        return blocks[0].layer[0].SelfAttention.relative_attention_bias(_bucket(-back)).movedim(-1, 0)  # type: ignore[no-any-return]

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.shape.dropout, self.training)


def flops(shape: T5Shape, vocab: int, prompt: float, decoded: float) -> float:
    """Estimate a forward pass: two operations per weight that a token meets, attention products not counted.

    Args:
        shape: Size of the model.
        vocab: Size of the vocabulary V.
        prompt: Tokens in the prompt.
        decoded: Decoded positions, all candidates or beams together.
    """
    inner = shape.heads * shape.d_kv
    encoder = shape.layers * (4 * shape.d_model * inner + 2 * shape.d_model * shape.d_ff)
    crossing = shape.layers * 2 * shape.d_model * inner
    return 2 * (prompt * (encoder + crossing) + decoded * (encoder + crossing + shape.d_model * vocab))


def _configuration(shape: T5Shape, vocab: int) -> T5Config:
    settings: dict[str, Any] = {
        "vocab_size": vocab,
        "d_model": shape.d_model,
        "d_kv": shape.d_kv,
        "d_ff": shape.d_ff,
        "num_layers": shape.layers,
        "num_decoder_layers": shape.layers,
        "num_heads": shape.heads,
        "relative_attention_num_buckets": BUCKETS,
        "relative_attention_max_distance": REACH,
        "dropout_rate": shape.dropout,
        "feed_forward_proj": "relu",
        "tie_word_embeddings": True,
        "pad_token_id": PAD,
        "decoder_start_token_id": PAD,
        "eos_token_id": None,
    }
    return T5Config(**settings)


def _norm(x: Tensor, layer: Any) -> Tensor:
    """Root-mean-square norm, without mean and bias."""
    return F.rms_norm(x, (x.shape[-1],), layer.weight, layer.variance_epsilon)


def _normed(sublayer: Any, x: Tensor) -> Tensor:
    return _norm(x, sublayer.layer_norm)


def _project(x: Tensor, *layers: nn.Linear) -> Tensor:
    """Several linear layers without bias as one matrix product, side by side."""
    return F.linear(x, torch.cat([layer.weight for layer in layers]))


def _padded(packed: Tensor, fill: Tensor) -> Tensor:
    """[T, width] -> [B, S, width]; nothing to do where no row is padded."""
    spread = packed if len(packed) == fill.numel() else packed.index_select(0, fill.flatten())
    return spread.view(*fill.shape, -1)


def _bucket(relative: Tensor, two_sided: bool = False) -> Tensor:
    """T5's bucket of a relative position (key minus query): exact when near, logarithmic when far.

    Source: Raffel et al., 2020, section 2.1.
    """
    buckets = BUCKETS
    side = torch.zeros_like(relative)
    if two_sided:
        buckets //= 2
        side = (relative > 0).long() * buckets
    distance = relative.abs()
    exact = buckets // 2
    far = torch.log(distance.clamp(min=1).float() / exact) / math.log(REACH / exact) * (buckets - exact)
    return side + torch.where(distance < exact, distance, (exact + far.long()).clamp(max=buckets - 1))
