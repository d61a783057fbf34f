"""Damaged files of the store and of checkpoints: found by their hash, kept aside, computed again, and said so."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from rlrecbench import checkpoint, store
from rlrecbench.errors import StoreError
from rlrecbench.store import Report, Stage, Store, stage


@stage
@dataclass(frozen=True)
class Word(Stage):
    """Write a word twice, once in a folder."""

    name: ClassVar[str] = "test-word"
    resumable: ClassVar[bool] = True

    word: str
    parent: "Word | None" = None

    def run(self, folder: Path, store: Store, report: Report) -> None:
        """Write; the parent's word comes first."""
        before = (store.path(self.parent) / "word").read_text() if self.parent else ""
        (folder / "word").write_text(before + self.word)
        (folder / "deep").mkdir(exist_ok=True)
        (folder / "deep" / "word").write_text(self.word)


def flip(path: Path) -> None:
    """Turn one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def halve(path: Path) -> None:
    """Cut a file in the middle."""
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    """Leave a file of no bytes, as a power cut can."""
    os.truncate(path, 0)


def another(path: Path) -> None:
    """Put another stage's record in place."""
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "fields": {"word": "other", "parent": None}}))


def odd(path: Path) -> None:
    """Put JSON of another shape in place."""
    path.write_text("[1, 2]")


