"""Vectors from a file: whose row is whose, and what is said about files that do not fit."""

import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from rlrecbench.errors import DataError
from rlrecbench.identifiers.vectors import ids_file, read_vectors

ROWS = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])


def write(folder: Path, array: Any, ids: str | None = None) -> Path:
    """An array, and the text of its ids file."""
    np.save(folder / "x.npy", array)
    if ids is not None:
        (folder / "x.ids.txt").write_text(ids)
    return folder / "x.npy"


def test_ids_file_stands_beside_the_vectors() -> None:
    assert ids_file(Path("a/x.y.npy")) == Path("a/x.y.ids.txt")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["float16", "float32", "float64", ">f4"])
def test_ids_put_rows_into_the_data_sets_order(kind: str, order: Literal["C", "F"], tmp_path: Path) -> None:
    vectors = read_vectors(write(tmp_path, ROWS.astype(kind, order), "c\na a\nb\n"), ["a a", "c"], "toy")
    assert vectors.tolist() == [[2, 3], [0, 1]]
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous


def test_ids_win_over_row_numbers_and_may_end_lines_as_windows_does(tmp_path: Path) -> None:
    path = write(tmp_path, ROWS)
    ids_file(path).write_bytes(b"\xef\xbb\xbf2\r\n0\r\n1")
    assert read_vectors(path, ["0", "1", "2"], "toy").tolist() == [[2, 3], [4, 5], [0, 1]]


def test_without_ids_the_row_is_the_number_and_not_the_position(tmp_path: Path) -> None:
    """Text order is 0, 1, 10, 11, 2, ...: the order that dictionaries and file lists come in."""
    order = sorted(str(n) for n in range(12))
    vectors = read_vectors(write(tmp_path, np.arange(12.0)[:, None]), order, "toy")
    assert vectors[:, 0].tolist() == [0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize(
    ("array", "items", "sentence"),
    [
        (ROWS, ["1", "2", "3"], "item ids of toy are not the numbers 0..2 (one is '3'); write x.ids.txt beside it"),
        (ROWS, ["00", "1", "2"], "item ids of toy are not the numbers 0..2 (one is '00')"),
        (ROWS, ["0", "1"], "has 3 rows, but toy has 2 items"),
        (ROWS, ["0", "1", "2", "3"], "has 3 rows, but toy has 4 items"),
        (ROWS.astype(int), ["0", "1", "2"], "holds values of type int64; vectors must be floating-point"),
        (ROWS.astype(complex), ["0", "1", "2"], "holds values of type complex128"),
        (ROWS[0], ["0", "1"], "has shape (2,); vectors must be [N, D]"),
        (ROWS[None], ["0"], "has shape (1, 3, 2); vectors must be [N, D]"),
        (ROWS[:, :0], ["0", "1", "2"], "has shape (3, 0); vectors must be [N, D]"),
        (np.array([None]), ["0"], "cannot be read as a NumPy file"),
    ],
)
def test_array_that_does_not_fit_is_refused(array: Any, items: list[str], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape(sentence)):
        read_vectors(write(tmp_path, array), items, "toy")


@pytest.mark.parametrize(
    ("ids", "sentence"),
    [
        ("a\nb\na\n", "x.ids.txt, line 3: item 'a' stands on line 1 too"),
        ("a\nb\nd\n", "x.ids.txt: 1 of 3 items of toy have no vector, the first is item 'c'"),
        ("a\nb\nc\nd\n", "x.ids.txt: has 4 lines, but the vectors have 3 rows"),
        ("", "x.ids.txt: has 1 lines, but the vectors have 3 rows"),
    ],
)
def test_ids_that_do_not_fit_are_refused(ids: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape(sentence)):
        read_vectors(write(tmp_path, ROWS, ids), ["a", "b", "c"], "toy")


def test_ids_file_must_be_text(tmp_path: Path) -> None:
    path = write(tmp_path, ROWS)
    ids_file(path).write_bytes(b"\xff\n")
    with pytest.raises(DataError, match=r"x.ids.txt: cannot be read: it is not UTF-8 text"):
        read_vectors(path, ["a"], "toy")


def test_what_is_no_array_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    with pytest.raises(DataError, match=r"x.npy: cannot be read as a NumPy file: No such file or directory"):
        read_vectors(path, ["0"], "toy")
    for content in (b"", b"text", b"PK\x03\x04", write(tmp_path, ROWS).read_bytes()[:-8]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"x.npy: cannot be read as a NumPy file: .*; write it with numpy.save"):
            read_vectors(path, ["0", "1", "2"], "toy")
