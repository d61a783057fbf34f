"""``rlrecbench inspect``: one user's lists side by side."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.console import Console

from rlrecbench import results
from rlrecbench.cli.inspect import inspect
from rlrecbench.errors import ConfigError, StoreError
from rlrecbench.report.case_tables import drawn
from rlrecbench.report.cases import Case, Item, Ranked, case, pick

SEEDS = (42, 43, 44)
Ranking = Callable[[str, int], NDArray[np.int64]]


def ask(*arguments: object) -> Result:
    return CliRunner().invoke(inspect, [str(a) for a in arguments])


def problem(*arguments: object) -> str:
    error = ask(*arguments).exception
    assert isinstance(error, (ConfigError, StoreError))
    return str(error)


def shown(one: Case, width: int) -> str:
    console = Console(width=width, record=True)
    with console.capture() as capture:
        for part in drawn(one, width):
            console.print(part)
    return capture.get()


def test_what_is_known_of_a_user(toys: Path, ranking: Ranking) -> None:
    one = case(results.load(toys), "toy", "u5", 43)
    assert [i.id for i in one.history] == [f"i{(5 + j) % 16}" for j in range(6)]
    assert one.target == Item("i11", "Title 11", 5)
    assert [(r.backbone, r.method) for r in one.lists] == [("tiger", "sft"), ("tiger", "dpo"), ("none", "most-popular")]
    for found in one.lists:
        expected = list(ranking(found.method, 43)[5])
        assert [i.id for i in found.items] == [f"i{n}" for n in expected]
        assert found.rank == (expected.index(11) + 1 if 11 in expected else None)
    assert any(found.rank for found in one.lists)


def test_a_hit_below_the_shown_places_is_still_told(toys: Path, ranking: Ranking) -> None:
    users = [u for u in range(24) if (5 * u + 2) % 16 in ranking("dpo", 42)[u][1:]]
    (found,) = case(results.load(toys), "toy", f"u{users[0]}", 42, methods=["dpo"], k=1).lists
    assert len(found.items) == 1
    assert found.rank is not None
    assert found.rank > 1


def test_only_some_rankers(toys: Path) -> None:
    found = results.load(toys)
    names = [r.method for r in case(found, "toy", "u0", 42, methods=["dpo", "most-popular"]).lists]
    assert names == ["dpo", "most-popular"]
    assert [r.method for r in case(found, "toy", "u0", 42, backbones=["tiger"]).lists] == ["sft", "dpo", "most-popular"]


def test_an_entry_that_is_no_item(toys: Path) -> None:
    path = toys / "cells/toy/tiger/sft/seed-42/ranked.parquet"
    lists = pd.read_parquet(path)
    lists.loc[0, "item_id"] = ""
    lists.to_parquet(path, index=False)
    one = case(results.load(toys), "toy", "u0", 42, methods=["sft"])
    assert one.lists[0].items[0] == Item("", "no item of the catalogue", None)
    assert "no item of the" in shown(one, 80)


def test_users_on_whom_rankers_disagree(toys: Path, ranking: Ranking) -> None:
    def gain(method: str, u: int) -> float:
        found = [i for i, item in enumerate(ranking(method, 42)[u]) if item == (5 * u + 2) % 16]
        return 1 / (found[0] + 1) if found else 0.0

    spread = [np.std([gain(m, u) for m in ("sft", "dpo", "most-popular")]) for u in range(24)]
    order = sorted(range(24), key=lambda u: (-round(float(spread[u]), 9), u))
    assert pick(results.load(toys), "toy", 6) == [f"u{u}" for u in order[:6]]
    assert ", ".join(f"u{u}" for u in order[:5]) in problem(toys)


def test_wrong_requests(toys: Path) -> None:
    assert "no test user 'u99'; did you mean 'u9'? it has 24, such as" in problem(toys, "--user", "u99")
    assert "no method 'sf' on toy; did you mean 'sft'" in problem(toys, "--user", "u1", "--methods", "sf")
    assert "no backbone 'letter'" in problem(toys, "--user", "u1", "--backbone", "letter")
    assert "no seed 7 on toy; done: 42, 43, 44" in problem(toys, "--user", "u1", "--seed", "7")
    assert "no results on 'beauty'" in problem(toys, "--user", "u1", "--dataset", "beauty")
    shutil.rmtree(toys / "data")
    assert "run the suite again with this version to write data/" in problem(toys, "--user", "u1")
    shutil.rmtree(toys / "cells")
    assert "no cell is done yet" in problem(toys, "--user", "u1")


def test_several_data_sets_have_to_be_told_apart(toys: Path) -> None:
    shutil.copytree(toys / "cells/toy", toys / "cells/tea")
    assert "name one with --dataset: toy, tea" in problem(toys, "--user", "u1")


def test_json(toys: Path) -> None:
    data = json.loads(ask(toys, "--user", "u5", "--json", "--k", "2").output)
    assert (data["user"], data["target"]["title"]) == ("u5", "Title 11")
    assert [len(found["items"]) for found in data["lists"]] == [2, 2, 2]


def test_more_than_is_stored_is_said(toys: Path) -> None:
    def note(*arguments: object) -> bool:
        text = " ".join(ask("--user", "u5", *arguments).output.split())
        return "The stored lists hold 4 items, so 30 cannot be shown." in text

    assert note(toys, "--k", "30")
    assert not note(toys, "--k", "4")
    data = json.loads(ask(toys, "--user", "u5", "--json", "--k", "30").output)
    assert (data["k"], data["stored"]) == (30, 4)


def test_hits_are_marked_beside_their_group(toys: Path, ranking: Ranking) -> None:
    user = next(u for u in range(24) if (5 * u + 2) % 16 in ranking("dpo", 42)[u])
    place = list(ranking("dpo", 42)[user]).index((5 * user + 2) % 16) + 1
    text = ask(toys, "--user", f"u{user}").output
    assert f"✓ at {place}" in text
    assert f"✓ Title {(5 * user + 2) % 16}" in text


@pytest.mark.parametrize("width", [40, 80, 100])
def test_many_lists_fit_the_terminal(width: int) -> None:
    """Twelve lists wrap into rows of columns; titles are cut, wide letters counted double, markup left alone."""
    titles = [
        "A very long title that no column could hold, the second edition",
        "日本語の長い題名" * 8,
        "[bold]not bold",
    ]
    items = tuple(Item(str(i), titles[i % 3], i % 8) for i in range(10))
    lists = tuple(Ranked("tiger", f"method-{i}", items[: 10 - i % 2], None) for i in range(12))
    one = Case("toy", "u1", 42, items, items[2], lists, k=10, stored=10)
    text = shown(one, width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert all(f"method-{i}" in text for i in range(12))
    assert "[bold]not bold" in text
    assert "…" in text
