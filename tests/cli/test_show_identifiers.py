"""``show identifiers``: the published table, results folders, and what is said about wrong requests."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlrecbench.cli import _main
from rlrecbench.identifiers import Identifiers, deduplicated
from rlrecbench.identifiers.agreement import Pairs, agreement
from rlrecbench.identifiers.index import write
from rlrecbench.identifiers.summary import summary

Show = Callable[..., tuple[int, str, str]]


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]) -> Show:
    """Call ``show identifiers`` in this process: status, output, errors."""

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        status = _main(["show", "identifiers", *map(str, arguments)])
        return status, *capsys.readouterr()

    return call


def results(folder: Path, backbones: tuple[str, ...] = ("b-first", "a-second"), dataset: str = "toy") -> Path:
    """A results folder with the identifiers of a data set."""
    rng = np.random.default_rng(0)
    left = rng.integers(40, size=200)
    pairs = Pairs(np.arange(200), left, (left + rng.integers(1, 20, size=200)) % 40)
    for i, backbone in enumerate(backbones):
        ids = deduplicated(Identifiers(np.stack([np.arange(40) // 10, rng.integers(5, size=40)], 1), (4, 8)))
        line = {"length": 1, "difference": -0.01 * i, "low": -0.02, "high": -0.000_01}
        report = {
            "dataset": dataset,
            "backbone": backbone,
            "kind": "rqvae",
            "stage": "0" * 64,
            **summary(ids, agreement(ids, pairs)),
            "difference": {"backbone": backbones[0], "stage": "0" * 64, "prefixes": [line]} if i else None,
        }
        place = folder / "identifiers" / dataset / backbone
        place.mkdir(parents=True)
        (place / "report.json").write_text(json.dumps(report))
    suite = {"datasets": [{"label": dataset}], "backbones": [{"label": b} for b in backbones]}
    (folder / "suite.json").write_text(json.dumps(suite))
    return folder


def test_the_published_table_of_beauty_is_printed(show: Show, shared_data: Callable[[str], Path]) -> None:
    """Source: counts of LETTER's released file: 12,088 of 12,101 distinct (0.107 %), 24 items in groups of up to 3."""
    path = shared_data("beauty") / "beauty" / "beauty.letter_index.json.gz"
    status, out, _ = show(path)
    assert status == 0
    rows = [line.split() for line in out.splitlines()]
    assert ["file", "4", "x", "256", "12,101", "12,088", "0.107", "%", "24", "3"] in rows
    assert ["1", "197", "82.7", "197"] in rows
    assert ["2", "256", "248.6", "7,931"] in rows
    assert ["3", "256", "247.6", "11,696"] in rows
    assert ["4", "256", "246.6", "12,088"] in rows
    assert "κ" not in out


def test_with_the_data_set_agreement_is_measured(show: Show, shared_data: Callable[[str], Path]) -> None:
    folder = shared_data("instruments")
    path = folder / "instruments" / "instruments.letter_index.json"
    status, out, _ = show(path, "--dataset", "instruments", "--data-dir", folder, "--json")
    assert status == 0
    (report,) = json.loads(out)
    assert (report["dataset"], report["items"], report["difference"]) == ("instruments", 9_922, None)
    kappa = [p["kappa"] for p in report["agreement"]["prefixes"]]
    assert kappa == sorted(kappa, reverse=True)
    assert all(p["low"] > 0 for p in report["agreement"]["prefixes"])
    assert report["agreement"]["users"] == 24_772


def test_a_results_folder_in_suite_order_and_at_most_100_columns(show: Show, tmp_path: Path) -> None:
    folder = results(tmp_path / "r", ("tiger-with-a-name-of-thirty-ab", "[bold]x"))
    status, out, _ = show(folder)
    assert status == 0
    assert max(map(len, out.splitlines()[1:])) <= 100  # the first one is the folder
    assert "toy · " in out
    assert "2 x" not in out
    assert "4, 8 + " in out
    assert out.count("[bold]x") == 2
    assert out.index("tiger-with") < out.index("[bold]x")
    assert "-0.0100 [-0.0200, 0.0000]" in out
    assert "-0.0000" not in out
    assert "—" in out  # of the first backbone, and of the collision code
    assert "without the collision code" in out


def test_json_is_what_the_reports_hold(show: Show, tmp_path: Path) -> None:
    folder = results(tmp_path / "r")
    reports: list[dict[str, Any]] = json.loads(show(folder, "--json")[1])
    assert [r["backbone"] for r in reports] == ["b-first", "a-second"]
    kept = json.loads((folder / "identifiers/toy/a-second/report.json").read_text())
    assert reports[1] == {"place": str(folder), **kept}


