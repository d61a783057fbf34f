"""Lines of raw files: what is read, and what a broken one is told."""

import gzip
from pathlib import Path

import pytest

from rlrecbench.data.raw_lines import ratings, records
from rlrecbench.errors import DataError


def test_json_lines_are_read_plain_and_packed_whatever_the_name_says(tmp_path: Path) -> None:
    text = b'{"a": 1}\n\n{"a": "\\u00e9"}\r\n{"a": null}'
    (tmp_path / "plain.json.gz").write_bytes(text)
    (tmp_path / "packed.json").write_bytes(gzip.compress(text))
    wanted = [(1, {"a": 1}), (3, {"a": "é"}), (4, {"a": None})]
    assert list(records(tmp_path / "plain.json.gz")) == wanted
    assert list(records(tmp_path / "packed.json")) == wanted
    assert list(records(tmp_path / "packed.json", show=True)) == wanted


def test_the_2014_collections_python_lines_are_read_as_literals(tmp_path: Path) -> None:
    file = tmp_path / "meta.json"
    file.write_text("{'asin': 'B1', 'title': \"Nail's end\", 'price': 3.5, 'categories': [['Beauty', 'Nails']]}\n")
    assert list(records(file)) == [
        (1, {"asin": "B1", "title": "Nail's end", "price": 3.5, "categories": [["Beauty", "Nails"]]})
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{'asin': __import__('os').getcwd()}", "neither JSON .* nor a Python dictionary of literals"),
        (b'{"asin": "B1"', "neither JSON"),
        (b"[1, 2]", "must be one JSON object, found"),
        (b"(" * 5000, "neither JSON"),
        (b"[" * 100_000, "neither JSON"),
        (b'{"asin": "\xff"}', "not UTF-8 text"),
    ],
    ids=["code", "cut off", "list", "deep literal", "deep JSON", "not UTF-8"],
)
def test_a_broken_line_is_named(line: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "raw.json"
    file.write_bytes(b'{"asin": "B0"}\n' + line + b"\n")
    with pytest.raises(DataError, match=rf"(?s)raw\.json, line 2: {message}"):
        list(records(file))


def test_a_cut_gzip_file_and_a_missing_one_are_named(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"a": 1}\n' * 1000)
    (tmp_path / "raw.json.gz").write_bytes(whole[:-9])
    with pytest.raises(DataError, match=r"raw\.json\.gz, after line \d+: not a whole gzip file"):
        list(records(tmp_path / "raw.json.gz"))
    with pytest.raises(DataError, match="none: cannot be read"):
        list(records(tmp_path / "none"))


def test_ratings_have_four_fields_and_perhaps_a_header(tmp_path: Path) -> None:
    file = tmp_path / "ratings.csv"
    file.write_text("item,user,rating,timestamp\nB1,A1,5.0,1514764800\n")
    assert list(ratings(file)) == [(2, ["B1", "A1", "5.0", "1514764800"])]
    file.write_text("B1,A1,5.0,1514764800\nB1,A1,5.0\n")
    with pytest.raises(DataError, match="line 2: found 3 fields, must be item,user,rating,time"):
        list(ratings(file))
