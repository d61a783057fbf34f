"""Splitting, cutting and numbering, on files small enough to do by hand."""

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlrecbench.config import build
from rlrecbench.data.datasets import DatasetSpec, datasets
from rlrecbench.data.frame import PARTS, Dataset, Examples
from rlrecbench.data.prepare import DataOptions, Interactions, leave_one_out, prepare, read_interactions
from rlrecbench.errors import ConfigError, DataError

Row = tuple[int, list[int], int]

INTER = "user_id:token\titem_id:token\ttimestamp:float\n"
EXAMPLES = "user_id:token\titem_id_list:token_seq\titem_id:token\n"
ITEM = "item_id:token\ttitle:token_seq\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make the folder of a data set called mine, in the data folder ``tmp_path``."""
    (tmp_path / "mine").mkdir()
    return tmp_path / "mine"


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """Register and write a data set of released examples, called toy."""

    @datasets.register("toy")
    def toy() -> DatasetSpec:
        return DatasetSpec("toy", "Toy", "examples", 3)

    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "toy.train.inter").write_text(EXAMPLES + "u\ta\tb\nv\tb c a b\ta\nu\ta b\tc\n")
    (folder / "toy.valid.inter").write_text(EXAMPLES + "w\tc  a\ta\n")
    (folder / "toy.test.inter").write_text(EXAMPLES + "v\tc a b a\tc\nu\ta\td\n")
    return folder


@pytest.fixture(autouse=True)
def _forget_the_toy() -> Iterator[None]:
    yield
    datasets._entries.pop("toy", None)


def rows(examples: Examples) -> list[Row]:
    return [
        (int(examples.user[r]), examples.history(r).tolist(), int(examples.target[r])) for r in range(len(examples))
    ]


def by_hand(sequences: list[list[int]], max_history: int) -> tuple[list[Row], list[Row], list[Row]]:
    """The protocol as one reads it: a loop over users and prefixes."""
    train: list[Row] = []
    valid: list[Row] = []
    test: list[Row] = []
    for user, x in enumerate(sequences):
        for i in range(1, len(x)):
            part = test if i == len(x) - 1 else valid if i == len(x) - 2 else train
            part.append((user, x[:i][-max_history:], x[i]))
    return train, valid, test


def test_leave_one_out_by_hand(folder: Path, tmp_path: Path) -> None:
    # u: 10 11 12 13 14 by time; v: 12 10 (test only); w: 11 (nothing); z: 13 12 11 (validation and test).
    (folder / "mine.inter").write_text(
        INTER
        + "u\t13\t4\nv\t12\t1\nu\t10\t1\nu\t14\t5\nw\t11\t9\nv\t10\t2\n"
        + "u\t12\t3\nu\t11\t2\nz\t13\t1\nz\t12\t2\nz\t11\t3\n"
    )
    data = prepare("mine", DataOptions(), [tmp_path])
    assert data.items["item_id"].tolist() == ["10", "11", "12", "13", "14"]
    assert data.users.tolist() == ["u", "v", "w", "z"]
    assert rows(data.train) == [(0, [0], 1), (0, [0, 1], 2)]
    assert rows(data.valid) == [(0, [0, 1, 2], 3), (3, [3], 2)]
    assert rows(data.test) == [(0, [0, 1, 2, 3], 4), (1, [2], 0), (3, [3, 2], 1)]
    assert data.test_ids().tolist() == ["u", "v", "z"]
    assert (data.name, data.protocol) == ("mine", "leave-one-out")
    assert data.settings == {"max_history": 20, "last": None}


def test_equal_times_keep_the_order_of_the_file(folder: Path, tmp_path: Path) -> None:
    items = [7, 3, 9, 1, 5, 8, 2, 6]
    (folder / "mine.inter").write_text(INTER + "".join(f"{u}\t{i}\t1\n" for i in items for u in "ab"))
    _, interactions = read_interactions("mine", folder)
    order = sorted(items)
    assert [order[i] for i in interactions.item] == items * 2
    assert interactions.user.tolist() == [0] * 8 + [1] * 8


def test_times_are_compared_as_numbers(folder: Path) -> None:
    (folder / "mine.inter").write_text(INTER + "u\t1\t10\nu\t2\t9\nu\t3\t-1\nu\t4\t9.5\n")
    assert (read_interactions("mine", folder)[1].item + 1).tolist() == [3, 2, 4, 1]


