"""The README of a results folder: golden text, and what of a user's own text stays."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlrecbench import results
from rlrecbench.execute.readme import BEGIN, END, Facts, command, gather, text, write_readme
from rlrecbench.execute.runner import Options

GOLDEN = Path(__file__).parents[1] / "golden" / "results-readme.md"
FACTS = Facts(
    suite="toys",
    folder="results/toys",
    command="rlrecbench run toys --set 'seeds=[42, 43]' --workers 2",
    commits=("0123abc", "4567def+changes"),
    versions={"python": "3.11.7", "torch": "2.15.0"},
    machine="2 cores, 8 GiB memory, Linux x86_64",
    devices=("cpu (x86_64)",),
    started="2026-01-02 03:04 UTC",
    finished="2026-01-02 05:06 UTC",
    compute_s=7384.0,
    cells=4,
    done=3,
    seeds=(42, 43),
    failed={"toy/tiger/dpo seed 43": "out of memory"},
    files=("leaderboard.md", "data", "cells"),
)


def test_golden() -> None:
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(text(FACTS), encoding="utf-8")
    assert text(FACTS) == GOLDEN.read_text(encoding="utf-8")


def test_nothing_done_yet() -> None:
    found = text(
        replace(FACTS, commits=(), versions={}, devices=(), started=None, finished=None, compute_s=0.0, done=0)
    )
    assert "0 of 4 cells are done" in found
    assert "unknown: not run from a checkout" in found
    assert "| started | not yet |" in found


def write_record(root: Path, method: str, seed: int, **provenance: Any) -> None:
    folder = root / "cells" / "toy" / "tiger" / method / f"seed-{seed}"
    folder.mkdir(parents=True)
    known = {"fingerprint": "f", "commit": "abc", "device": "cpu (x86_64)", "date": f"2026-01-02T04:0{seed}:00+00:00"}
    record = {"schema": 1, "metrics": {"ndcg@10": 0.5}, "provenance": known | provenance}
    (folder / "metrics.json").write_text(json.dumps(record))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two records that share a stage of an hour."""
    root = tmp_path / "toys"
    root.mkdir()
    names = {"datasets": ["toy"], "backbones": ["tiger"], "methods": ["sft", "dpo"]}
    entries = {kind: [{"name": n, "label": n} for n in labels] for kind, labels in names.items()}
    (root / "suite.json").write_text(json.dumps({"name": "toys", "seeds": [1, 2], "metrics": ["ndcg@10"], **entries}))
    shared = {"train/aa": {"wall_s": 3600.0, "date": "2026-01-02T03:00:00+00:00"}}
    for method, end in (("sft", "04:00:30"), ("dpo", "05:00:00")):
        stages = shared | {f"rank/{method}": {"wall_s": 30.0, "date": f"2026-01-02T{end}+00:00"}}
        write_record(root, method, 1, stages=stages, versions={"torch": "2.15.0"})
    return root


def test_facts_come_from_the_records(folder: Path) -> None:
    failed = {"toy/tiger/dpo seed 2": "cannot read /home/someone/data/x.inter: broken\nTraceback"}
    facts = gather(folder, results.load(folder), "toys", Options(), 4, failed)
    assert (facts.started, facts.finished) == ("2026-01-02 02:00 UTC", "2026-01-02 05:00 UTC")
    assert facts.compute_s == 3660
    assert (facts.cells, facts.done, facts.seeds) == (4, 2, (1,))
    assert (facts.commits, facts.devices, facts.versions) == (("abc",), ("cpu (x86_64)",), {"torch": "2.15.0"})
    assert facts.failed == {"toy/tiger/dpo seed 2": "cannot read x.inter: broken"}
    assert facts.files == ("cells", "suite.json")
    assert str(folder.parent) not in text(facts)


def test_what_a_user_writes_stays(folder: Path) -> None:
    found = results.load(folder)
    path = write_readme(folder, found, "toys", Options(), 4, {})
    first = path.read_text(encoding="utf-8")
    path.write_text(f"# Mine\n\n{first}\nMy remarks.\n", encoding="utf-8")
    write_readme(folder, found, "toys", Options(workers=3), 4, {})
    again = path.read_text(encoding="utf-8")
    assert again.startswith("# Mine\n\n" + BEGIN)
    assert again.endswith(END + "\n\nMy remarks.\n")
    assert "--workers 3" in again
    assert "--workers 3" not in first
    before = path.stat().st_mtime_ns
    write_readme(folder, found, "toys", Options(workers=3), 4, {})
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("own", ["Mine alone.\n", f"{BEGIN}\nthe end is gone\n", f"{END}\n{BEGIN}\n"])
def test_a_readme_without_both_markers_is_not_touched(folder: Path, own: str) -> None:
    (folder / "README.md").write_text(own, encoding="utf-8")
    write_readme(folder, results.load(folder), "toys", Options(), 4, {})
    assert (folder / "README.md").read_text(encoding="utf-8") == own


def test_without_any_record(tmp_path: Path) -> None:
    path = write_readme(tmp_path, None, "suites/toys.yaml", Options(), 4, {"toy/tiger/sft seed 1": "out of memory"})
    assert "- toy/tiger/sft seed 1: out of memory" in path.read_text(encoding="utf-8")


def test_the_command_is_reconstructed_without_absolute_paths() -> None:
    options = Options(
        results=Path("/a/b/out"),
        data_dir=Path("data"),
        sets=("seeds=[42, 43]", "backbones.bigrec-qwen.model=/models/qwen"),
        only=("method=sft,dpo",),
        workers=2,
        track=("tensorboard", "wandb"),
        ray="local",
        device="cpu",
        policy="always",
        limit_users=100,
        until="train",
        stop_on_error=True,
        quiet=True,
    )
    assert command("/home/x/toys.yaml", options) == (
        "rlrecbench run toys.yaml --results out --data-dir data --set 'seeds=[42, 43]' --set "
        "backbones.bigrec-qwen.model=qwen --only method=sft,dpo --workers 2 --limit-users 100 --track "
        "tensorboard --track wandb --ray local --device cpu --policy always --until train --stop-on-error --quiet"
    )
    assert command("quickstart", Options()) == "rlrecbench run quickstart"
