"""Records in a results folder: whose folder it is, and what becomes of records that were made with other settings."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rlrecbench.errors import StoreError
from rlrecbench.execute.export import claim, export, is_exported, set_stale_aside
from rlrecbench.store import Store
from rlrecbench.suite import Cell


@dataclass
class World:
    """One cell of a results folder, whose settings are a letter."""

    results: Path

    def cell(self, key: str) -> Cell:
        """The cell with these settings."""
        made = SimpleNamespace(name="d/b/m/seed-1", score=SimpleNamespace(key=key, name="score"))
        made.score.rank = SimpleNamespace(train=None)
        made.folder = cast(Callable[[Path], Path], lambda results: results / "cells/d/b/m/seed-1")
        return cast(Cell, made)

    def write(self, key: str, folder: str = "seed-1") -> None:
        """Put a record there that was made with these settings."""
        path = self.results / "cells/d/b/m" / folder
        path.mkdir(parents=True, exist_ok=True)
        (path / "metrics.json").write_text(json.dumps({"provenance": {"key": key}}))

    def held(self) -> dict[str, Any]:
        """The settings of the records that are there, by folder."""
        found = self.results.glob("cells/d/b/m/*/metrics.json")
        return {p.parent.name: json.loads(p.read_text())["provenance"]["key"] for p in found}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_record_of_other_settings_is_kept_until_it_is_replaced_and_comes_back_when_wanted(world: World) -> None:
    world.write("A")
    set_stale_aside([world.cell("A")], world.results)
    assert world.held() == {"seed-1": "A"}
    set_stale_aside([world.cell("B")], world.results)  # a trial run that ends before it has computed anything
    assert world.held() == {".seed-1": "A"}
    assert not is_exported(world.cell("B"), world.results)
    set_stale_aside([world.cell("C")], world.results)  # another one
    assert world.held() == {".seed-1": "A"}
    set_stale_aside([world.cell("A")], world.results)
    assert world.held() == {"seed-1": "A"}
    assert is_exported(world.cell("A"), world.results)


def test_of_two_records_the_one_that_is_wanted_stays(world: World) -> None:
    """Killed between writing the new record and removing the old one."""
    world.write("A", ".seed-1")
    world.write("B")
    set_stale_aside([world.cell("B")], world.results)
    assert world.held() == {"seed-1": "B", ".seed-1": "A"}
    set_stale_aside([world.cell("A")], world.results)
    assert world.held() == {"seed-1": "A"}
    world.write("B")
    world.write("A", ".seed-1")
    set_stale_aside([world.cell("C")], world.results)
    assert world.held() == {".seed-1": "B"}


def test_a_record_that_another_run_has_written_meanwhile_is_left_alone(world: World) -> None:
    """That run may be reading it."""
    cell = world.cell("A")
    world.write("A")
    before = (cell.folder(world.results) / "metrics.json").stat()
    export(cell, world.results, Store(world.results / "store"))
    assert (cell.folder(world.results) / "metrics.json").stat() == before


def test_what_a_run_leaves_when_it_is_killed_at_its_first_write_keeps_nobody_out(tmp_path: Path) -> None:
    (tmp_path / ".suite.json.4711").write_text("{")
    (tmp_path / "store").mkdir()
    claim(tmp_path, "mine", {"name": "mine"}, {})
    claim(tmp_path, "mine", {"name": "mine"}, {})
    with pytest.raises(StoreError, match="holds the results of suite 'mine', not 'other'"):
        claim(tmp_path, "other", {"name": "other"}, {})


def test_a_folder_with_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(StoreError, match="is not a results folder and is not empty"):
        claim(tmp_path, "mine", {"name": "mine"}, {})
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