def test_max_history_keeps_the_newest_items(folder: Path, tmp_path: Path) -> None:
    (folder / "mine.inter").write_text(INTER + "".join(f"u\t{t}\t{t}\n" for t in range(6)))
    data = prepare("mine", DataOptions(max_history=2), [tmp_path])
    assert rows(data.train) == [(0, [0], 1), (0, [0, 1], 2), (0, [1, 2], 3)]
    assert rows(data.valid) == [(0, [2, 3], 4)]
    assert rows(data.test) == [(0, [3, 4], 5)]
    assert data.settings == {"max_history": 2, "last": None}


def test_last_cuts_before_the_split(folder: Path, tmp_path: Path) -> None:
    (folder / "mine.inter").write_text(
        INTER + "".join(f"u\t{t}\t{t}\n" for t in range(9)) + "v\t0\t1\nv\t5\t2\nv\t7\t3\n"
    )
    data = prepare("mine", DataOptions(last=4), [tmp_path])
    assert rows(data.train) == [(0, [5], 6)]
    assert rows(data.valid) == [(0, [5, 6], 7), (1, [0], 5)]
    assert rows(data.test) == [(0, [5, 6, 7], 8), (1, [0, 5], 7)]
    assert data.n_items == 9
    assert data.settings == {"max_history": 20, "last": 4}


@settings(max_examples=150, deadline=None)
@given(
    sequences=st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=9), min_size=1, max_size=6),
    max_history=st.integers(1, 6),
)
def test_leave_one_out_is_the_loop_over_users(sequences: list[list[int]], max_history: int) -> None:
    user = np.repeat(np.arange(len(sequences)), [len(s) for s in sequences])
    interactions = Interactions(np.arange(len(sequences)).astype(str), user, np.concatenate(sequences))
    parts = leave_one_out(interactions, max_history)
    assert tuple(rows(part) for part in parts) == by_hand(sequences, max_history)


@settings(max_examples=60, deadline=None)
@given(
    events=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=40),
    last=st.none() | st.integers(1, 5),
)
def test_interactions_are_the_sorted_lists_of_each_user(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[int, int, int]], last: int | None
) -> None:
    folder = tmp_path_factory.mktemp("events")
    (folder / "mine.inter").write_text(INTER + "".join(f"u{u}\t{i}\t{t}\n" for u, i, t in events))
    items, found = read_interactions("mine", folder, last)
    users = list(dict.fromkeys(u for u, _, _ in events))
    expected = []
    for number, u in enumerate(users):
        mine = sorted((e for e in events if e[0] == u), key=lambda e: e[2])
        expected += [(number, str(i)) for _, i, _ in (mine if last is None else mine[-last:])]
    assert found.users.tolist() == [f"u{u}" for u in users]
    assert list(zip(found.user.tolist(), items["item_id"].iloc[found.item], strict=True)) == expected


def test_released_examples_row_by_row(released: Path, tmp_path: Path) -> None:
    data = prepare("toy", DataOptions(), [tmp_path])
    assert data.items["item_id"].tolist() == ["a", "b", "c", "d"]
    assert data.users.tolist() == ["u", "v", "w"]
    assert rows(data.train) == [(0, [0], 1), (1, [2, 0, 1], 0), (0, [0, 1], 2)]
    assert rows(data.valid) == [(2, [2, 0], 0)]
    assert rows(data.test) == [(1, [0, 1, 0], 2), (0, [0], 3)]
    assert data.settings == {"max_history": 3, "last": None}
    assert data.test_ids().tolist() == ["0", "1"]


def test_released_examples_are_numbered_by_the_item_file(released: Path, tmp_path: Path) -> None:
    (released / "toy.item").write_text(ITEM + "d\tD\nc\tC\nx\tX\na\tA\nb\tB\n")
    data = prepare("toy", DataOptions(max_history=1), [tmp_path])
    assert data.n_items == 5
    assert rows(data.train) == [(0, [3], 4), (1, [4], 3), (0, [4], 1)]
    assert rows(data.test) == [(1, [3], 1), (0, [3], 0)]