def test_an_exported_index_keeps_its_collision_code(show: Show, tmp_path: Path) -> None:
    """Three items, one code each and a collision code 0 or 1: the report beside the index says which is which."""
    ids = deduplicated(Identifiers(np.array([[0], [1], [1]]), (2,)))
    write(ids, ["a", "b", "c"], tmp_path / "index.json")
    ids.write(tmp_path)
    (found,) = json.loads(show(tmp_path / "index.json", "--json")[1])
    assert (found["content"], found["collisions"]["distinct"], found["collisions"]["items"]) == (1, 2, 2)
    (tmp_path / "index.json").rename(tmp_path / "other.json")
    (found,) = json.loads(show(tmp_path / "other.json", "--json")[1])
    assert (found["content"], found["collisions"]["items"]) == (2, 0)


def test_the_settings_of_every_kind_are_shown_with_their_meaning(show: Show) -> None:
    for kind in ("rkmeans", "rqvae", "letter", "released", "file"):
        status, out, _ = show(kind, "--json")
        assert status == 0
        about = json.loads(out)
        assert about["summary"]
        assert all(setting["note"] for setting in about["settings"])
    status, out, _ = show("letter")
    assert "alignment" in out
    assert "LETTER's code, Beauty" in " ".join(out.split())


def test_without_a_place_all_folders_below_results_are_shown(
    show: Show, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, err = show()
    assert status == 2
    assert "no folder below results has identifiers" in err
    for name in ("one", "two"):
        results(tmp_path / "results" / name)
    (tmp_path / "results/three/cells").mkdir(parents=True)
    reports = json.loads(show("--json")[1])
    assert [r["place"] for r in reports] == [f"results/{n}" for n in ("one", "one", "two", "two")]
    assert show()[0] == 0


def test_the_content_of_an_index_file_is_as_said(show: Show, tmp_path: Path) -> None:
    ids = deduplicated(Identifiers(np.array([[0, 1], [0, 1], [2, 0]]), (3, 2)))
    write(ids, ["a", "b", "c"], tmp_path / "index.json")
    (whole,), (bare,) = (
        json.loads(show(tmp_path / "index.json", *more, "--json")[1]) for more in ([], ["--content", "2"])
    )
    assert (whole["collisions"]["distinct"], whole["content"]) == (3, 3)
    assert (bare["collisions"]["distinct"], bare["content"]) == (2, 2)
    assert bare["sizes"] == [3, 2, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["identifiers", "nowhere.json"], "nowhere.json: there is no such file"),
        (["identifiers", "."], "has no identifiers/<data set>/<backbone>/report.json; give the results folder"),
        (["identifiers", "broken"], "report.json cannot be read"),
        (["identifiers", "old"], "does not say agreement, backbone"),
        (["identifiers", "other"], "cannot be read"),
        (["identifiers", "r", "--dataset", "toy"], "--dataset is for an index file"),
        (["identifiers", "r", "--content", "2"], "--content is for an index file"),
        (["identifiers", "index.json", "--content", "5"], "content is 5, but an item has 3 codes"),
        (["identifiers", "index.json", "--dataset", "ml100k"], "ml-100k"),
        (["identifiers", "index.json", "--content", "0"], "--content"),
        (["identifiers", "text.json"], "not valid JSON"),
        (["method"], "which method? (rlrecbench list methods)"),
        (["method", "sft", "--dataset", "toy"], "--dataset is for 'show identifiers'"),
    ],
)
def test_wrong_requests_get_one_sentence_and_status_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, text in (("broken", "{"), ("old", '{"kind": "rkmeans"}'), ("other", "3")):
        (tmp_path / name / "identifiers/toy/tiger").mkdir(parents=True)
        (tmp_path / name / "identifiers/toy/tiger/report.json").write_text(text)
    (tmp_path / "index.json").write_text('{"a": [0, 1, 0]}')
    (tmp_path / "text.json").write_text("a")
    results(tmp_path / "r")
    monkeypatch.chdir(tmp_path)
    status = _main(["show", *arguments])
    errors = capsys.readouterr().err
    assert status == 2, errors
    assert message in errors
    assert "Traceback" not in errors
    assert errors.count("\n") <= 6  # click adds its usage lines


def test_looking_does_not_import_torch(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text('{"a": [0, 1], "b": [0, 0]}')
    code = (
        "import sys; from rlrecbench.cli import _main; "
        f"sys.exit(_main(['show', 'identifiers', {str(tmp_path / 'index.json')!r}]) or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "perplexity" in done.stdout
