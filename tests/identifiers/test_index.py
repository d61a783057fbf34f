"""Index files: the published table of LETTER's, writing and reading back, what is said about broken files."""

import gzip
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlrecbench.errors import DataError, StoreError
from rlrecbench.identifiers import Identifiers, deduplicated
from rlrecbench.identifiers.index import file_checksum, find, read, write

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


def saved(folder: Path, index: Any) -> Path:
    """Write an index as others may have written it."""
    path = folder / "toy.letter_index.json"
    path.write_text(json.dumps(index))
    return path


def test_codes_come_in_the_order_of_the_items_from_tokens_or_numbers(tmp_path: Path) -> None:
    path = saved(tmp_path, {"9": ["<a_3>", "<b_0>"], "x": [1, 2], "unused": ["<a_999>"]})
    ids = read(path, ["x", "9"], 4)
    assert ids.codes.tolist() == [[1, 2], [3, 0]]
    assert (ids.sizes, ids.content) == ((4, 4), None)


def test_plain_and_gzip_files_are_the_same_thing(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    plain.mkdir()
    packed.mkdir()
    content = saved(plain, {"0": ["<a_1>"]}).read_bytes()
    path = "toy.letter_index.json"
    (packed / f"{path}.gz").write_bytes(gzip.compress(content))
    for file in (plain / path, packed / path, packed / f"{path}.gz"):
        assert file_checksum(file) == sha256(content).hexdigest()
        assert read(file, ["0"], 2).codes.tolist() == [[1]]
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
        ({"0": ["<a_1>"], "1": ["<a_12345678901234567890>"]}, "item '1', level 1: expected a token"),
        ({"0": ["<a_1>"], "1": ["<a_\u0661>"]}, "item '1', level 1: expected a token"),
        ({"0": ["<a_1>"], "1": [0.5]}, "item '1', level 1: expected a token"),
        ([], "expected an object"),
        ({}, "found an empty one"),
    ],
)
def test_broken_index_is_described(index: Any, sentence: str, tmp_path: Path) -> None:
    path = saved(tmp_path, index)
    with pytest.raises(DataError) as caught:
        read(path, ["0", "1"], 4)
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)


def test_without_a_codebook_size_the_largest_code_decides(tmp_path: Path) -> None:
    path = saved(tmp_path, {"a": [7, 0], "b": [2, 1], "c": [9, 9]})
    assert read(path, ["a", "b"]).sizes == (8, 2)
    every = read(path)
    assert (every.codes.tolist(), every.sizes) == ([[7, 0], [2, 1], [9, 9]], (10, 10))


def test_a_number_that_is_no_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"level 2: code 1048576 is outside 0\.\.1048575; codes count from 0"):
        read(saved(tmp_path, {"0": [0, 2**20 - 1], "1": [0, 2**20]}))


def test_a_collision_code_is_what_comes_after_the_content(tmp_path: Path) -> None:
    """Its size is the largest group; the codebook size is that of the other levels."""
    path = saved(tmp_path, {"0": [3, 1, 0], "1": [3, 1, 1], "2": [0, 0, 0]})
    ids = read(path, None, 4, content=2)
    assert (ids.sizes, ids.content) == ((4, 4, 2), 2)
    assert read(path, None, content=3).content is None
    big = saved(tmp_path, {i: [0, n] for n, i in enumerate("abcde")})
    assert read(big, None, 2, content=1).sizes == (2, 5)
    with pytest.raises(DataError, match=r"level 2: code 2 is outside 0\.\.1"):
        read(big, None, 2)
    saved(tmp_path, {"0": [3, 1, 0]})
    with pytest.raises(DataError, match="content is 4, but an item has 3 codes; give the number"):
        read(path, None, content=4)


names = st.text(st.characters(exclude_categories=()), max_size=4)


@settings(max_examples=40)
@given(st.data())
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Any item ids, more levels than letters, with and without a collision code; other orders are respected."""
    items = data.draw(st.lists(names, min_size=1, max_size=6, unique=True))
    levels = data.draw(st.sampled_from([1, 2, 26, 27, 60]))
    rows = data.draw(
        st.lists(
            st.lists(st.integers(0, 3), min_size=levels, max_size=levels), min_size=len(items), max_size=len(items)
        )
    )
    ids = Identifiers(np.array(rows), (4,) * levels)
    ids = deduplicated(ids) if data.draw(st.booleans()) else ids
    path = tmp_path_factory.mktemp("index") / "index.json"
    write(ids, items, path)
    again = read(path, items, 4, ids.content)
    assert (again.codes == ids.codes).all()
    assert (again.sizes, again.content) == (ids.sizes, ids.content)
    assert (read(path).codes == ids.codes).all()
    assert (read(path, items[::-1]).codes == ids.codes[::-1]).all()
    first = path.read_bytes()
    write(again, items, path)
    assert path.read_bytes() == first


def test_the_format_is_letters(tmp_path: Path) -> None:
    ids = Identifiers(np.array([[183, *range(1, 28)], [0] * 28]), (184, *[28] * 27))
    write(ids, ["0", 'a "b"\n'], tmp_path / "index.json")
    lines = (tmp_path / "index.json").read_text().splitlines()
    assert lines[0] == "{"
    assert lines[1].startswith('"0": ["<a_183>", "<b_1>", "<c_2>", ')
    assert lines[1].endswith('"<z_25>", "<aa_26>", "<ab_27>"],')
    assert lines[2].startswith('"a \\"b\\"\\n": ["<a_0>"')
    assert lines[3:] == ["}"]
    assert list(json.loads((tmp_path / "index.json").read_text())) == ["0", 'a "b"\n']


def test_a_released_index_is_written_as_it_was_read(tmp_path: Path, shared_data: Callable[[str], Path]) -> None:
    path = find("beauty", [shared_data("beauty") / "beauty"])
    released = json.loads(gzip.decompress(path.with_name(f"{path.name}.gz").read_bytes()))
    write(read(path), list(released), tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == released


def test_items_without_an_id_of_their_own_are_not_written(tmp_path: Path) -> None:
    ids = Identifiers(np.array([[0], [1]]), (2,))
    for item_ids in (["a"], ["a", "a"], ["a", "b", "b"]):
        with pytest.raises(ValueError, match="2 items need as many different item ids"):
            write(ids, item_ids, tmp_path / "index.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        write(ids, ["a", "b"], tmp_path / "file" / "index.json")


def test_missing_index_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"toy: there are no released identifiers .*kind: rkmeans") as caught:
        find("toy", [tmp_path])
    assert str(tmp_path) in str(caught.value)
