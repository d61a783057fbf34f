"""Statistics beside the published ones, and verification."""

import gzip
import json
import shutil
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from rlrecbench.data.datasets import data_dirs, spec_of
from rlrecbench.data.prepare import DataOptions, prepare
from rlrecbench.data.statistics import info, verify
from rlrecbench.errors import DataError, UnknownNameError

SHARED = ["beauty", "yelp", "instruments", "cds_and_vinyl", "video_games", "movies_and_tv"]

# u: a b c d e f, v: a b a a, w: c d a d; times equal the rows.
INTER = "user_id:token\titem_id:token\ttimestamp:float\n" + "".join(
    f"{user}\t{item}\t{time}\n" for user, items in {"u": "abcdef", "v": "abaa", "w": "cdad"}.items()
    for time, item in enumerate(items)
)  # fmt: skip
ITEM = "item_id:token\ttitle:token_seq\n" + "".join(f"{i}\t{t}\n" for i, t in zip("abcdefg", "ABCDEEG", strict=True))


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Make a data folder with the data set mine."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mine.inter").write_text(INTER)
    (tmp_path / "mine" / "mine.item").write_text(ITEM)
    return tmp_path


def computed(about: dict[str, Any]) -> dict[str, float]:
    return {key: figure["computed"] for key, figure in about["statistics"].items()}


def test_statistics_by_hand(mine: Path) -> None:
    about = info("mine", [mine], DataOptions(max_history=3))
    # Training pairs: u a>b, ab>c, abc>d; v a>b; w c>d. Test: u cde>f (cut from 5), v aba>a, w cda>d.
    # f's title is e's. In training histories: titles A, B, C; in training altogether: items a, b, c, d.
    assert computed(about) == {
        "users": 3,
        "items": 7,
        "interactions": 14,
        "mean_length": pytest.approx(14 / 3),
        "min_length": 4,
        "max_length": 6,
        "sparsity": pytest.approx(100 * (1 - 14 / 21)),
        "repeats": 3,
        "users_truncated_at_test": 1,
        "test_targets_repeated": 2,
        "test_targets_just_seen": 1,
        "train_rows": 5,
        "valid_rows": 3,
        "test_rows": 3,
        "mean_train_history": pytest.approx(8 / 5),
        "p50_train_history": 1,
        "p75_train_history": 2,
        "p90_train_history": pytest.approx(2.6),
        "mean_test_history": 3,
        "history_occurrences": 8,
        "distinct_titles": 6,
        "history_titles": 3,
        "items_unseen": 3,
        "valid_targets_unseen": 1,
        "test_targets_unseen": 1,
        "test_titles_unseen_percent": pytest.approx(200 / 3),
        "targets_in_history": 3,
        "test_titles_in_history_percent": 100,
    }
    assert all(figure["match"] is None for figure in about["statistics"].values())
    assert about["settings"] == {"max_history": 3, "last": None}
    assert about["checksum"] == prepare("mine", DataOptions(), [mine]).checksum


def test_last_counts_what_is_left(mine: Path) -> None:
    figures = computed(info("mine", [mine], DataOptions(last=4)))
    assert [figures[key] for key in ("interactions", "max_length", "train_rows")] == [12, 4, 3]


def test_info_is_json(mine: Path) -> None:
    about = info("mine", [mine])
    assert json.loads(json.dumps(about)) == about


@pytest.mark.parametrize("name", ["ml-100k", *SHARED])
def test_the_released_files_hold_and_give_the_published_figures(
    name: str, dirs_of: Callable[[str], list[Path]]
) -> None:
    dirs = dirs_of(name)
    verdicts = {v.file: v for v in verify(name, dirs)}
    published = spec_of(name, dirs).published
    assert {file for file, v in verdicts.items() if not v.ok} == set()
    assert set(verdicts) >= {"content", *published}
    assert len(published) >= 4
    assert name == "ml-100k" or f"{name}/CARD.md" in verdicts


@pytest.mark.parametrize("name", ["cds_and_vinyl", "video_games", "movies_and_tv"])
def test_history_counts_of_each_title_are_the_released_ones(name: str, shared_data: Callable[[str], Path]) -> None:
    root = shared_data(name)
    data = prepare(name, DataOptions(), [root])
    counts = Counter(data.items["title"].iloc[data.train.values].tolist())
    with gzip.open(root / name / f"{name}.title_interaction.json.gz", "rt", encoding="utf-8") as f:
        assert counts == json.load(f)


