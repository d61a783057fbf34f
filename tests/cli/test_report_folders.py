"""``report`` of several results folders: one after another, and a folder for each under --out."""

import shutil
from pathlib import Path

import pytest

from rlrecbench.cli import _main


@pytest.fixture
def other(toys: Path) -> Path:
    return Path(shutil.copytree(toys, toys.parent / "other"))


def test_tables_come_one_after_another(toys: Path, other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _main(["report", str(toys)]) == 0
    alone = capsys.readouterr().out
    assert _main(["report", str(toys), str(other)]) == 0
    assert capsys.readouterr().out == alone * 2


def test_each_has_a_folder_under_out(toys: Path, other: Path, tmp_path: Path) -> None:
    assert _main(["report", str(toys), str(other), "--out", str(tmp_path / "out")]) == 0
    assert [p.relative_to(tmp_path / "out").as_posix() for p in sorted((tmp_path / "out").rglob("*.md"))] == [
        "other/leaderboard.md",
        "toys/leaderboard.md",
    ]
    assert _main(["report", str(toys), "--out", str(tmp_path / "one")]) == 0
    assert (tmp_path / "one/leaderboard.md").is_file()


def test_two_of_one_name_would_overwrite_each_other(
    toys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twin = shutil.copytree(toys, tmp_path / "twin/toys")
    assert _main(["report", str(toys), str(twin), "--out", str(tmp_path / "out")]) == 2
    assert "two of the folders are called toys" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
