"""The prompts that ask for the title that comes next.

A prompt has two parts that are tokenised apart: an instruction, and the rest, which begins at the user's history and
ends where the title begins. It is plain text, without a chat template. An item's text is its title and a newline.

Source: the form is that of BIGRec and of Flower's code (instruction, user input, response; titles joined by commas
without quotes, oldest first); the wording is ours, and so is the prompt for users without a history.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlrecbench.data.frame import PARTS, Dataset
from rlrecbench.identifiers.tokenizer import encoded, opening

Ints = NDArray[np.int64]
END = "\n"  # what follows a title, before the end of text
_OPENING = "The text below gives an instruction together with some context. Answer the instruction in a fitting way."
_AT_ONCE = 4096  # prompts of a report
_MOST = 2**26  # tokens of kept prompts, 256 MB


def instruction(noun: str, *, history: bool) -> str:
    """The first part: what is asked.

    Args:
        noun: What the items are called, in the plural.
        history: Whether anything is known of the user.
    """
    asked = f"Name one of the {noun}."
    if history:
        asked = f"From the {noun} this user liked lately, name one more that the user would get next."
    return f"{_OPENING}\n\n### Instruction:\n{asked}\n\n"


def context(noun: str, titles: Sequence[str]) -> str:
    """The second part: the titles of a history, oldest first, and where the answer begins."""
    known = "Nothing is known of this user."
    if titles:
        known = f"Earlier this user liked these {noun}: {', '.join(titles)}"
    return f"### User Input: \n{known}\n\n### Response: \n"


class Prompts:
    """Prompts as tokens, kept by history.

    Args:
        tokenizer: Of transformers.
        titles: One per item, [N].
        noun: What the items are called.
        most: Tokens of a prompt at most.
    """

    def __init__(self, tokenizer: Any, titles: Sequence[str], noun: str, most: int) -> None:
        self.tokenizer, self.titles, self.noun, self.most = tokenizer, titles, noun, most
        self._kept: dict[tuple[int, ...], NDArray[np.int32]] = {}
        self._size = 0

    def of(self, history: Ints) -> list[list[int]]:
        """Token ids of the prompt of each history.

        Args:
            history: Items, oldest first, -1 where absent, [B, H]. A row without items asks for any item.
        """
        rows = [tuple(int(i) for i in row if i >= 0) for row in history]
        missing = [row for row in dict.fromkeys(rows) if row not in self._kept]
        fresh = {row: tokens for row, (tokens, _) in zip(missing, self.fitted(missing), strict=True)}
        out = [fresh[row] if row in fresh else self._kept[row].tolist() for row in rows]
        for row, tokens in fresh.items():
            if self._size + len(tokens) <= _MOST:
                self._kept[row] = np.array(tokens, np.int32)
                self._size += len(tokens)
        return out

    def fitted(self, histories: Sequence[tuple[int, ...]]) -> list[tuple[list[int], int]]:
        """Prompt of each history, and how many of its titles, the oldest, there was no room for.

        The newest title always stays.
        """
        dropped = [0] * len(histories)
        out: list[list[int]] = [[] for _ in histories]
        todo = list(range(len(histories)))
        while todo:
            texts = [context(self.noun, [self.titles[i] for i in histories[r][dropped[r] :]]) for r in todo]
            for r, tokens in zip(todo, encoded(self.tokenizer, texts), strict=True):
                out[r] = [*self._asked[bool(histories[r])], *tokens]
            todo = [r for r in todo if len(out[r]) > self.most and dropped[r] + 1 < len(histories[r])]
            for r in todo:
                dropped[r] += 1
        return list(zip(out, dropped, strict=True))

    def report(self, dataset: Dataset) -> dict[str, dict[str, float]]:
        """Say for each part of a data set how long its prompts are and how many of them lost titles.

        Returns:
            Per part ``prompts``, ``tokens_mean``, ``tokens_max`` and ``truncated``.
        """
        out: dict[str, dict[str, float]] = {}
        for name in PARTS:
            part = dataset.part(name)
            lengths, lost = np.zeros(len(part), np.int64), np.zeros(len(part), bool)
            for start in range(0, len(part), _AT_ONCE):
                rows = range(start, min(start + _AT_ONCE, len(part)))
                made = self.fitted([tuple(part.history(r).tolist()) for r in rows])
                lengths[rows.start : rows.stop] = [len(tokens) for tokens, _ in made]
                lost[rows.start : rows.stop] = [dropped > 0 for _, dropped in made]
            out[name] = {
                "prompts": len(part),
                "tokens_mean": float(lengths.mean()) if len(part) else 0.0,
                "tokens_max": int(lengths.max(initial=0)),
                "truncated": int(lost.sum()),
            }
        return out

    @cached_property
    def _asked(self) -> tuple[list[int], list[int]]:
        """Tokens of the instruction without and with a history."""
        before = opening(self.tokenizer)
        texts = [instruction(self.noun, history=known) for known in (False, True)]
        without, known = encoded(self.tokenizer, texts)
        return before + without, before + known