def test_other_options_are_not_compared(shared_data: Callable[[str], Path]) -> None:
    figures = info("instruments", [shared_data("instruments")], DataOptions(last=5))["statistics"]
    assert figures["interactions"] == {"computed": 5 * 24_772, "published": 206_153, "match": None}


def sums(root: Path, *files: str) -> None:
    lines = [f"{sha256((root / file).read_bytes()).hexdigest()}  {file}\n" for file in files]
    (root / "SHA256SUMS").write_text("".join(lines))


def test_listed_files_are_compared(mine: Path) -> None:
    (mine / "mine" / "CARD.md").write_text("card")
    (mine / "other").mkdir()
    (mine / "other" / "other.inter").write_text("x")
    sums(mine, "mine/mine.inter", "mine/mine.item", "mine/CARD.md", "other/other.inter")
    assert [(v.file, v.ok) for v in verify("mine", [mine])] == [
        ("mine/mine.inter", True),
        ("mine/mine.item", True),
        ("mine/CARD.md", True),
    ]
    (mine / "mine" / "CARD.md").unlink()
    (mine / "mine" / "mine.item").write_text(ITEM.replace("B", "X"))
    verdicts = {v.file: v for v in verify("mine", [mine])}
    assert {file: v.ok for file, v in verdicts.items()} == {
        "mine/mine.inter": True,
        "mine/mine.item": False,
        "mine/CARD.md": False,
    }
    assert verdicts["mine/CARD.md"].detail == "missing"
    assert sha256(ITEM.encode()).hexdigest() in verdicts["mine/mine.item"].detail


def test_a_broken_file_is_a_verdict_and_not_an_error(mine: Path) -> None:
    sums(mine, "mine/mine.inter")
    (mine / "mine" / "mine.inter").write_text(INTER + "u\ta\n")
    verdicts = verify("mine", [mine])
    assert [(v.file, v.ok) for v in verdicts] == [("mine/mine.inter", False), ("mine", False)]
    assert "line 16: found 2 columns" in verdicts[1].detail


def test_nothing_to_compare_with_does_not_hold(mine: Path) -> None:
    (verdict,) = verify("mine", [mine])
    assert not verdict.ok
    assert "nothing to compare with" in verdict.detail


@pytest.mark.parametrize("line", ["abc  mine/mine.inter", "0" * 64 + "mine/mine.inter", "0" * 64])
def test_a_broken_list_of_sums_is_refused(mine: Path, line: str) -> None:
    (mine / "SHA256SUMS").write_text(f"{'0' * 64}  mine/x\n{line}\n")
    with pytest.raises(DataError, match="SHA256SUMS, line 2: expected a sha256, two blanks and a file name"):
        verify("mine", [mine])


def test_a_missing_data_set_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError):
        verify("mine", [tmp_path])
    with pytest.raises(DataError):
        verify("beauty", [tmp_path])


def test_decompressed_copies_are_compared_by_content(tmp_path: Path, shared_data: Callable[[str], Path]) -> None:
    root = shared_data("instruments")
    shutil.copytree(root / "instruments", tmp_path / "instruments")
    shutil.copy(root / "SHA256SUMS", tmp_path)
    for file in (tmp_path / "instruments").glob("*.gz"):
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    verdicts = {v.file: v for v in verify("instruments", [tmp_path])}
    assert verdicts["content"].ok
    assert verdicts["instruments/instruments.inter.gz"].ok
    assert not verdicts["instruments/instruments.letter_index.json.gz"].ok
    inter = tmp_path / "instruments" / "instruments.inter"
    inter.write_text(inter.read_text().replace("\n0\t0\t0\n0\t1\t1\n", "\n0\t1\t0\n0\t0\t1\n"))
    verdicts = {v.file: v for v in verify("instruments", [tmp_path])}
    assert not verdicts["content"].ok
    assert not verdicts["instruments/instruments.inter.gz"].ok
    assert verdicts["users"].ok


def test_the_users_own_folders_are_searched(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLRECBENCH_DATA", str(mine))
    assert computed(info("mine", data_dirs()))["users"] == 3
