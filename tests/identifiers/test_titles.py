"""Titles as identifiers: tokenizer, paths, prompts and their report."""

import json
import os
import subprocess
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlrecbench.data.frame import Dataset, Examples
from rlrecbench.errors import ConfigError, DataError, StoreError
from rlrecbench.identifiers import TitleIds
from rlrecbench.identifiers.prompts import context, instruction
from rlrecbench.identifiers.titles import Titles, make, prompt_report
from rlrecbench.identifiers.tokenizer import decoded, encoded, opening, trained

FILMS = ("Alien", "Alien (", "Alien 3", "Blade Runner", "Alien", "Amélie", "8 1/2", "Blade Runner 2049")


def of(titles: Sequence[str], settings: TitleIds = TitleIds(), place: str = "tiny") -> Titles:  # noqa: B008 - frozen
    return make(titles, [f"i{n}" for n in range(len(titles))], settings, place, "films")


@cache
def films() -> Titles:
    return of(FILMS)


def pieces(titles: Titles, item: int) -> list[str]:
    """What each token of an item's path spells."""
    return decoded(titles.tokenizer, [[t] for t in titles.paths[item].tolist()])


# The tokenizer that is trained here.


def test_each_word_of_the_prompt_is_one_token() -> None:
    tokenizer = films().tokenizer
    text = instruction("films", history=True) + context("films", [])
    spelled = [decoded(tokenizer, [[t]])[0] for t in encoded(tokenizer, [text])[0]]
    assert "".join(spelled) == text
    words = {"".join(c for c in piece if c.isalpha()) for piece in spelled} - {""}
    assert words == {"".join(c for c in word if c.isalpha()) for word in text.split()} - {""}


def test_words_take_the_blank_before_them_digits_stand_alone_and_newlines_stick_to_punctuation() -> None:
    cut = trained(["1234 it's  (two) three!\n\n"] * 3, 4096)
    spelled = [decoded(cut, [[t]])[0] for t in encoded(cut, ["1234 it's  (two) three!\n\n", "12 it\n"])[0]]
    assert spelled == ["1", "2", "3", "4", " it", "'", "s", " ", " (", "two", ")", " three", "!\n\n"]
    assert [decoded(cut, [[t]])[0] for t in encoded(cut, ["12 it\n"])[0]] == ["1", "2", " it", "\n"]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_survives_the_tokenizer(text: str) -> None:
    if "<|" not in text:
        assert decoded(films().tokenizer, encoded(films().tokenizer, [text])) == [text]


def test_vocabulary_ends_where_the_texts_do_or_at_the_size_that_was_asked_for() -> None:
    """'ab' twice: 256 bytes, 2 special tokens, and one merge, for a pair must come twice."""
    assert len(trained(["ab"] * 2, 4096)) == 259
    assert [len(of(FILMS, TitleIds(vocab=size)).tokenizer) for size in (258, 300)] == [258, 300]


def test_same_titles_give_the_same_tokenizer_in_another_process() -> None:
    titles = [f"{a} of the {b}" for a in ("Lord", "Night", "Day", "Planet") for b in ("Rings", "Apes", "Dead")]
    code = (
        "import sys; from rlrecbench.identifiers.tokenizer import trained\n"
        "print(trained(sys.argv[1:], 400).backend_tokenizer.to_str())"
    )
    env = {**os.environ, "PYTHONHASHSEED": "1", "RAYON_NUM_THREADS": "1"}
    said = subprocess.run([sys.executable, "-c", code, *titles], env=env, capture_output=True, text=True, check=True)
    own = trained(titles, 400).backend_tokenizer.to_str()
    assert len(json.loads(own)["model"]["merges"]) > 30
    assert said.stdout.strip() == own


# Paths.


