"""The readers: what they return, and that every broken file is refused with its place."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlrecbench.data.readers import find_file, read_atomic, read_bytes, read_json
from rlrecbench.errors import DataError

HEADER = "user_id:token\titem_id:token\ttimestamp:float\n"
COLUMNS = ["user_id", "item_id", "timestamp"]


def save(path: Path, text: str | bytes, *, zipped: bool = False) -> Path:
    raw = text.encode() if isinstance(text, str) else text
    file = path.with_name(path.name + ".gz") if zipped else path
    file.write_bytes(gzip.compress(raw, mtime=0) if zipped else raw)
    return path


@pytest.mark.parametrize("zipped", [False, True])
def test_tokens_stay_strings_and_floats_become_numbers(tmp_path: Path, zipped: bool) -> None:
    path = save(tmp_path / "a.inter", HEADER + "007\tx y\t1.5\n\t\u00fc\u2028\t-2e3\n", zipped=zipped)
    rows = read_atomic(path, COLUMNS)
    assert rows["user_id"].tolist() == ["007", ""]
    assert rows["item_id"].tolist() == ["x y", "\u00fc\u2028"]
    assert rows["timestamp"].tolist() == [1.5, -2000.0]
    assert rows["timestamp"].dtype == np.float64


def test_quotes_and_the_words_for_missing_values_are_ordinary_text(tmp_path: Path) -> None:
    path = save(tmp_path / "a.item", 'item_id:token\ttitle:token_seq\n1\t"Hi"\n2\tNA\n3\tnan\n4\tnull\n')
    assert read_atomic(path, ["title"])["title"].tolist() == ['"Hi"', "NA", "nan", "null"]


def test_columns_come_in_the_order_asked_for_and_optional_ones_where_present(tmp_path: Path) -> None:
    path = save(tmp_path / "a.inter", HEADER + "u\ti\t1\n")
    rows = read_atomic(path, ["item_id", "user_id"], optional=["rating", "timestamp"])
    assert list(rows.columns) == ["item_id", "user_id", "timestamp"]


@pytest.mark.parametrize("ending", ["", "\n", "\n\n\n", "\r\n"])
def test_line_ends_byte_order_mark_and_blank_lines_at_the_end(tmp_path: Path, ending: str) -> None:
    text = "\ufeff" + HEADER.replace("\n", "\r\n") + "u\ti\t1\r\nv\tj\t2" + ending
    rows = read_atomic(save(tmp_path / "a.inter", text), COLUMNS)
    assert rows.to_numpy().tolist() == [["u", "i", 1.0], ["v", "j", 2.0]]


def test_a_header_alone_gives_no_rows(tmp_path: Path) -> None:
    rows = read_atomic(save(tmp_path / "a.inter", HEADER), COLUMNS)
    assert len(rows) == 0
    assert list(rows.columns) == COLUMNS


def test_the_plain_file_is_preferred_to_the_gzip_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a.inter", HEADER + "new\ti\t1\n")
    save(path, HEADER + "old\ti\t1\n", zipped=True)
    assert read_atomic(path, ["user_id"])["user_id"].tolist() == ["new"]
    assert find_file(path) == path
    assert find_file(tmp_path / "b.inter") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + "u\ti\t1\nu\ti\nu\t1\n", "a.inter, line 3: found 2 columns, the header has 3"),
        (HEADER + "u\ti\t1\nu\ti\t1\tmore\n", "a.inter, line 3: found 4 columns, the header has 3"),
        (HEADER + "u\ti\t1\n\nu\ti\t1\n", "a.inter, line 3: found 1 columns, the header has 3"),
        (
            HEADER + "u\ti\t1\nu\ti\tlate\n",
            "a.inter, line 3: timestamp is 'late', it must be a finite number",
        ),
        (HEADER + "u\ti\t\n", "a.inter, line 2: timestamp is '', it must be a finite number"),
        (HEADER + "u\ti\tnan\n", "a.inter, line 2: timestamp is 'nan'"),
        (HEADER + "u\ti\t1e999\n", "a.inter, line 2: timestamp is '1e999'"),
        (HEADER + "u\ti\t1_000\n", "a.inter, line 2: timestamp is '1_000'"),
        ("", "a.inter: the file is empty"),
        ("\n\n", "a.inter: the file is empty"),
        (
            "user_id:token\titem_id:token\nu\ti\n",
            "line 1: there is no column 'timestamp'; the file has user_id, item_id",
        ),
        ("user_id,item_id\nu,i\n", "line 1: 'user_id,item_id' is not a column of the form name:type"),
        (
            "user_id:token\titem_id:number\nu\ti\n",
            "line 1: 'item_id:number' is not a column of the form name:type",
        ),
        ("user_id:token\tuser_id:token\nu\ti\n", "line 1: the column 'user_id' stands twice"),
        (HEADER.encode() + b"u\ti\t1\nu\t\xff\t1\n", "a.inter, line 3: not UTF-8 text"),
    ],
)
def test_a_broken_table_is_refused_with_its_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_atomic(save(tmp_path / "a.inter", text), COLUMNS)
    assert message in str(caught.value)


def test_a_column_of_the_wrong_type_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.inter", "user_id:token\ttimestamp:token\nu\t1\n")
    with pytest.raises(DataError, match="'timestamp' has the type token, it must be timestamp:float"):
        read_atomic(path, ["user_id:token", "timestamp:float"])


def test_a_missing_file_names_both_forms(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.inter: there is no such file, nor a\.inter\.gz beside it"):
        read_atomic(tmp_path / "a.inter", COLUMNS)


def test_every_truncation_of_a_gzip_file_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress((HEADER + "u\ti\t1\n" * 50).encode(), mtime=0)
    file = tmp_path / "a.inter.gz"
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"a\.inter\.gz"):
            read_atomic(tmp_path / "a.inter", COLUMNS)
    file.write_bytes(whole)
    assert len(read_atomic(tmp_path / "a.inter", COLUMNS)) == 50


def test_no_flipped_byte_of_a_gzip_file_changes_the_content_unnoticed(tmp_path: Path) -> None:
    text = (HEADER + "".join(f"u{i}\ti\t{i}\n" for i in range(40))).encode()
    whole = gzip.compress(text, mtime=0)
    file = tmp_path / "a.inter.gz"
    refused = 0
    for at in range(len(whole)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            content = read_bytes(tmp_path / "a.inter")
        except DataError:
            refused += 1
        else:
            assert content == text
    assert refused > len(whole) - 10  # the header's time stamp, flags and system are no part of the content


def test_json_plain_and_gzip(tmp_path: Path) -> None:
    value = {"0": [1, 2], "\u00e4": None}
    save(tmp_path / "a.json", json.dumps(value))
    save(tmp_path / "b.json", json.dumps(value), zipped=True)
    assert read_json(tmp_path / "a.json") == read_json(tmp_path / "b.json") == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1,\n "b": }', "a.json, line 2: not valid JSON"),
        (" \n", "a.json: the file is empty"),
        (b'{\n"\xff": 1}', "a.json, line 2: not UTF-8 text"),
        ("[" * 100_000, "a.json: not usable JSON: nested too deeply"),
    ],
)
def test_broken_json_is_refused_with_its_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_json(save(tmp_path / "a.json", text))
    assert message in str(caught.value)


FIELD = st.text(st.characters(exclude_characters="\t\n\r\ufeff", exclude_categories=["Cs"]), max_size=5)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(FIELD, FIELD, st.floats(allow_nan=False, allow_infinity=False)), max_size=8))
def test_what_is_written_is_read(tmp_path: Path, rows: list[tuple[str, str, float]]) -> None:
    text = HEADER + "".join(f"{a}\t{b}\t{c!r}\n" for a, b, c in rows)
    read = read_atomic(save(tmp_path / "a.inter", text), COLUMNS)
    assert [tuple(row) for row in read.itertuples(index=False)] == rows


def test_yelp_agrees_with_pandas(shared_data: Callable[[str], Path]) -> None:
    folder = shared_data("yelp")
    rows = read_atomic(folder / "yelp" / "yelp.inter", COLUMNS)
    other = pd.read_csv(folder / "yelp" / "yelp.inter.gz", sep="\t", dtype=str, keep_default_na=False, quoting=3)
    assert len(rows) == 316_354
    assert rows["user_id"].tolist() == other["user_id:token"].tolist()
    assert rows["item_id"].tolist() == other["item_id:token"].tolist()
    assert rows["timestamp"].tolist() == other["timestamp:float"].astype(float).tolist()
