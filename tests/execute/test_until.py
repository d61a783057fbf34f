"""A run that ends with an earlier kind of stage."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rlrecbench.execute.runner import Options, plan, run

SUITE = """
name: early
datasets: [ml-100k: {last: 6, max_history: 4}]
backbones:
  - tiger: {preset: tiny, ids: {kind: rkmeans, levels: 2, codes: 8, dim: 8}}
  - tiger: {as: other, preset: tiny, ids: {kind: rqvae, epochs: 2, evaluate: 1, levels: 2, codes: 8, dim: 8, LATENT}}
methods: [sft, most-popular]
"""


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("RLRECBENCH_STORE", str(tmp_path / "store"))
    path = tmp_path / "early.yaml"
    path.write_text(SUITE.replace("LATENT", "latent: 4"))
    return str(path)


def options(tmp_path: Path) -> Options:
    return Options(results=tmp_path / "results", device="cpu", workers=1, quiet=True, until="identify")


def test_identifiers_are_made_shown_and_not_trained_on(suite: str, tmp_path: Path) -> None:
    done = run(suite, options(tmp_path))
    assert (done.failures, done.results) == ({}, None)
    made = sorted(p.parent.parent.name for p in (tmp_path / "store").glob("*/*/stage.json"))
    assert made == ["embed", "identify", "identify", "prepare"]
    assert done.written == [tmp_path / "results" / "identifiers" / "ml-100k.png"]
    assert run(suite, options(tmp_path)).computed == 0


def test_trainings_end_with_what_they_reached_on_validation_and_nothing_is_ranked(suite: str, tmp_path: Path) -> None:
    Path(suite).write_text(Path(suite).read_text() + "train: {epochs: 1, max_steps: 2, eval_examples: 20}\n")
    done = run(suite, replace(options(tmp_path), until="train", only=("backbone=tiger,none",)))
    assert (done.failures, done.results) == ({}, None)
    [table] = done.tables
    cells, best, at, of, _ = ([*column.cells] for column in table.columns)
    assert cells == ["ml-100k/tiger/sft seed 42"]
    assert (at, of) == (["2"], ["2"])
    [cost] = (json.loads(p.read_text()) for p in (tmp_path / "store").glob("train/*/cost.json"))
    assert best == [f"ndcg@10 {cost['valid_ndcg10']:.4f}"]
    assert not list((tmp_path / "store").glob("rank/*"))


def test_a_plan_ends_where_the_run_does(suite: str, tmp_path: Path) -> None:
    planned = plan(suite, options(tmp_path))
    assert [s.name for s in planned.ends(planned.cells)] == ["identify", "identify"]


def test_a_failure_is_that_of_the_cells_that_need_the_stage(suite: str, tmp_path: Path) -> None:
    path = Path(suite)
    path.write_text(path.read_text().replace("latent: 4", "latent: 4, lr: 1.0e+30"))
    done = run(suite, options(tmp_path))
    assert list(done.failures) == ["ml-100k/other/sft seed 42"]
    assert "lower ids.lr" in done.failures["ml-100k/other/sft seed 42"].reason
