"""A language model over titles from the suite to the table, as a user meets it."""

import json
from pathlib import Path

import pandas as pd
import pytest

from rlrecbench.cli import _main

SUITE = """
name: titles
seeds: [1]
datasets:
  - ml-100k: {last: 8, max_history: 3}
backbones:
  - bigrec-qwen: {model: MODEL, vocab: 1024}
methods:
  - sft
  - temp: {temperature: 2.0}
  - d3: {alpha: 0.5}
  - ifairlrs
  - flower: {reward: frequency, lam: 0.1}
  - s-dpo: {start: flower, max_steps: 2}
  - bigrec-grounding
train: {epochs: 1, batch_size: 64, lr: 3e-3, max_steps: 6, eval_examples: 20}
rank: {beams: 10, length_penalty: 1}
collab: {layers: 1, heads: 1, hidden: 16, inner: 16, epochs: 1, valid_rows: 50}
stats: {baseline: sft}
"""


def _run(folder: Path, capsys: pytest.CaptureFixture[str], model: str = "tiny") -> tuple[int, str]:
    (folder / "x.yaml").write_text(SUITE.replace("MODEL", model))
    status = _main(["run", str(folder / "x.yaml"), "--results", str(folder / "r"), "--limit-users", "40"])
    return status, capsys.readouterr().err


def test_every_row_of_the_title_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, said = _run(tmp_path, capsys)
    assert status == 0, said
    cells = tmp_path / "r" / "cells" / "ml-100k" / "bigrec-qwen"
    rows = ["bigrec-grounding", "d3", "flower", "ifairlrs", "s-dpo", "sft", "temp"]
    assert sorted(p.name for p in cells.iterdir()) == rows
    lists = {name: pd.read_parquet(cells / name / "seed-1" / "ranked.parquet") for name in rows}
    assert all(len(table) == 40 * 10 for table in lists.values())
    assert not lists["sft"]["score"].equals(lists["temp"]["score"])
    assert not lists["sft"]["item_id"].equals(lists["d3"]["item_id"])
    about = json.loads((tmp_path / "r" / "identifiers" / "ml-100k" / "bigrec-qwen" / "titles.json").read_text())
    assert about["noun"] == "movies"
    assert about["prompts"]["test"]["truncated"] == 0
    status, said = _run(tmp_path, capsys)
    assert status == 0
    assert "nothing" in said.lower()


def test_model_that_is_nowhere_stops_the_run_before_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    status, said = _run(tmp_path, capsys, "nobody/no-such-model")
    assert status == 2
    assert "nobody/no-such-model: this is no folder, is not in the cache" in " ".join(said.split())
    assert "hf download nobody/no-such-model" in " ".join(said.split())
    assert not (tmp_path / "r").exists()
