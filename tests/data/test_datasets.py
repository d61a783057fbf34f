"""Finding data sets, and their identity."""

import gzip
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from rlrecbench.data.datasets import checksum, commands_for, data_dirs, datasets, locate, source_names, spec_of
from rlrecbench.errors import DataError, UnknownNameError

NAMES = ["beauty", "cds_and_vinyl", "instruments", "ml-100k", "movies_and_tv", "video_games", "yelp"]


def test_the_registered_names_protocols_and_histories() -> None:
    assert {entry.name for entry in datasets} >= set(NAMES)
    specs = {name: spec_of(name, []) for name in NAMES}
    assert all(specs[name].name == name for name in NAMES)
    released = {"cds_and_vinyl", "video_games", "movies_and_tv"}
    assert {name for name in NAMES if specs[name].protocol == "examples"} == released
    assert {specs[name].max_history for name in released} == {10}
    assert {specs[name].max_history for name in set(NAMES) - released} == {20}


def test_every_entry_has_a_summary_and_its_own_origin() -> None:
    entries = [datasets.entry(name) for name in NAMES]
    assert all(entry.summary.endswith(".") and entry.cite for entry in entries)
    origins = [entry.origin.rpartition(":") for entry in entries]
    assert {Path(file).name for file, _, _ in origins} == {"datasets.py"}
    assert len({line for _, _, line in origins}) == len(NAMES)


def test_a_wrong_name_gets_a_proposal_and_the_folders_looked_at(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError) as caught:
        spec_of("beuty", [tmp_path, tmp_path / "none"])
    message = str(caught.value)
    assert "did you mean 'beauty'?" in message
    assert f"looked in {tmp_path}, {tmp_path / 'none'} (no such folder)" in message


def test_a_folder_with_interactions_is_a_data_set(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    with pytest.raises(UnknownNameError):
        spec_of("mine", [tmp_path])
    (folder / "mine.inter").write_text("user_id:token\n")
    spec = spec_of("mine", [tmp_path])
    assert (spec.name, spec.protocol, spec.max_history, dict(spec.published)) == (
        "mine",
        "leave-one-out",
        20,
        {},
    )
    assert locate("mine", [tmp_path / "other", tmp_path]) == folder


@pytest.mark.parametrize("name", ["../mine", "..", "a/b", "", ".hidden", "x" * 400])
def test_a_name_that_could_leave_the_data_folder_is_never_looked_up(tmp_path: Path, name: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mine.inter").write_text("user_id:token\n")
    with pytest.raises(UnknownNameError):
        locate(name, [tmp_path / "mine", tmp_path])


def test_the_order_of_data_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLRECBENCH_DATA", os.pathsep.join(["one", "", "two"]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tail = [Path("data"), tmp_path / "rlrecbench" / "data"]
    assert data_dirs(Path("given")) == [Path("given"), Path("one"), Path("two"), *tail]
    monkeypatch.delenv("RLRECBENCH_DATA")
    assert data_dirs() == tail
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_dirs()[-1] == tmp_path / ".cache" / "rlrecbench" / "data"


def test_the_first_folder_that_has_the_files_wins(tmp_path: Path) -> None:
    for place in ("a", "b", "c"):
        (tmp_path / place / "beauty").mkdir(parents=True)
    (tmp_path / "b" / "beauty" / "beauty.inter.gz").touch()
    (tmp_path / "c" / "beauty" / "beauty.inter").touch()
    assert locate("beauty", [tmp_path / p for p in "abc"]) == tmp_path / "b" / "beauty"


def test_a_missing_data_set_says_where_it_was_sought_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        locate("video_games", [tmp_path, tmp_path / "none"])
    message = str(caught.value)
    for part in (
        f"{tmp_path}, {tmp_path / 'none'} (no such folder)",
        "video_games.train.inter, video_games.valid.inter, video_games.test.inter, video_games.item",
        "--data-dir",
        "RLRECBENCH_DATA",
        "Flower on GitHub",
        "run 'rlrecbench data download video_games && rlrecbench data prepare video_games', put",
    ):
        assert part in message


def test_the_commands_that_bring_a_data_set_can_be_carried_out() -> None:
    """Yelp's raw files have no address, so its authors' files are taken; nothing can be downloaded of ml-100k."""
    assert commands_for(spec_of("ml-100k", [])) == ""
    for name in set(NAMES) - {"ml-100k"}:
        flag = " --released" if name == "yelp" else ""
        commands = f"rlrecbench data download {name}{flag} && rlrecbench data prepare {name}{flag}"
        assert commands_for(spec_of(name, [])) == commands


def test_ml_100k_is_found_without_importing_recbole(dirs_of: Callable[[str], list[Path]]) -> None:
    assert dirs_of("ml-100k") == []
    code = (
        "import sys; from rlrecbench.data.datasets import locate; "
        "print((locate('ml-100k', []) / 'ml-100k.inter').is_file()); "
        "print('recbole' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "False"]


def test_ml_100k_without_recbole_says_how_to_add_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="recbole package, which is not installed; add it with 'uv sync'"):
        locate("ml-100k", [])


def test_the_checksum_is_that_of_the_decompressed_files(tmp_path: Path) -> None:
    inter, item = b"user_id:token\n", b"item_id:token\n1\n"
    plain, zipped = tmp_path / "a" / "mine", tmp_path / "b" / "mine"
    for folder in (plain, zipped):
        folder.mkdir(parents=True)
    (plain / "mine.inter").write_bytes(inter)
    (plain / "mine.item").write_bytes(item)
    (zipped / "mine.inter.gz").write_bytes(gzip.compress(inter, 1))
    (zipped / "mine.item.gz").write_bytes(gzip.compress(item, 9))
    lines = f"{sha256(inter).hexdigest()}  mine.inter\n{sha256(item).hexdigest()}  mine.item\n"
    assert checksum("mine", plain) == checksum("mine", zipped) == sha256(lines.encode()).hexdigest()
    (plain / "mine.user").touch()
    assert checksum("mine", plain) == checksum("mine", zipped)
    (zipped / "mine.item.gz").unlink()
    assert checksum("mine", zipped) != checksum("mine", plain)


def test_the_files_of_each_protocol() -> None:
    assert source_names(spec_of("yelp", [])) == ["yelp.inter", "yelp.item"]
    names = [f"movies_and_tv.{part}" for part in ("train.inter", "valid.inter", "test.inter", "item")]
    assert source_names(spec_of("movies_and_tv", [])) == names
