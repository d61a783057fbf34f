"""Damage in the store and in results as a user meets it: the next run says so, mends it and repeats nothing else."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from .runs import ONE, Run, computed
from .test_damage import empty, flip, halve


@pytest.fixture
def run(tmp_path: Path, finished: Run) -> Run:
    """A copy of the finished run."""
    shutil.copytree(finished.folder, tmp_path, dirs_exist_ok=True)
    return Run(tmp_path, *ONE)


def test_damaged_results_are_exported_again_and_damaged_stages_computed_again(run: Run, finished: Run) -> None:
    """Of sft the exported lists and the weights, of most-popular the record: the weights alone are computed again."""
    sft, popular = (run.results / "cells/ml-100k" / name / "seed-1" for name in ("tiger/sft", "none/most-popular"))
    (weights,) = run.store.glob("train/*/model.safetensors")
    flip(sft / "users.parquet")
    flip(weights)
    record = popular / "metrics.json"
    record.write_text(record.read_text().replace('"recall@5": 0.', '"recall@5": 1.'))
    assert run.finish() == 0, run.said()
    said = run.said()
    for path in (sft / "users.parquet", weights, record):
        assert f"{path.relative_to(run.folder)}: damaged, expected sha256" in said.replace(f"{run.folder}/", "")
    assert computed(said) == 1
    assert run.contents() == finished.contents()
    assert [p.name for p in weights.parent.parent.glob("*.broken-*")] == [f"{weights.parent.name}.broken-1"]
    log = weights.parent.with_suffix(".log").read_text()
    assert f"{weights}: damaged, expected sha256" in log
    assert f"kept as {weights.parent.name}.broken-1" in log
    assert run.finish() == 0
    assert "damaged" not in run.said()
    assert "nothing to compute" in run.said()


def unframe(path: Path) -> None:
    """Spoil the length of a parquet file's footer, which stands before its last four bytes."""
    data = bytearray(path.read_bytes())
    data[-8:-4] = b"\xff\xff\xff\x7f"
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("harm", [empty, halve, unframe])
def test_report_names_a_damaged_table_in_a_sentence(run: Run, harm: Callable[[Path], None]) -> None:
    path = run.results / "cells/ml-100k/tiger/sft/seed-1/users.parquet"
    harm(path)
    done = run.call("report", "results/small")
    assert done.returncode == 2, done.stderr
    assert str(path.relative_to(run.folder)) in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
