"""LETTER's released indices: the published table, and what is said about broken files."""

import gzip
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from rlrecbench.errors import DataError
from rlrecbench.identifiers.released import find, read, released_checksum

# Counted on the released files: items, unique, colliding, biggest group, codes used
# at level 1, perplexities, prefixes.
PUBLISHED = {
    "beauty": (12_101, 12_088, 24, 3, 197, [82.7, 248.6, 247.6, 246.6], [197, 7_931, 11_696, 12_088]),
    "yelp": (20_033, 19_201, 1_247, 65, 256, [237.5, 243.0, 239.8, 215.4], [256, 15_879, 19_145, 19_201]),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_report_equals_the_published_table(name: str, shared_data: Callable[[str], Path]) -> None:
    items, unique, colliding, biggest, used, perplexity, prefixes = PUBLISHED[name]
    path = find(name, [shared_data(name) / name])
    report = read(path, [str(i) for i in range(items)], 256).report()
    assert (report["unique"], report["colliding"], report["biggest_group"]) == (unique, colliding, biggest)
    assert report["used"] == [used, 256, 256, 256]
    assert [round(p, 1) for p in report["perplexity"]] == perplexity
    assert report["prefixes"] == prefixes


def write(folder: Path, index: Any) -> Path:
    path = folder / "toy.letter_index.json"
    path.write_text(json.dumps(index))
    return path


def test_codes_come_in_the_order_of_the_items_from_tokens_or_numbers(tmp_path: Path) -> None:
    path = write(tmp_path, {"9": ["<a_3>", "<b_0>"], "x": [1, 2], "unused": ["<a_999>"]})
    ids = read(path, ["x", "9"], 4)
    assert ids.codes.tolist() == [[1, 2], [3, 0]]
    assert (ids.sizes, ids.content) == ((4, 4), None)


def test_plain_and_gzip_files_are_the_same_thing(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    plain.mkdir()
    packed.mkdir()
    content = write(plain, {"0": ["<a_1>"]}).read_bytes()
    (packed / "toy.letter_index.json.gz").write_bytes(gzip.compress(content))
    assert released_checksum("toy", plain) == released_checksum("toy", packed) == sha256(content).hexdigest()
    assert read(find("toy", [tmp_path, packed]), ["0"], 2).codes.tolist() == [[1]]


@pytest.mark.parametrize(
    ("index", "sentence"),
    [
        ({"0": ["<a_1>"]}, "1 of 2 items have no identifier, the first is item '1'"),
        ({"0": ["<a_1>"], "1": ["<a_4>"]}, "item '1', level 1: code 4 is outside 0..3"),
        ({"0": ["<a_1>"], "1": [-1]}, "item '1', level 1: code -1 is outside 0..3"),
        ({"0": ["<a_1>"], "1": ["<b_1>"]}, "item '1', level 1: expected a token such as '<a_183>'"),
        ({"0": ["<a_1>"], "1": [True]}, "item '1', level 1: expected a token"),
        ({"0": ["<a_1>"], "1": [1, 2]}, "item '1' has 2 codes and item '0' has 1"),
        ({"0": ["<a_1>"], "1": []}, "item '1': expected a list of codes"),
        ([], "expected an object"),
    ],
)
def test_broken_index_is_described(index: Any, sentence: str, tmp_path: Path) -> None:
    path = write(tmp_path, index)
    with pytest.raises(DataError) as caught:
        read(path, ["0", "1"], 4)
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_index_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"toy: there are no released identifiers .*kind: rkmeans") as caught:
        find("toy", [tmp_path])
    assert str(tmp_path) in str(caught.value)