def test_path_is_the_title_a_newline_and_the_end_of_text() -> None:
    """Whatever comes twice becomes one token; the newline sticks to the bracket, which is punctuation."""
    titles = of(["Alien", "Alien (", "Alien (", "Alien"])
    assert pieces(titles, 0) == ["Alien", "\n", "<|endoftext|>"]
    assert pieces(titles, 1) == ["Alien", " (\n", "<|endoftext|>"]
    assert films().eos == films().tokenizer.eos_token_id
    assert films().pad == films().tokenizer.pad_token_id != films().eos
    assert [films().text(path) for path in films().paths] == list(FILMS)
    assert films().text(films().catalogue().paths[5]) == "Amélie"  # with -1 behind its end


def test_equal_titles_share_a_leaf_and_a_beginning_has_its_own() -> None:
    titles = of(["Greatest Hits"] * 54 + ["Greatest", "Greatest Hits 2", "Greatest Hits ("])
    catalogue = titles.catalogue()
    assert catalogue is titles.catalogue()
    assert catalogue.terminator == titles.eos
    assert catalogue.items_of(int(catalogue.leaf_of[0])).tolist() == list(range(54))
    assert len({*catalogue.leaf_of.tolist()}) == 4
    assert catalogue.collisions == 54


def test_report_counts_what_can_be_counted_by_hand() -> None:
    """Seven distinct titles, Alien twice; it begins 'Alien (' and 'Alien 3', and Blade Runner begins the one of 2049.

    Prefixes are counted as strings of tokens; of those that go on, the forced ones go on in one way.
    """
    report, paths = films().report(), [tuple(path.tolist()) for path in films().paths]
    prefixes = {path[:n] for path in paths for n in range(len(path) + 1)}
    ways = Counter(prefix[:-1] for prefix in prefixes if prefix)
    expected = {
        "items": 8,
        "distinct": 7,
        "sharing": 2,
        "biggest_group": 2,
        "beginnings": 2,
        "tokens_mean": sum(map(len, paths)) / 8,
        "tokens_max": max(map(len, paths)),
        "nodes": len(prefixes),
        "forced": sum(n == 1 for n in ways.values()) / len(ways),
        "newline_glued": 1,
        "prompt_glued": 0,
        "empty_prompt": len(films().prompts(np.full((1, 3), -1))[0]),
        "vocab": len(films().tokenizer),
    }
    assert report == expected


def crossing() -> Titles:
    """A tokenizer that cuts nothing beforehand, so that tokens reach from the prompt into the title."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["$"]
    )
    bpe.train_from_iterator(["\nBlade", "\n### User"] * 50, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="$")  # noqa: S106 - a token of text
    paths = [np.array([*path, 0]) for path in encoded(tokenizer, [title + "\n" for title in FILMS])]
    return Titles(tokenizer, FILMS, paths, 300, 0, 0, "films", 512)


def test_titles_that_one_text_with_the_prompt_would_cut_differently_are_counted() -> None:
    """The two that begin with Blade, for a newline and Blade are one token here."""
    assert crossing().report()["prompt_glued"] == 2


# Prompts.


def test_prompt_is_the_template_oldest_title_first() -> None:
    (prompt,) = films().prompts(np.array([[-1, 3, 0, -1]]))
    assert decoded(films().tokenizer, [prompt]) == [
        "The text below gives an instruction together with some context. Answer the instruction in a fitting way.\n\n"
        "### Instruction:\n"
        "From the films this user liked lately, name one more that the user would get next.\n\n"
        "### User Input: \n"
        "Earlier this user liked these films: Blade Runner, Alien\n\n"
        "### Response: \n"
    ]


def test_prompt_without_history_is_one_for_all() -> None:
    one, two = films().prompts(np.full((2, 2), -1))
    assert one == two == films().prompts(np.zeros((1, 0), np.int64))[0]
    assert decoded(films().tokenizer, [one])[0].endswith(
        "### Instruction:\nName one of the films.\n\n"
        "### User Input: \nNothing is known of this user.\n\n### Response: \n"
    )


def test_instruction_and_the_rest_are_cut_apart() -> None:
    titles = crossing()
    parts = [instruction("films", history=True), context("films", ["Alien"])]
    first, second = encoded(titles.tokenizer, parts)
    assert encoded(titles.tokenizer, ["".join(parts)])[0] != first + second
    assert titles.prompts(np.array([[0]])) == [first + second]


def test_oldest_titles_leave_a_prompt_that_is_too_long() -> None:
    """The newest title is the longest one, so each limit between its prompt and the whole history's is allowed."""
    history = np.array([[0, 3, 5, 6, 7]])
    shorter = [films().prompts(history[:, n:])[0] for n in range(5)]
    assert len({*map(len, shorter)}) == 5
    for n, prompt in enumerate(shorter):
        for spare in (0, 1):
            short = of(FILMS, TitleIds(max_prompt=len(prompt) + spare))
            assert short.prompts(history) == [prompt]
            assert short.prompts(np.array([[-1] * 5, [7, -1, -1, -1, -1]])) == films().prompts(np.array([[-1], [7]]))
            assert short.asking.fitted([(0, 3, 5, 6, 7), (7,)]) == [(prompt, n), (shorter[-1], 0)]


