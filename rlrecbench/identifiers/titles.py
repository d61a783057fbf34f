"""Titles as identifiers: an item's path is the tokens of its title and a newline, then the end of text.

A title and the prompt before it are always tokenised apart, in training, in the trie and in search, so these cannot
disagree on a title's tokens. Items of equal titles share their path; a title that begins another one ends in a token
of its own.

Source: BIGRec; Flower's code (one trie of title, newline and end of text).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from rlrecbench.data.frame import Dataset
from rlrecbench.errors import ConfigError, StoreError
from rlrecbench.identifiers import models
from rlrecbench.identifiers.checks import check_paths, check_prompts, check_texts
from rlrecbench.identifiers.prompts import END, Prompts, context, instruction
from rlrecbench.identifiers.settings import TitleIds
from rlrecbench.identifiers.tokenizer import decoded, encoded, loaded, trained

if TYPE_CHECKING:
    from rlrecbench.catalogue import Catalogue  # torch

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Titles:
    """The titles of all items, their tokens and the prompts that ask for them.

    Attributes:
        tokenizer: Of transformers.
        titles: One per item, [N].
        paths: Token ids of each title, a newline and the end of text, [N] arrays.
        vocab: Width of the model's logits V; token ids are below it.
        eos: The token that ends every path.
        pad: What may fill up a batch where nothing reads it.
        noun: What a prompt calls the items.
        max_prompt: Tokens of a prompt at most.
        model: What the suite calls the model, without a path.
        commit: That of a model from the hub, else "".
    """

    tokenizer: Any
    titles: tuple[str, ...]
    paths: list[Ints]
    vocab: int
    eos: int
    pad: int
    noun: str
    max_prompt: int
    model: str = models.TINY
    commit: str = ""

    def catalogue(self) -> "Catalogue":
        """Items, paths and trie; made once."""
        return self._catalogue

    @cached_property
    def _catalogue(self) -> "Catalogue":
        from rlrecbench.catalogue import Catalogue

        return Catalogue([path.tolist() for path in self.paths], self.vocab, terminator=self.eos)

    def text(self, path: Sequence[int] | Ints) -> str:
        """The title that a path spells, without its newline and end of text."""
        return decoded(self.tokenizer, [[int(t) for t in path if t not in (-1, self.eos)]])[0].removesuffix(END)

    def prompts(self, history: Ints) -> list[list[int]]:
        """Token ids of the prompt of each history; of too long ones the oldest titles are left out.

        Args:
            history: Items, oldest first, -1 where absent, [B, H]. A row without items asks for any item.
        """
        return self.asking.of(history)

    @cached_property
    def asking(self) -> Prompts:
        """What makes the prompts."""
        return Prompts(self.tokenizer, self.titles, self.noun, self.max_prompt)

    def report(self) -> dict[str, Any]:
        """Say how titles become tokens.

        Returns:
            ``items``; ``distinct`` titles, ``sharing`` (items whose title another item has), ``biggest_group``;
            ``beginnings`` (distinct titles that begin another one); ``tokens_mean`` and ``tokens_max`` of a path,
            newline and end of text included; ``nodes`` of the trie and ``forced``, the share of inner nodes with one
            child; ``newline_glued`` (distinct titles with a token that holds their end and the newline) and
            ``prompt_glued`` (those that would be cut differently behind a prompt, were both one text);
            ``empty_prompt`` (tokens of a prompt without history); ``vocab``.
        """
        catalogue = self.catalogue()
        children = catalogue.trie.n_children
        groups = np.unique(np.array(self.titles, object), return_counts=True)[1]
        distinct = sorted(set(self.titles))
        return {
            "items": len(self.titles),
            "distinct": len(distinct),
            "sharing": int(groups[groups > 1].sum()),
            "biggest_group": int(groups.max()),
            "beginnings": sum(longer.startswith(title) for title, longer in pairwise(distinct)),
            "tokens_mean": float(catalogue.lengths.mean()),
            "tokens_max": int(catalogue.lengths.max()),
            "nodes": catalogue.trie.n_nodes,
            "forced": float((children == 1).sum() / (children > 0).sum()),
            "newline_glued": self._glued(distinct, [END] * len(distinct)),
            "prompt_glued": self._glued([context(self.noun, [])], [title + END for title in distinct]),
            "empty_prompt": len(self.asking.fitted([()])[0][0]),
            "vocab": self.vocab,
        }

    def _glued(self, before: Sequence[str], after: Sequence[str]) -> int:
        """Number of pairs, one text before or one for each after, whose tokens are not those of the two parts."""
        heads, tails = encoded(self.tokenizer, before), encoded(self.tokenizer, after)
        if len(before) == 1:
            before, heads = list(before) * len(after), heads * len(after)
        joint = encoded(self.tokenizer, [a + b for a, b in zip(before, after, strict=True)])
        return sum(a + b != j for a, b, j in zip(heads, tails, joint, strict=True))

    def write(self, folder: Path, about: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Write ``titles.json`` (report, prompt and what else is known ``about`` them), texts, paths and tokenizer.

        Raises:
            StoreError: The tokenizer does not come back as it was.
        """
        facts = {
            **self.report(),
            "model": self.model,
            "commit": self.commit,
            "eos": self.eos,
            "pad": self.pad,
            "noun": self.noun,
            "max_prompt": self.max_prompt,
            "prompt": instruction(self.noun, history=True) + context(self.noun, ["OLDER TITLE", "NEWER TITLE"]),
        }
        (folder / "titles.json").write_text(json.dumps({**facts, **about}, indent=1))
        (folder / "texts.json").write_text(json.dumps(self.titles, indent=0))
        offsets = np.cumsum([0, *map(len, self.paths)])
        np.savez(folder / "paths.npz", tokens=np.concatenate(self.paths), offsets=offsets)
        self.tokenizer.save_pretrained(folder / "tokenizer")
        texts = [context(self.noun, [title]) for title in self.titles]
        if encoded(loaded(folder / "tokenizer"), texts) != encoded(self.tokenizer, texts):
            raise StoreError(
                f"{folder}: the tokenizer cuts titles differently after save_pretrained; update transformers or take "
                "another model"
            )

    @staticmethod
    def read(folder: Path) -> "Titles":
        """Read what :meth:`write` wrote.

        Raises:
            StoreError: A file is missing or broken.
        """
        try:
            about = json.loads((folder / "titles.json").read_text())
            texts = json.loads((folder / "texts.json").read_text())
            with np.load(folder / "paths.npz", allow_pickle=False) as arrays:
                paths = np.split(arrays["tokens"].astype(np.int64), arrays["offsets"][1:-1])
            names = ("vocab", "eos", "pad", "noun", "max_prompt", "model", "commit")
            return Titles(loaded(folder / "tokenizer"), tuple(texts), paths, *(about[name] for name in names))
        except (OSError, ValueError, KeyError, TypeError, BadZipFile, ConfigError) as e:
            raise StoreError(f"{folder}: the titles cannot be read ({e}); delete this folder and run again") from e


