"""Constrained beam search, against ``transformers.generate`` on the same weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlrecbench.bench.timing import Result, compare
from rlrecbench.bench.world import CODES, LEVELS, Ints, index
from rlrecbench.catalogue import Catalogue
from rlrecbench.policy.search import beam_all
from rlrecbench.policy.t5 import PAD, PRESETS, T5Policy

USERS, BEAMS, SHORTEST, LONGEST = 64, 20, 4, 20  # test users at a time; LETTER's beams; Beauty's histories
TOLERANCE = 1e-3  # nats between two float32 computations of a path's log-probability


def search_t5(data: Path | None, repeats: int) -> Result:
    """Constrained beam search, against ``transformers.generate`` on the same weights.

    Args:
        data: Folder with ``beauty/beauty.letter_index.json.gz``; a random index of that shape without it.
        repeats: Alternating repeats.
    """
    rng = np.random.default_rng(0)
    catalogue = Catalogue(index(data, rng), vocab=1 + LEVELS * CODES)
    torch.manual_seed(0)
    policy = T5Policy(catalogue, PRESETS["paper"]).eval()
    lengths = np.clip(rng.geometric(1 / 4, USERS) + SHORTEST - 1, SHORTEST, LONGEST)  # mean 7, as in Beauty
    drawn = rng.integers(catalogue.n_items, size=(USERS, LONGEST))
    history = torch.from_numpy(np.where(np.arange(LONGEST) < lengths[:, None], drawn, -1))

    def ours() -> tuple[Ints, Ints]:
        found = beam_all(policy, history, BEAMS)
        return found.leaves.numpy(), found.scores.numpy()

    generate = _generate(policy, history)
    (leaves, scores), (other, other_scores) = ours(), generate()
    same = np.array_equal(np.sort(leaves), np.sort(other)) and np.allclose(scores, other_scores, atol=TOLERANCE)
    return compare("search/t5", "transformers.generate with a prefix function", ours, generate, bool(same), repeats)


def _generate(policy: T5Policy, history: Tensor) -> Callable[[], tuple[Ints, Ints]]:
    """The same search as a user of transformers writes it: leaves and scores, [B, W]."""
    catalogue, trie = policy.catalogue, policy.catalogue.trie
    codes = torch.where(history[..., None] >= 0, torch.from_numpy(catalogue.paths)[history.clamp(min=0)], PAD)
    prompt = codes.flatten(1)
    legal: dict[tuple[int, ...], list[int]] = {}
    leaf: dict[tuple[int, ...], int] = {}
    for path, nodes in zip(catalogue.paths.tolist(), catalogue.nodes.tolist(), strict=True):
        leaf[tuple(path)] = nodes[-1]
        for depth, node in enumerate([0, *nodes[:-1]]):
            legal[tuple(path[:depth])] = trie.token[trie.first[node] : trie.first[node + 1]].tolist()

    def allowed(_: int, tokens: Tensor) -> list[int]:
        return legal[tuple(tokens.tolist()[1:])]

    model: Any = policy.t5

    def run() -> tuple[Ints, Ints]:
        out = model.generate(
            input_ids=prompt,
            attention_mask=(prompt != PAD).long(),
            num_beams=BEAMS,
            num_return_sequences=BEAMS,
            max_new_tokens=catalogue.max_length,
            length_penalty=0.0,
            do_sample=False,
            prefix_allowed_tokens_fn=allowed,
            return_dict_in_generate=True,
            output_scores=True,
        )
        paths = [leaf[tuple(path)] for path in out.sequences[:, 1:].tolist()]
        return np.array(paths).reshape(-1, BEAMS), out.sequences_scores.view(-1, BEAMS).numpy()

    return run