def test_prompts_are_kept_and_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    titles, history, seen = of(FILMS), np.array([[0, 1], [2, -1], [0, 1]]), list[str]()
    expected = films().prompts(history)

    def counting(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
        seen.extend(text for text in texts if "liked these" in text)
        return encoded(tokenizer, texts)

    monkeypatch.setattr("rlrecbench.identifiers.prompts.encoded", counting)
    first = titles.prompts(history)
    first[0].append(-7)  # what a caller does to its list stays with the caller
    assert titles.prompts(history[::-1]) == expected[::-1]
    assert sorted(seen) == [context("films", ["Alien 3"]), context("films", ["Alien", "Alien ("])]


def test_prompts_beyond_what_may_be_kept_are_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlrecbench.identifiers.prompts._MOST", 200)
    titles, histories = of(FILMS), [np.array([[n, m]]) for n in range(8) for m in range(8)]
    for _ in range(2):
        assert [titles.prompts(h) for h in histories] == [films().prompts(h) for h in histories]
    assert 0 < sum(map(len, titles.asking._kept.values())) <= 200


def test_prompt_report_counts_each_part() -> None:
    def part(*histories: list[int]) -> Examples:
        return Examples.make([0] * len(histories), list(histories), [0] * len(histories))

    items = pd.DataFrame({"item_id": [f"i{n}" for n in range(8)], "title": FILMS})
    parts = {"train": part([0], [3, 7, 5, 6, 0]), "valid": part([1, 2]), "test": part()}
    data = Dataset("films", "examples", items, np.array(["u"]), settings={}, checksum="", **parts)
    one, five, two = (len(films().prompts(np.array([h]))[0]) for h in ([0], [3, 7, 5, 6, 0], [1, 2]))
    assert prompt_report(films(), data) == {
        "train": {"prompts": 2, "tokens_mean": (one + five) / 2, "tokens_max": five, "truncated": 0},
        "valid": {"prompts": 1, "tokens_mean": two, "tokens_max": two, "truncated": 0},
        "test": {"prompts": 0, "tokens_mean": 0.0, "tokens_max": 0, "truncated": 0},
    }
    four = len(films().prompts(np.array([[7, 5, 6, 0]]))[0])
    short = prompt_report(of(FILMS, TitleIds(max_prompt=five - 1)), data)["train"]
    assert short == {"prompts": 2, "tokens_mean": (one + four) / 2, "tokens_max": four, "truncated": 1}


# Files.


def test_titles_come_back_from_their_folder(tmp_path: Path) -> None:
    films().write(tmp_path, {"kind": "titles"})
    read, history = Titles.read(tmp_path), np.array([[0, 5], [-1, -1]])
    for name in ("titles", "vocab", "eos", "pad", "noun", "max_prompt", "model", "commit"):
        assert getattr(read, name) == getattr(films(), name)
    assert [p.tolist() for p in read.paths] == [p.tolist() for p in films().paths]
    assert read.prompts(history) == films().prompts(history)
    about = json.loads((tmp_path / "titles.json").read_text())
    assert {**about, **films().report()} == about
    assert (about["kind"], about["noun"], about["model"]) == ("titles", "films", "tiny")
    assert "these films: OLDER TITLE, NEWER TITLE\n" in about["prompt"]
    assert not list(tmp_path.rglob("*.pkl"))


@pytest.mark.parametrize("name", ["titles.json", "texts.json", "paths.npz", "tokenizer/tokenizer.json"])
def test_broken_file_of_a_folder_is_told(tmp_path: Path, name: str) -> None:
    films().write(tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:100])
    with pytest.raises(StoreError, match=r"the titles cannot be read .* delete this folder and run again"):
        Titles.read(tmp_path)


