"""Recommendations from files, tables and arrays, and every way in which they can be wrong."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rlrecbench.data.frame import Dataset
from rlrecbench.errors import ConfigError, DataError
from rlrecbench.metrics import audit, read_lists, score, standard

MakeDataset = Callable[..., Dataset]
GOOD = "user_id\trank\titem_id\nu0\t2\t8\nu2\t1\t9\nu0\t1\t7\n"
GOOD_LISTS = [[0, 1], [-1, -1], [2, -1]]


@pytest.fixture
def toy(make_dataset: MakeDataset) -> Dataset:
    """Items 7, 8, 9 of three users, whose targets are 8, 8 and 9."""
    return make_dataset(["x", "y", "z"], [[0, 1], [2]], [1, 1, 2], item_ids=["7", "8", "9"])


def written(folder: Path, text: str, name: str = "recs.tsv") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def test_ranks_may_come_in_any_order_and_users_may_be_missing(tmp_path: Path, toy: Dataset) -> None:
    lists = read_lists(written(tmp_path, GOOD), toy)
    assert lists.ranked.tolist() == GOOD_LISTS
    assert lists.target.tolist() == [1, 1, 2]
    found = audit(lists)
    assert (found["users"], found["empty_users"], found["short_users"]) == (3, 1, 2)


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "tsv.gz", "parquet", "crlf", "bom", "extra", "blank", "no-rank"])
def test_every_form_of_one_table(kind: str, tmp_path: Path, toy: Dataset) -> None:
    path = tmp_path / f"recs.{kind if '.' in kind or kind in ('csv', 'parquet') else 'tsv'}"
    text = {
        "crlf": GOOD.replace("\n", "\r\n"),
        "bom": "\ufeff" + GOOD,
        "extra": 'user_id\trank\titem_id\tnote\nu0\t2\t8\t"\nu2\t1\t9\té\nu0\t1\t7\t\n',
        "blank": GOOD.replace("\nu2", "\n\nu2") + "\n\n",
        "no-rank": "item_id\tuser_id\n7\tu0\n9\tu2\n8\tu0\n",
    }.get(kind, GOOD.replace("\t", ",") if "csv" in kind else GOOD)
    if kind == "parquet":
        frame = pd.DataFrame({"user_id": ["u0", "u2", "u0"], "rank": [2, 1, 1], "item_id": [8, 9, 7]})
        frame.to_parquet(path)
    else:
        path.write_bytes(gzip.compress(text.encode()) if kind.endswith(".gz") else text.encode())
    assert read_lists(path, toy).ranked.tolist() == GOOD_LISTS


@pytest.mark.parametrize(
    "items",
    [
        np.array([8, 9, 7]),
        np.array([8, 9, 7], np.int32),
        np.array([8.0, 9.0, 7.0]),
        pd.array([8, 9, 7], dtype="Int64"),
        np.array(["8", "9", "7"], object),
        pd.array(["8", "9", "7"], dtype="string"),
        pd.Categorical(["8", "9", "7"]),
    ],
    ids=lambda items: str(items.dtype),
)
def test_ids_of_any_type_are_text(items: Any, toy: Dataset) -> None:
    frame = pd.DataFrame({"user_id": ["u0", "u2", "u0"], "rank": [2, 1, 1], "item_id": items})
    assert score(frame, toy, ["recall@2"])["metrics"] == {"recall@2": pytest.approx(2 / 3)}


def test_rows_of_examples_are_numbered(tmp_path: Path, make_dataset: MakeDataset) -> None:
    data = make_dataset(["x", "y"], [[0]], [0, 1], protocol="examples")
    path = written(tmp_path, "user_id,item_id\n1,i1\n0,i1\n0,i0\n", "recs.csv")
    assert read_lists(path, data).ranked.tolist() == [[1, 0], [1, -1]]
    with pytest.raises(DataError, match=r"recs\.csv, line 2: user_id '2' is not the number of a test row of toy"):
        read_lists(written(tmp_path, "user_id,item_id\n2,i1\n", "recs.csv"), data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"recs\.tsv: the file is empty; needed are columns user_id, item_id"),
        ("user_id\titem_id\n", r"recs\.tsv: there are no recommendations, only a header"),
        (
            "user\titem_id\nu0\t7\n",
            r"recs\.tsv: exactly one column must be called 'user_id', found .* user, item_id",
        ),
        ("user_id\titem\nu0\t7\n", r"recs\.tsv: exactly one column must be called 'item_id'"),
        ("user_id\titem_id\titem_id\nu0\t7\t7\n", r"exactly one column must be called 'item_id'"),
        ("user_id\trank\trank\titem_id\nu0\t1\t1\t7\n", r"at most one column may be called 'rank'"),
        (
            "user_id\titem_id\nu0\t7\nu0\t1\n",
            r"recs\.tsv, line 3: item_id '1' is not an item of toy \(3 of them, such as '7'\)",
        ),
        ("user_id\titem_id\nu0\t7\n\n\nu0\t1\n", r"recs\.tsv, line 5: item_id '1'"),
        ("user_id\titem_id\nu0\t07\n", r"recs\.tsv, line 2: item_id '07'"),
        ("user_id\titem_id\nu0\t\n", r"recs\.tsv, line 2: item_id is empty"),
        (
            "user_id\titem_id\nu0\t7\nu3\t7\n",
            r"recs\.tsv, line 3: user_id 'u3' is not a user with a test row of toy",
        ),
        ("user_id\titem_id\nu0\t7\nu0\n", r"recs\.tsv, line 3: the header has 2 columns, this line 1"),
        ("user_id\titem_id\n\nu0\t7\t1\n", r"recs\.tsv, line 3: the header has 2 columns, this line 3"),
        ("user_id\trank\titem_id\nu0\t0\t7\n", r"recs\.tsv, line 2: rank '0' is not a whole number from 1"),
        ("user_id\trank\titem_id\nu0\t1\t7\nu0\t1.5\t7\n", r"recs\.tsv, line 3: rank '1\.5' is not"),
        ("user_id\trank\titem_id\nu0\tone\t7\n", r"recs\.tsv, line 2: rank 'one' is not"),
        ("user_id\trank\titem_id\nu0\t\t7\n", r"recs\.tsv, line 2: rank '' is not"),
        ("user_id\trank\titem_id\nu0\tinf\t7\n", r"recs\.tsv, line 2: rank 'inf' is not"),
        (
            "user_id\trank\titem_id\nu0\t1\t7\nu1\t1\t7\nu0\t1\t8\n",
            r"recs\.tsv, line 4: rank 1 of user 'u0' stands twice",
        ),
        (
            "user_id\trank\titem_id\nu0\t1\t7\nu0\t3\t8\n",
            r"recs\.tsv, line 3: rank 3 of user 'u0' is above the 2 rows",
        ),
        (
            "user_id\trank\titem_id\nu0\t2\t7\nu0\t3\t8\n",
            r"recs\.tsv, line 3: rank 3 of user 'u0' is above the 2 rows",
        ),
    ],
)
def test_wrong_files_are_answered_in_one_sentence(text: str, message: str, tmp_path: Path, toy: Dataset) -> None:
    with pytest.raises(DataError, match=message) as error:
        read_lists(written(tmp_path, text), toy)
    assert "\n" not in str(error.value)


def test_broken_files(tmp_path: Path, toy: Dataset) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        read_lists(tmp_path / "none.tsv", toy)
    with pytest.raises(DataError, match=r"must be a \.tsv, \.csv or \.parquet file"):
        read_lists(written(tmp_path, GOOD, "recs.xlsx"), toy)
    with pytest.raises(DataError, match=r"recs\.parquet: cannot be read"):
        read_lists(written(tmp_path, GOOD, "recs.parquet"), toy)
    broken = tmp_path / "recs.tsv.gz"
    broken.write_bytes(gzip.compress((GOOD * 500).encode())[:-20])
    with pytest.raises(DataError, match=r"recs\.tsv\.gz: cannot be read"):
        read_lists(broken, toy)
    latin = tmp_path / "latin.tsv"
    latin.write_bytes("user_id\titem_id\nu0\t7\nu\xe9\t7\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.tsv, line 3: this is not UTF-8 text"):
        read_lists(latin, toy)


def test_score_of_a_table_an_array_and_a_file_agree(tmp_path: Path, toy: Dataset) -> None:
    path = written(tmp_path, GOOD)
    expected = {
        "dataset": "toy",
        "protocol": "leave-one-out",
        "users": 3,
        # u0: 8 at rank 2; u1: empty; u2: 9 at rank 1
        "metrics": {"recall@1": pytest.approx(1 / 3), "mrr@2": pytest.approx((1 / 2 + 0 + 1) / 3)},
        "audit": {
            "users": 3,
            "invalid_users": 0,
            "invalid_entries": 0,
            "duplicate_users": 0,
            "duplicate_entries": 0,
            "short_users": 2,
            "short_entries": 3,
            "empty_users": 1,
        },
    }
    for source in (path, str(path), pd.read_csv(path, sep="\t"), np.array(GOOD_LISTS)):
        assert score(source, toy, ["recall@1", "mrr@2"]) == expected


def test_score_of_wrong_tables_arrays_and_names(toy: Dataset) -> None:
    with pytest.raises(DataError, match=r"the table, row 2: item_id '1' is not an item"):
        score(pd.DataFrame({"user_id": ["u0", "u0"], "item_id": [7, 1]}), toy, ["recall@1"])
    with pytest.raises(DataError, match=r"shape \(2, 1\) and type int64; toy needs .* \[3, K\]"):
        score(np.array([[1], [0]]), toy, ["recall@1"])
    with pytest.raises(DataError, match="type float64"):
        score(np.zeros((3, 1)), toy, ["recall@1"])
    with pytest.raises(ConfigError, match="no metric"):
        score(np.array(GOOD_LISTS), toy, ["recal@1"])


def test_every_metric_of_a_file(tmp_path: Path, toy: Dataset) -> None:
    values = score(written(tmp_path, GOOD), toy, standard([1, 2], "string"))["metrics"]
    assert len(values) == len(standard([1, 2], "string"))
    assert np.isfinite(list(values.values())).all()


@pytest.mark.parametrize(
    ("name", "place"), [("recs.parquet", "row 2"), ("recs.csv.gz", "line 4"), ("recs.tsv.gz", "line 4")]
)
def test_the_place_of_what_is_wrong_in_every_kind_of_file(name: str, place: str, tmp_path: Path, toy: Dataset) -> None:
    """The second row names no item; in text a blank line stands before it."""
    path = tmp_path / name
    if name.endswith("parquet"):
        pd.DataFrame({"user_id": ["u0", "u0"], "item_id": ["7", "1"]}).to_parquet(path)
    else:
        text = "user_id\titem_id\nu0\t7\n\nu0\t1\n"
        path.write_bytes(gzip.compress((text.replace("\t", ",") if "csv" in name else text).encode()))
    with pytest.raises(DataError, match=rf"{name}, {place}: item_id '1' is not an item"):
        read_lists(path, toy)


def test_quotes_belong_to_csv_alone(tmp_path: Path, toy: Dataset) -> None:
    assert read_lists(written(tmp_path, 'user_id,item_id\n"u0","7"\n', "recs.csv"), toy).ranked[0].tolist() == [0]
    with pytest.raises(DataError, match="user_id '\"u0\"' is not a user"):
        read_lists(written(tmp_path, 'user_id\titem_id\n"u0"\t7\n'), toy)


def test_a_fraction_is_no_id(toy: Dataset) -> None:
    with pytest.raises(DataError, match=r"row 1: item_id '7\.5' is not an item"):
        score(pd.DataFrame({"user_id": ["u0", "u0"], "item_id": [7.5, 8.0]}), toy, ["recall@1"])
    with pytest.raises(DataError, match="row 2: item_id is empty"):
        score(pd.DataFrame({"user_id": ["u0", "u0"], "item_id": [8.0, np.nan]}), toy, ["recall@1"])


def test_an_array_has_a_row_per_test_row(toy: Dataset) -> None:
    for wrong in (np.zeros(3, np.int64), np.zeros((3, 1, 1), np.int64), np.zeros((3, 1), np.bool_)):
        with pytest.raises(DataError, match="the array of recommendations"):
            score(wrong, toy, ["recall@1"])
    unsigned = np.array([[0], [1], [2]], np.uint8)
    assert score(unsigned, toy, ["recall@1"])["metrics"] == {"recall@1": pytest.approx(2 / 3)}


def test_without_metrics_the_audit_is_of_the_whole_lists(toy: Dataset) -> None:
    found = score(np.array(GOOD_LISTS), toy, [])
    assert found["metrics"] == {}
    assert found["audit"]["short_entries"] == 3
