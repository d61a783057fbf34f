"""Whether titles, tokenizer and model go together: each refusal names an item and says what to do."""

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rlrecbench.errors import ConfigError, DataError
from rlrecbench.identifiers.tokenizer import decoded

if TYPE_CHECKING:
    from rlrecbench.identifiers.titles import Titles


def check_texts(titles: Sequence[str], item_ids: Sequence[str]) -> None:
    """Look at the titles as text.

    Raises:
        DataError: One is empty or has a line break, or none has a letter.
    """
    for title, item in zip(titles, item_ids, strict=True):
        if not title.strip() or "\n" in title or "\r" in title:
            fault = f"title {_shown(title)} has a line break" if title.strip() else "title is empty"
            raise DataError(f"item {item!r}: its {fault}; a title is one line of text: correct it in the item file")
    if not any(letter.isalpha() for title in titles for letter in title):
        raise DataError(
            f"no item has a title with a letter in it (item {item_ids[0]!r} has {_shown(titles[0])}), so a language "
            "model knows nothing of them; take a data set with titles, or a backbone over semantic ids, such as tiger"
        )


def check_paths(titles: "Titles", item_ids: Sequence[str], place: str) -> None:
    """Look whether each path spells its item's title.

    Raises:
        DataError: One holds a special token or spells something else.
    """
    special = set(titles.tokenizer.all_special_ids)
    spelled = decoded(titles.tokenizer, [path[:-1].tolist() for path in titles.paths])
    for title, item, path, back in zip(titles.titles, item_ids, titles.paths, spelled, strict=True):
        held = special.intersection(path[:-1].tolist())
        if held:
            token = titles.tokenizer.convert_ids_to_tokens(min(held))
            raise DataError(
                f"item {item!r}: its title {_shown(title)} holds {token!r}, a special token of {place}; correct the "
                "title in the item file or take another model"
            )
        if _form(back) != _form(title):
            raise DataError(
                f"item {item!r}: its title {_shown(title)} comes back from the tokenizer of {place} as {_shown(back)}; "
                "take a model whose tokenizer keeps all text, such as Qwen/Qwen2.5-0.5B-Instruct"
            )


def check_prompts(titles: "Titles", item_ids: Sequence[str], place: str) -> None:
    """Look at the prompts with one title: each must fit, and the model must know all tokens.

    Raises:
        ConfigError: ``max_prompt`` is too small, or the tokenizer is larger than the model.
    """
    prompts = [tokens for tokens, _ in titles.asking.fitted([(i,) for i in range(len(titles.titles))])]
    for item, prompt, path in zip(item_ids, prompts, titles.paths, strict=True):
        largest = max(max(prompt), int(path.max()))
        if largest >= titles.vocab:
            raise ConfigError(
                f"{place}: its tokenizer makes a token {largest} of the title of item {item!r}, and the model knows "
                f"0..{titles.vocab - 1}; give a folder where tokenizer and model belong together"
            )
    worst = max(range(len(prompts)), key=lambda i: len(prompts[i]))
    if len(prompts[worst]) > titles.max_prompt:
        raise ConfigError(
            f"max_prompt is {titles.max_prompt}, and a prompt with nothing but the title of item {item_ids[worst]!r} "
            f"has {len(prompts[worst])} tokens; set it to {len(prompts[worst])} or more"
        )


def _form(text: str) -> str:
    """The text as a tokenizer may keep it: composed, as Qwen's does, and without blanks at the ends."""
    return unicodedata.normalize("NFC", text).strip()


def _shown(text: str) -> str:
    return repr(text if len(text) < 60 else text[:57] + "...")
