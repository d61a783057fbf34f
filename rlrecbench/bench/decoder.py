"""Constrained beam search over titles, against ``transformers.generate`` on the same weights.

``generate`` keeps a finished title only if it stands among the W best of all continuations of its step; here finished
titles have a pool of their own. So our lists may hold titles that its lists have lost. Equal means that our k-th score
is never lower than its k-th, and that our list is the best of all the titles that its own beams had among their
continuations at any step, kept or not: where its rule loses none of these, the two lists hold the same.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlrecbench.bench.timing import Result, compare
from rlrecbench.bench.titles import TitleWorld, catalogue
from rlrecbench.policy.decoder import DecoderPolicy
from rlrecbench.policy.search import Found, beam_all

BEAMS = 10  # Flower's evaluation
TOLERANCE = 1e-3  # nats between two float32 computations of a path's log-probability
Tokens = tuple[int, ...]  # of a path or of its beginning
Floats = NDArray[np.float32]


def search_decoder(data: Path | None, repeats: int) -> Result:
    """Constrained beam search over titles, against ``transformers.generate`` on the same weights.

    Args:
        data: Folder with ``movies_and_tv``; the titles of ml-100k without it.
        repeats: Alternating repeats.
    """
    world = TitleWorld(catalogue(data))
    policy = world.policy().eval()
    history = world.prompts.history
    generate = Generate(policy, history)

    def ours() -> Found:
        return beam_all(policy, history, BEAMS)

    same = generate.agrees(ours())
    return compare("search/decoder", "transformers.generate with a prefix function", ours, generate, same, repeats)


class Generate:
    """The same search as a user of transformers writes it.

    Args:
        policy: The backbone.
        history: Histories of B users, [B, H]; their prompts are of one length.
    """

    def __init__(self, policy: DecoderPolicy, history: Tensor) -> None:
        catalogue, trie = policy.catalogue, policy.catalogue.trie
        self.model: Any = policy.model
        self.end, self.longest = int(catalogue.terminator or 0), catalogue.max_length
        self.prompts = torch.tensor(policy.prompts(history.numpy()))
        self.legal: dict[Tokens, list[int]] = {}
        self.leaf: dict[Tokens, int] = {}
        for row, nodes, length in zip(
            catalogue.paths.tolist(), catalogue.nodes.tolist(), catalogue.lengths.tolist(), strict=True
        ):
            self.leaf[tuple(row[:length])] = nodes[length - 1]
            for depth, node in enumerate([0, *nodes[: length - 1]]):
                self.legal[tuple(row[:depth])] = trie.token[trie.first[node] : trie.first[node + 1]].tolist()
        self.beams: list[Tokens] = []

    def __call__(self, noted: bool = False) -> Any:
        """Search.

        Args:
            noted: Keep the beams of each step, in the order of the rows of its scores, and the scores too.
        """
        self.beams = []

        def allowed(_: int, tokens: Tensor) -> list[int]:
            beam = self._title(tokens)
            if noted:
                self.beams.append(beam)
            return self.legal.get(beam, [self.end])  # behind a title too, where too few beams are left

        return self.model.generate(
            input_ids=self.prompts,
            attention_mask=torch.ones_like(self.prompts),
            prefix_allowed_tokens_fn=allowed,
            num_beams=BEAMS,
            num_return_sequences=BEAMS,
            max_new_tokens=self.longest,
            eos_token_id=self.end,
            pad_token_id=self.end,
            length_penalty=0.0,
            early_stopping=False,
            do_sample=False,
            temperature=1.0,
            top_k=50,
            top_p=1.0,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            renormalize_logits=False,
            use_cache=True,
            return_dict_in_generate=True,
            output_scores=noted,
        )

    def agrees(self, found: Found) -> bool:
        """Tell whether our lists are what they should be; see the module."""
        out = self(noted=True)
        titles = [[self._title(row) for row in rows] for rows in out.sequences.view(*found.leaves.shape, -1)]
        scores: Floats = out.sequences_scores.view(found.scores.shape).numpy()
        return all(
            _agree(leaves, ours, theirs[[title in self.leaf for title in kept]], reached)
            for leaves, ours, kept, theirs, reached in zip(
                found.leaves.tolist(), found.scores.numpy(), titles, scores, self._reached(out.scores), strict=True
            )
        )

    def _reached(self, steps: tuple[Tensor, ...]) -> Iterator[Mapping[int, float]]:
        """For each prompt the titles that were a continuation of a beam at some step: leaves and their scores."""
        B = len(self.prompts)
        for prompt in range(B):
            scores: dict[Tokens, float] = {(): 0.0}
            for step, logp in enumerate(steps):
                first = prompt * BEAMS
                beams = self.beams[step * B * BEAMS + first :][:BEAMS]
                for beam, row in zip(beams, logp[first : first + BEAMS].numpy(), strict=True):
                    for token in self.legal.get(beam, ()):
                        scores[*beam, token] = scores[beam] + float(row[token])
            yield {self.leaf[title]: score for title, score in scores.items() if title in self.leaf}

    def _title(self, tokens: Tensor) -> Tokens:
        """What was written behind the prompt, to its first end of text."""
        written: list[int] = tokens[self.prompts.shape[1] :].tolist()
        return tuple(written[: written.index(self.end) + 1] if self.end in written else written)


def _agree(leaves: list[int], ours: Floats, theirs: Floats, reached: Mapping[int, float]) -> bool:
    """Tell whether one list is right.

    Args:
        leaves: Ours, -1 where there are fewer, [W].
        ours: Their scores, -inf where there are fewer, [W].
        theirs: Scores of the titles that ``generate`` returned, best first, [at most W].
        reached: Scores of the leaves that it came by.
    """
    there = [leaf for leaf in leaves if leaf >= 0]
    best = np.sort([*reached.values()])[::-1][: len(leaves)]
    if len(there) != len(best) or len(set(there)) != len(there) or not set(there) <= reached.keys():
        return False
    own = np.array([reached[leaf] for leaf in there])
    scores = ours[: len(there)]
    same = np.allclose(scores, own, rtol=0, atol=TOLERANCE) and np.allclose(scores, best, rtol=0, atol=TOLERANCE)
    return bool(same and len(theirs) <= len(there) and (scores[: len(theirs)] >= theirs - TOLERANCE).all())