# Titles and tokenizers that do not go together.


@pytest.mark.parametrize(
    ("titles", "sentence"),
    [
        (["A", ""], "item 'i1': its title is empty; a title is one line of text"),
        (["A", " \t"], "item 'i1': its title is empty"),
        (["A\nB"], r"item 'i0': its title 'A\\nB' has a line break"),
        (["A\r\nB"], "has a line break"),
        (["A", "Why <|endoftext|> ends"], r"item 'i1': its title .* holds '<\|endoftext\|>', a special token of tiny"),
        (["0", "1", "2"], r"no item has a title with a letter in it \(item 'i0' has '0'\)"),
        (["A <|pad|>"], r"holds '<\|pad\|>', a special token"),
    ],
)
def test_title_that_no_path_can_spell_is_refused(titles: list[str], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        of(titles)


def test_limit_below_a_prompt_with_one_title_is_refused() -> None:
    longest = max(len(films().prompts(np.array([[i]]))[0]) for i in range(8))
    of(FILMS, TitleIds(max_prompt=longest))
    with pytest.raises(
        ConfigError, match=rf"max_prompt is {longest - 1}, and .* has {longest} tokens; set it to {longest}"
    ):
        of(FILMS, TitleIds(max_prompt=longest - 1))


def model(folder: Path, change: Callable[[Any], None] = lambda tokenizer: None, width: int = 1000) -> str:
    """A folder with a tokenizer for FILMS, changed before it is saved, and the configuration of an OLMo 2."""
    from transformers import Olmo2Config

    tokenizer = of(FILMS).tokenizer
    change(tokenizer)
    tokenizer.save_pretrained(folder)
    Olmo2Config(vocab_size=width).save_pretrained(folder)
    (folder / "model.safetensors").touch()
    return str(folder)


def test_model_in_a_folder_brings_its_tokenizer_and_width(tmp_path: Path) -> None:
    place = model(tmp_path / "m")
    titles = of(FILMS, TitleIds(model="./m", noun="movies"), place)
    assert [p.tolist() for p in titles.paths] == [p.tolist() for p in films().paths]
    assert (titles.vocab, titles.model, titles.commit, titles.noun) == (1000, "./model", "", "movies")
    titles.write(tmp_path)
    assert str(tmp_path) not in "".join(p.read_text() for p in tmp_path.glob("*.json"))
    history = np.array([[0, 3]])
    assert Titles.read(tmp_path).prompts(history) == titles.prompts(history)
    assert "liked these movies: Alien" in decoded(titles.tokenizer, titles.prompts(history))[0]


def test_tokenizer_may_compose_letters_but_not_change_them(tmp_path: Path) -> None:
    """Of a folder with a Qwen2 transformers takes the vocabulary, and its own normaliser, which composes."""
    from tokenizers import normalizers
    from transformers import Qwen2Config

    def lower(tokenizer: Any) -> None:
        tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()

    apart = unicodedata.normalize("NFD", "Amélie")
    assert apart != "Amélie"
    place = model(tmp_path / "qwen")
    Qwen2Config(vocab_size=1000).save_pretrained(place)
    titles = of(["Amélie", apart], place=place)
    assert titles.paths[0].tolist() == titles.paths[1].tolist()
    titles.write(tmp_path)
    assert Titles.read(tmp_path).prompts(np.array([[0, 1]])) == titles.prompts(np.array([[0, 1]]))
    assert of([apart]).text(of([apart]).paths[0]) == apart
    with pytest.raises(
        DataError, match=r"item 'i0': its title 'Alien' comes back from the tokenizer of .*m as 'alien\\n'"
    ):
        of(["Alien"], place=model(tmp_path / "m", lower))


def test_tokenizer_without_an_end_of_text_is_refused(tmp_path: Path) -> None:
    def endless(tokenizer: Any) -> None:
        tokenizer.eos_token = None

    with pytest.raises(
        ConfigError, match=r"its tokenizer has no end-of-text token \(eos_token\), so no title could end"
    ):
        of(FILMS, place=model(tmp_path / "m", endless))


def test_tokenizer_larger_than_the_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"makes a token \d+ of the title of item 'i0', and the model knows 0\.\.299"):
        of(FILMS, place=model(tmp_path / "m", width=300))


