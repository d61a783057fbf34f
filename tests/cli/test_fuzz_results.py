"""Results folders with damaged files: every command that reads them answers with one sentence, never a traceback."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlrecbench.cli import _main

COMMANDS = [
    ["report", "toys", "--format", "md", "--format", "json", "--out", "out"],
    ["report", "toys", "--format", "html", "--out", "out"],
    ["compare", "toys", "sft", "dpo", "--by", "group,history"],
    ["inspect", "toys", "--user", "u0", "--k", "4"],
    ["status", "toys"],
]
WHOLE: list[Any] = [
    b"", b"\n", b"null", b"[]", b"{}", b'"x"', b"[1, 2]", b"{", b"\xff\xfe", b"\x00" * 40, b"[" * 200_000, b"NaN",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, -1, 0, 1e308, float("nan"), 10**400, "", "x", "../x", "\ud800", [], {}, [[]], [1], ["x"], {"x": 1},
]  # fmt: skip


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from places(tree[key])


@st.composite
def damaged(draw: st.DrawFn, content: bytes, suffix: str) -> bytes | None:
    """What a file holds afterwards; None: it is gone."""
    kinds = ["cut", "flip", "whole", "gone"] + (["value"] * 6 if suffix == ".json" else [])
    kind = draw(st.sampled_from(kinds))
    if kind == "gone":
        return None
    if kind == "whole":
        return bytes(draw(st.sampled_from(WHOLE)))
    at = draw(st.integers(0, max(len(content) - 1, 0)))
    if kind == "cut":
        return content[:at]
    if kind == "flip":
        return content[:at] + bytes([draw(st.integers(0, 255))]) + content[at + 1 :]
    tree = json.loads(content)
    found = list(places(tree))
    if found:
        box, key = draw(st.sampled_from(found))
        if draw(st.booleans()):
            del box[key]
        else:
            box[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
    return json.dumps(tree).encode()


@pytest.fixture
def folder(toys: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A results folder that has a training log and a plan as well."""
    monkeypatch.chdir(toys.parent)
    lines = [{"step": s, "loss": 1 / s, "valid_ndcg@10": 0.1} for s in (1, 2, 3)]
    (toys / "cells/toy/tiger/sft/seed-42/train.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    stages = [{"label": "train", "path": "train/0"}]
    cells = [{"cell": ["toy", "tiger", m, 42], "key": "k", "stages": stages} for m in ("sft", "dpo", "ppo")]
    (toys / "plan.json").write_text(json.dumps({"store": "store", "cells": cells}))
    (toys / "failures.json").write_text(json.dumps([{"cell": "toy/tiger/ppo seed 42", "reason": "x", "log": "l"}]))
    beat = toys.parent / "store/train/0.beat"
    beat.parent.mkdir(parents=True)
    beat.write_text(json.dumps({"time": 0, "done": 1, "total": 2, "note": "x"}))
    return toys


@settings(derandomize=True, database=None, deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_file_of_a_results_folder_is_told_in_one_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], data: st.DataObject
) -> None:
    files = sorted(p for p in [*folder.rglob("*"), *folder.parent.glob("store/*/*.beat")] if p.is_file())
    file = data.draw(st.sampled_from(files))
    content = file.read_bytes()
    new = data.draw(damaged(content, file.suffix))
    command = data.draw(st.sampled_from(COMMANDS))
    file.unlink()
    if new is not None:
        file.write_bytes(new)
    try:
        status = _main(command)
    finally:
        file.write_bytes(content)
    said = capsys.readouterr().err
    assert status in (0, 2), said
    assert "Traceback" not in said
    if status == 2:
        assert said.startswith("rlrecbench: error: "), said
        assert said.count("\n") == 1, said
        assert "toy" in said  # the folder or the cell