@pytest.mark.parametrize("valid", [EXAMPLES, EXAMPLES + "w\ta\tb\n"])
def test_released_examples_may_have_no_validation(released: Path, tmp_path: Path, valid: str) -> None:
    (released / "toy.valid.inter").write_text(valid)
    data = prepare("toy", DataOptions(), [tmp_path])
    assert len(data.valid) == valid.count("\n") - 1
    assert len(data.test) == 2


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "toy.valid.inter",
            EXAMPLES + "w\ta\tb\nw\ta q b\tc\n",
            "toy.valid.inter, line 3: item 'q' is not in",
        ),
        (
            "toy.test.inter",
            EXAMPLES + "w\ta\tq\n",
            "toy.test.inter, line 2: item 'q' is not in the item file",
        ),
        ("toy.train.inter", EXAMPLES + "w\t  \tb\n", "toy.train.inter, line 2: item_id_list is empty"),
        ("toy.train.inter", EXAMPLES + "w\ta\tb\n\ta\tb\n", "toy.train.inter, line 3: user_id is empty"),
        ("toy.train.inter", EXAMPLES, "no training row is left"),
        ("toy.test.inter", EXAMPLES, "no test row is left"),
    ],
)
def test_broken_examples_are_refused(released: Path, tmp_path: Path, file: str, text: str, message: str) -> None:
    (released / "toy.item").write_text(ITEM + "a\tA\nb\tB\nc\tC\nd\tD\n")
    (released / file).write_text(text)
    with pytest.raises(DataError) as caught:
        prepare("toy", DataOptions(), [tmp_path])
    assert message in str(caught.value)


def test_a_part_that_is_missing_is_named(released: Path, tmp_path: Path) -> None:
    (released / "toy.test.inter").unlink()
    with pytest.raises(DataError, match=r"toy\.test\.inter: there is no such file"):
        prepare("toy", DataOptions(), [tmp_path])


def test_last_is_refused_for_released_examples(released: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="data set toy: 'last' is for leave-one-out data"):
        prepare("toy", DataOptions(last=5), [tmp_path])


@pytest.mark.parametrize(
    ("ids", "order"),
    [
        (["10", "9", "2", "011"], ["2", "9", "10", "011"]),
        (["b", "10", "a", "9"], ["b", "10", "a", "9"]),
        (["-1", "3", "2", "1"], ["-1", "3", "2", "1"]),
    ],
)
def test_items_without_an_item_file(folder: Path, tmp_path: Path, ids: list[str], order: list[str]) -> None:
    (folder / "mine.inter").write_text(INTER + "".join(f"u\t{i}\t{t}\n" for t, i in enumerate(ids)))
    items = prepare("mine", DataOptions(), [tmp_path]).items
    assert items["item_id"].tolist() == items["title"].tolist() == order
    assert items["text"].tolist() == [""] * 4


def test_titles_fall_back_to_text_id_and_item_id(folder: Path, tmp_path: Path) -> None:
    (folder / "mine.inter").write_text(INTER + "".join(f"u\t{t}\t{t}\n" for t in range(4)))
    (folder / "mine.item").write_text(
        "item_id:token\tasin:token\tcategories:token_seq\ttext_id:token_seq\ttitle:token_seq\tyear:token\n"
        "3\tB3\tNails, Polish\tred polish\tRed!\t1999\n"
        "2\tB2\tSoap\tsome soap\t \t\n1\tB1\t\t\t\t\n0\tB0\tHair\t\t\t\n"
    )
    items = prepare("mine", DataOptions(), [tmp_path]).items
    assert items["item_id"].tolist() == ["3", "2", "1", "0"]
    assert items["title"].tolist() == ["Red!", "some soap", "1", "0"]
    assert items["text"].tolist() == ["Red! red polish Nails, Polish 1999", "some soap Soap", "", "Hair"]


def test_an_item_file_with_ids_alone(folder: Path, tmp_path: Path) -> None:
    (folder / "mine.inter").write_text(INTER + "".join(f"u\t{t}\t{t}\n" for t in range(4)))
    (folder / "mine.item").write_text("item_id:token\n3\n2\n1\n0\n4\n")
    data = prepare("mine", DataOptions(), [tmp_path])
    assert data.items["title"].tolist() == ["3", "2", "1", "0", "4"]
    assert data.items["text"].tolist() == [""] * 5
    assert rows(data.test) == [(0, [3, 2, 1], 0)]