@pytest.fixture
def shelf(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.mark.parametrize("name", ["word", "deep/word"])
@pytest.mark.parametrize("harm", [flip, halve, empty, Path.unlink])
def test_a_damaged_file_is_named_kept_and_computed_again(
    shelf: Store, name: str, harm: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """sha256("hello") begins with 2cf24dba, that of no bytes with e3b0c442."""
    parent = Word("hello")
    child = Word(" world", parent)
    assert shelf.ensure(parent)
    assert shelf.ensure(child)
    before = (shelf.path(child) / "stage.json").read_bytes()
    harm(shelf.path(parent) / name)
    assert not shelf.intact(parent)
    said = capsys.readouterr().err
    assert f"{shelf.path(parent) / name}: damaged, expected sha256 2cf24dba5fb0a30e, found" in said
    assert {empty: "e3b0c44298fc1c14 (0 bytes)", Path.unlink: "No such file"}.get(harm, "") in said
    assert said.count("\n") == 1
    assert shelf.ensure(parent)
    assert shelf.intact(parent)
    assert (shelf.path(parent) / name).read_text() == "hello"
    kept = shelf.path(parent).with_suffix(".broken-1")
    assert kept.is_dir()
    assert kept.name in capsys.readouterr().err
    assert shelf.intact(child)
    assert not shelf.ensure(child)
    assert (shelf.path(child) / "stage.json").read_bytes() == before


@pytest.mark.parametrize("harm", [flip, halve, empty, another, odd, Path.unlink])
def test_a_damaged_record_of_a_stage_is_found_too(
    shelf: Store, harm: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    shelf.ensure(Word("hello"))
    path = shelf.path(Word("hello")) / "stage.json"
    if harm is flip:  # in the identity: a bit of a date is not protected
        path.write_text(path.read_text().replace('"word": "hello"', '"word": "hellp"'))
    else:
        harm(path)
    assert shelf.ensure(Word("hello"))
    assert f"{path}: damaged, expected the record of" in capsys.readouterr().err
    assert shelf.intact(Word("hello"))


def test_only_the_newest_damaged_folder_is_kept(shelf: Store) -> None:
    for _ in range(3):
        shelf.ensure(Word("hello"))
        flip(shelf.path(Word("hello")) / "word")
    shelf.ensure(Word("hello"))
    kept = shelf.path(Word("hello")).parent.glob("*.broken-*")
    assert [p.suffix for p in kept] == [".broken-3"]


def test_files_that_are_not_listed_are_left_alone(shelf: Store) -> None:
    """What a file manager or an editor leaves in a folder costs no training."""
    shelf.ensure(Word("hello"))
    (shelf.path(Word("hello")) / ".DS_Store").write_text("")
    (shelf.path(Word("hello")) / "copy").mkdir()
    (shelf.root / "test-word" / "notes").mkdir()
    assert not shelf.ensure(Word("hello"))


def test_a_file_in_the_place_of_a_stage_is_set_aside(shelf: Store) -> None:
    path = shelf.path(Word("hello"))
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    assert shelf.ensure(Word("hello"))
    assert path.with_suffix(".broken-1").read_text() == "mine"


def test_a_folder_half_on_the_disk_before_its_rename_is_not_published(shelf: Store) -> None:
    """Power fails between the record and the rename, and of a file of the work folder no bytes had been written."""
    shelf.ensure(Word("hello"))
    shelf.path(Word("hello")).rename(shelf.work(Word("hello")))
    empty(shelf.work(Word("hello")) / "word")
    assert shelf.ensure(Word("hello"))
    assert (shelf.path(Word("hello")) / "word").read_text() == "hello"


def test_a_folder_whole_before_its_rename_is_published_as_it_is(shelf: Store) -> None:
    shelf.ensure(Word("hello"))
    record = (shelf.path(Word("hello")) / "stage.json").read_bytes()
    shelf.path(Word("hello")).rename(shelf.work(Word("hello")))
    assert shelf.ensure(Word("hello"))
    assert (shelf.path(Word("hello")) / "stage.json").read_bytes() == record


def test_nothing_is_hashed_twice_in_a_process(shelf: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.ensure(Word("hello"))
    read: list[str] = []
    monkeypatch.setattr(store, "file_digest", lambda f, kind: read.append(f.name))
    assert shelf.intact(Word("hello"))
    assert Store(shelf.root).intact(Word("hello"))
    assert read == []
    shutil.copyfile(shelf.path(Word("hello")) / "word", shelf.root / "new")
    with pytest.raises(AttributeError):  # the file is new, so it is read; what stands in for hashing gives no hash
        store.sha256_of(shelf.root / "new")
    assert read == [str(shelf.root / "new")]


def saved(folder: Path) -> Path:
    """A checkpoint of two files."""
    tensors = {"model": {"w": torch.arange(64.0), "n": torch.tensor(3)}, "best": {"w": torch.ones(2).bfloat16()}}
    checkpoint.save(folder, 7, tensors, {"note": "at seven"})
    return folder / "checkpoint-7"


def test_a_whole_checkpoint_comes_back(tmp_path: Path) -> None:
    saved(tmp_path)
    found = checkpoint.load(tmp_path)
    assert found is not None
    assert found.record == {"note": "at seven", "step": 7}
    assert torch.equal(found.tensors["model"]["w"], torch.arange(64.0))
    assert found.tensors["model"]["n"].shape == ()
    assert found.tensors["best"]["w"].dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["model.safetensors", "best.safetensors", "progress.json"])
@pytest.mark.parametrize("harm", [flip, halve, empty, odd, Path.unlink])
def test_a_damaged_checkpoint_is_no_checkpoint(
    tmp_path: Path, name: str, harm: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """A bit turned among the values of a tensor is still a valid file of tensors; only its hash tells."""
    path = saved(tmp_path) / name
    if harm is flip and path.suffix == ".safetensors":
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(bytes(data))
    else:
        harm(path)
    assert checkpoint.load(tmp_path) is None
    said = capsys.readouterr().err
    assert "checkpoint-7: damaged (" in said
    assert "begins anew" in said
    assert checkpoint.load(tmp_path) is None
    assert capsys.readouterr().err == ""
    saved(tmp_path)
    assert checkpoint.load(tmp_path) is not None


def test_damaged_draws_take_the_checkpoints_with_them(tmp_path: Path) -> None:
    """What was drawn by weights of the past cannot be drawn again later, so the training begins anew."""
    saved(tmp_path)
    draws = tmp_path / "draws-0.safetensors"
    checkpoint.write(draws, {"items": torch.arange(6)})
    assert torch.equal(checkpoint.read(draws)["items"], torch.arange(6))
    halve(draws)
    with pytest.raises(StoreError, match=r"draws-0.safetensors: damaged .*run the suite again"):
        checkpoint.read(draws)
    assert checkpoint.load(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