def make(titles: Sequence[str], item_ids: Sequence[str], settings: TitleIds, place: str, noun: str) -> Titles:
    """Turn titles into paths.

    Args:
        titles: One per item, [N].
        item_ids: The data set's own ids, for messages, [N].
        settings: How.
        place: The model, resolved.
        noun: What the data set's items are called, where the settings do not say.

    Raises:
        ConfigError: The tokenizer cannot be loaded, has no end of text or does not fit the model, or ``max_prompt`` is
            too small.
        DataError: A title is empty, has a line break, holds a special token or does not survive the tokenizer; no
            title has a letter; or the model's files are not to be had.
    """
    check_texts(titles, item_ids)
    noun = settings.noun or noun
    if place == models.TINY:
        tokenizer, width, commit = trained(_corpus(titles, noun), settings.vocab), None, ""
    else:
        folder = models.folder_of(place)
        tokenizer, width, commit = loaded(folder), models.width_of(folder), models.commit_of(folder)
    if tokenizer.eos_token_id is None:
        raise ConfigError(
            f"{place}: its tokenizer has no end-of-text token (eos_token), so no title could end; name one in "
            "tokenizer_config.json or take another model"
        )
    vocab, eos, pad = width or len(tokenizer), int(tokenizer.eos_token_id), tokenizer.pad_token_id
    made = Titles(
        tokenizer,
        tuple(titles),
        [np.array([*tokens, eos], np.int64) for tokens in encoded(tokenizer, [title + END for title in titles])],
        vocab,
        eos,
        eos if pad is None or pad >= vocab else int(pad),
        noun,
        settings.max_prompt,
        models.portable(settings.model),
        commit,
    )
    check_paths(made, item_ids, place)
    check_prompts(made, item_ids, place)
    return made


def prompt_report(titles: Titles, dataset: Dataset) -> dict[str, dict[str, float]]:
    """Say for each part of a data set how long its prompts are and how many of them lost titles.

    Returns:
        Per part ``prompts``, ``tokens_mean``, ``tokens_max`` and ``truncated``.
    """
    return titles.asking.report(dataset)


def _corpus(titles: Sequence[str], noun: str) -> Iterator[str]:
    """Each title as an answer and inside a history; the prompt's words as often, so that each becomes one token."""
    words = [instruction(noun, history=False), instruction(noun, history=True), context(noun, []), context(noun, [""])]
    for title in titles:
        yield from (title + END, f", {title}", *words)