@pytest.mark.parametrize(
    ("inter", "item", "message"),
    [
        ("u\t1\t1\nu\t5\t2\nu\t6\t3\n", "1\tA\n", "mine.inter, line 3: item '5' is not in the item file"),
        ("u\t1\t1\n\t1\t2\n", "1\tA\n", "mine.inter, line 3: user_id is empty"),
        ("u\t\t1\n", "1\tA\n", "mine.inter, line 2: item_id is empty"),
        ("u\t1\t1\n", "1\tA\n2\tB\n1\tC\n", "mine.item, line 4: item '1' stands twice"),
        ("u\t1\t1\n", "1\tA\n \tB\n", "mine.item, line 3: item_id is empty"),
        ("u\t1\t1\nu\t1\t2\nu\t1\t3\n", "1\tA\n", "no training row is left"),
        ("", "1\tA\n", "no training row is left"),
    ],
)
def test_broken_interactions_are_refused(folder: Path, tmp_path: Path, inter: str, item: str, message: str) -> None:
    (folder / "mine.inter").write_text(INTER + inter)
    (folder / "mine.item").write_text(ITEM + item)
    with pytest.raises(DataError) as caught:
        prepare("mine", DataOptions(), [tmp_path])
    assert message in str(caught.value)


def test_interactions_need_numeric_times(folder: Path, tmp_path: Path) -> None:
    (folder / "mine.inter").write_text("user_id:token\titem_id:token\ttimestamp:token\nu\t1\t1\n")
    with pytest.raises(DataError, match="it must be timestamp:float"):
        prepare("mine", DataOptions(), [tmp_path])


def test_gzip_and_plain_files_give_the_same_data(folder: Path, tmp_path: Path) -> None:
    text = {"mine.inter": INTER + "".join(f"u\t{t}\t{t}\n" for t in range(5)), "mine.item": ITEM}
    text["mine.item"] += "".join(f"{t}\tT{t}\n" for t in range(5))
    for name, content in text.items():
        (folder / name).write_text(content)
    plain = prepare("mine", DataOptions(), [tmp_path])
    for name, content in text.items():
        (folder / name).unlink()
        (folder / f"{name}.gz").write_bytes(gzip.compress(content.encode()))
    zipped = prepare("mine", DataOptions(), [tmp_path])
    assert plain.checksum == zipped.checksum
    assert plain.items.equals(zipped.items)
    assert [rows(plain.part(p)) for p in PARTS] == [rows(zipped.part(p)) for p in PARTS]


def test_what_is_written_is_read(released: Path, tmp_path: Path) -> None:
    (released / "toy.valid.inter").write_text(EXAMPLES)
    data = prepare("toy", DataOptions(), [tmp_path])
    data.write(tmp_path)
    back = Dataset.read(tmp_path)
    assert back.items.equals(data.items)
    assert back.users.tolist() == data.users.tolist()
    assert [rows(back.part(p)) for p in PARTS] == [rows(data.part(p)) for p in PARTS]
    about = (data.name, data.protocol, data.settings, data.checksum)
    assert (back.name, back.protocol, back.settings, back.checksum) == about


def test_options_are_strict() -> None:
    assert build(DataOptions, {"last": 5}, "x") == DataOptions(None, 5)
    with pytest.raises(ConfigError, match="x: max_history"):
        build(DataOptions, {"max_history": 0}, "x")
    with pytest.raises(ConfigError, match="last is -1, it must be at least 1"):
        DataOptions(last=-1)


def test_ml_100k(dirs_of: Callable[[str], list[Path]]) -> None:
    data = prepare("ml-100k", DataOptions(), dirs_of("ml-100k"))
    assert (data.n_items, len(data.users), len(data.test), len(data.valid)) == (1682, 943, 943, 943)
    # Every rating but a user's first is a target once.
    assert len(data.train) + len(data.valid) + len(data.test) == 100_000 - 943
    assert data.users[:3].tolist() == ["196", "186", "22"]
    assert data.items.iloc[0].tolist() == ["1", "Toy Story", "Toy Story Animation Children's Comedy 1995"]
    assert data.popularity.sum() == 100_000 - 2 * 943


def test_yelp_is_split_as_the_loop_splits_it(shared_data: Callable[[str], Path]) -> None:
    root = shared_data("yelp")
    data = prepare("yelp", DataOptions(), [root])
    sequences: dict[str, list[int]] = {}
    with gzip.open(root / "yelp" / "yelp.inter.gz", "rt", encoding="utf-8") as f:
        next(f)
        for line in f:
            user, item, _ = line.split("\t")
            sequences.setdefault(user, []).append(int(item))
    assert data.users.tolist() == list(sequences)
    assert tuple(rows(data.part(p)) for p in PARTS) == by_hand(list(sequences.values()), 20)
