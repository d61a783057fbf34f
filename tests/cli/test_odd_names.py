"""Folders whose names look like markup or like numbers are shown and refused like all others."""

from pathlib import Path

import pytest

from rlrecbench.cli import _main


def test_a_name_in_brackets_is_shown_as_it_is(toys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = toys.rename(toys.parent / "a[bold]x[")
    (odd / "plan.json").write_text('{"store": "s", "cells": []}')
    assert _main(["status", str(odd)]) == 0
    assert "a[bold]x[" in "".join(capsys.readouterr().out.split())


def test_a_seed_of_a_digit_that_is_no_number_is_refused(toys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = next(p for p in sorted(toys.rglob("seed-*")) if p.is_dir())
    seed.rename(seed.with_name("seed-²"))
    assert _main(["report", str(toys)]) == 2
    assert "must be seed-<number>" in capsys.readouterr().err


def test_a_folder_is_no_suite_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _main(["validate", str(tmp_path)]) == 2
    assert "is a folder, not a suite file" in capsys.readouterr().err
