"""What ``compare`` and ``inspect`` print of the small folder; golden files are rewritten with UPDATE_GOLDEN=1."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from rlrecbench.cli.compare import compare
from rlrecbench.cli.inspect import inspect

GOLDEN = Path(__file__).parents[1] / "golden"
TWO_ROWS = ("dpo", "sft", "--by", "group,history")


def golden(name: str, text: str) -> str:
    if os.environ.get("UPDATE_GOLDEN"):
        (GOLDEN / name).write_text(text, encoding="utf-8")
    return (GOLDEN / name).read_text(encoding="utf-8")


def output(command: click.Command, folder: Path, *arguments: str) -> str:
    """Standard output, without blanks at the ends of lines and without the place of the folders."""
    done = CliRunner().invoke(command, [str(folder), *arguments])
    assert done.exit_code == 0, done.exception
    text = "\n".join(line.rstrip() for line in done.output.splitlines()) + "\n"
    return text.replace(str(folder.parent), "results")


def same_json(name: str, text: str) -> None:
    """Numbers to 1e-9: the last digit of a mean is the processor's."""
    expected = json.loads(
        golden(name, text), parse_float=lambda number: pytest.approx(float(number), rel=1e-9, abs=1e-15)
    )
    assert json.loads(text) == expected


def test_two_rows(toys: Path) -> None:
    text = output(compare, toys, *TWO_ROWS)
    assert text == golden("compare.txt", text)


def test_two_rows_as_json(toys: Path) -> None:
    same_json("compare.json", output(compare, toys, *TWO_ROWS, "--json"))


def test_two_folders(toys: Path, other: Path, cell: Callable[..., Path]) -> None:
    cell(other, "tiger", "sft", 43, like=("dpo", 43))
    shutil.rmtree(other / "cells/toy/none/most-popular/seed-44")
    text = output(compare, toys, str(other))
    assert text == golden("compare-folders.txt", text)


def test_one_user(toys: Path) -> None:
    text = output(inspect, toys, "--user", "u5", "--seed", "43", "--k", "10")
    assert text == golden("inspect.txt", text)


def test_one_user_as_json(toys: Path) -> None:
    same_json("inspect.json", output(inspect, toys, "--user", "u5", "--seed", "43", "--k", "3", "--json"))