def test_padding_is_a_token_the_model_knows(tmp_path: Path) -> None:
    def bare(tokenizer: Any) -> None:
        tokenizer.pad_token = None

    def late(tokenizer: Any) -> None:
        tokenizer.pad_token = "<|late|>"  # noqa: S105 - a token of text

    size = len(films().tokenizer)
    assert of(FILMS, place=model(tmp_path / "none", bare)).pad == films().eos
    assert of(FILMS, place=model(tmp_path / "outside", late, width=size)).pad == films().eos
    assert of(FILMS, place=model(tmp_path / "inside", late, width=size + 1)).pad == size


def test_prompt_begins_as_the_models_texts_do(tmp_path: Path) -> None:
    from tokenizers import processors

    def begins(tokenizer: Any) -> None:
        tokens = [("<|endoftext|>", 0), ("<|pad|>", 1)]
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<|pad|> $A <|endoftext|>", special_tokens=tokens
        )

    titles, history = of(FILMS, place=model(tmp_path / "llama", begins)), np.array([[3, 0], [-1, -1]])
    assert opening(films().tokenizer) == []
    assert titles.prompts(history) == [[1, *prompt] for prompt in films().prompts(history)]
    assert [p.tolist() for p in titles.paths] == [p.tolist() for p in films().paths]


def test_broken_tokenizer_is_told(tmp_path: Path) -> None:
    place = model(tmp_path / "m")
    (tmp_path / "m" / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"m: its tokenizer cannot be loaded \("):
        of(FILMS, place=place)


def test_real_titles_fit_their_published_figures(shared_data: Callable[[str], Path]) -> None:
    """Movies and TV: 8.2 % of titles end in punctuation that takes the newline (methods of Flower, section 4.8).

    79 % of the nodes below a 4k BPE have one child, the end of text not counted.
    """
    from rlrecbench.data.prepare import DataOptions, prepare

    data = prepare("movies_and_tv", DataOptions(), [shared_data("movies_and_tv")])
    titles = make(data.items["title"].tolist(), data.items["item_id"].tolist(), TitleIds(), "tiny", "movies")
    report, trie = titles.report(), titles.catalogue().trie
    assert (report["items"], report["distinct"], report["items"] - report["distinct"]) == (2653, 2599, 54)
    assert round(100 * report["newline_glued"] / report["distinct"], 1) == 8.2
    assert report["prompt_glued"] == 0
    assert [titles.text(path) for path in titles.paths] == list(titles.titles)
    ends = int((trie.token == titles.eos).sum())
    assert ends == 2599
    single = int((trie.n_children == 1).sum()) - ends
    assert round(single / (trie.n_nodes - ends), 2) == 0.79
