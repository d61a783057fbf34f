"""What a plan expects: every method has a cost, and more work costs more."""

import json
from pathlib import Path

import pytest

from rlrecbench import registry
from rlrecbench.execute import estimate as estimates
from rlrecbench.execute.estimate import Cost, duration_of, estimate
from rlrecbench.method import FineTune, methods
from rlrecbench.stages import Train
from rlrecbench.store import Store
from rlrecbench.suite import builtin, expand, find, load
from tests.durability.test_damage import Word

registry.load()


def _suite(folder: Path, *lines: str) -> Path:
    path = folder / "x.yaml"
    path.write_text(
        "name: x\ndatasets: [ml-100k]\nbackbones: [tiger: {preset: tiny}]\ntrain: {epochs: 1, max_steps: 10}\n"
        "methods:\n" + "".join(f"  - {line}\n" for line in lines)
    )
    return path


def _flops(folder: Path, *lines: str) -> list[float]:
    cells = expand(load(_suite(folder, *lines)), ())
    trains = [cell.score.rank.train for cell in cells]
    costs = estimate([t for t in trains if t is not None], Store(folder / "store"))
    return [costs[t.key].flops for t in trains if t is not None]


@pytest.mark.parametrize("name", [e.name for e in methods if issubclass(e.value, FineTune)])
def test_every_method_has_a_cost_of_its_own(tmp_path: Path, name: str) -> None:
    assert all(0 < flops < 1e15 for flops in _flops(tmp_path, name))


def test_more_work_costs_more(tmp_path: Path) -> None:
    sft, dpo, grpo, ppo, once = _flops(
        tmp_path, "sft", "dpo", "grpo: {epochs: 1}", "ppo", "ppo: {as: once, updates: 1}"
    )
    assert sft < dpo < grpo
    assert once < ppo < 4 * once


def test_training_identifiers_costs_by_items_epochs_and_width(tmp_path: Path) -> None:
    """ml-100k, 10 epochs, 30-20-10 and 2 x 5 codes: 3 passes x 2 x (2 (30 x 20 + 20 x 10) + 100) x 1682 items x 10."""

    def flops(ids: str) -> float:
        path = _suite(tmp_path, "sft")
        path.write_text(path.read_text().replace("tiny}", f"tiny, ids: {ids}}}"))
        train = expand(load(path), ())[0].score.rank.train
        assert train is not None
        return estimate([train.ids], Store(tmp_path / "store"))[train.ids.key].flops

    shape = "dim: 30, hidden: [20], latent: 10, levels: 2, codes: 5, clusters: 2"
    assert flops(f"{{kind: letter, epochs: 10, {shape}}}") == 3 * 2 * (2 * 800 + 100) * 1682 * 10
    assert flops("{kind: rkmeans}") == 0


def test_builtin_suites_are_valid() -> None:
    names = builtin()
    assert {
        "quickstart",
        "methods-ml100k",
        "paper",
        "ablations/identifiers",
        "ablations/identifiers-beauty",
        "ablations/gflowgr-table2",
        "ablations/gflowgr-fig3",
    } <= set(names)
    for name in names:
        assert load(find(name)).methods


def test_the_suites_name_every_method() -> None:
    suites = [load(find(name)) for name in ("methods-ml100k", "flower-tiny", "paper-cpu")]
    assert {entry.name for suite in suites for entry in suite.methods} == {
        e.name for e in methods if e.value.__module__.startswith("rlrecbench.")
    }


def test_a_chain_of_starts_is_trained_once(tmp_path: Path) -> None:
    """s-dpo from flower: the flower of the chain is the flower of the row."""
    cells = expand(load(_suite(tmp_path, "flower", "s-dpo: {start: flower}", "dpo: {start: s-dpo}")), ())
    flower, sdpo, dpo = (cell.score.rank.train for cell in cells)
    assert isinstance(sdpo, Train)
    assert isinstance(dpo, Train)
    assert sdpo.start is not None
    assert flower is not None
    assert sdpo.start.key == flower.key
    assert dpo.start is not None
    assert dpo.start.key == sdpo.key


def test_time_is_flops_by_a_share_of_the_measured_speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 10 GFLOP/s a core trains at 2.2, ranks at 3; a stage without FLOPs counts by its test rows."""
    monkeypatch.setattr(estimates, "peak", lambda device: 1e10)
    cells = expand(load(_suite(tmp_path, "sft", "most-popular")), (), device="cpu")
    rank, bare = cells[0].score.rank, cells[1].score.rank
    assert rank.train is not None
    costs = estimate([rank.train, rank, bare, bare.data], Store(tmp_path / "store"))
    assert costs[rank.train.key].seconds == pytest.approx(costs[rank.train.key].flops / 2.2e9)
    assert costs[rank.key].seconds == pytest.approx(costs[rank.key].flops / 3e9)
    assert costs[bare.key].seconds == pytest.approx(0.02 + 943 * 5e-5)
    assert costs[bare.data.key].seconds == 0.5


def test_a_stage_like_it_in_the_store_tells_its_time_and_a_damaged_one_nothing(tmp_path: Path) -> None:
    cells = expand(load(_suite(tmp_path, "most-popular")), (), device="cpu")
    data, store = cells[0].score.rank.data, Store(tmp_path / "store")
    folder = store.path(data)
    folder.mkdir(parents=True)
    (folder / "stage.json").write_text(json.dumps({**data.identity, "wall_s": 7.5}))
    assert estimate([data], store)[data.key].seconds == 7.5
    for name, record in (("a", "[1, 2]"), ("b", "{}"), ("c", "{"), (f"{folder.name}.broken-1", "{}")):
        (folder.parent / name).mkdir()
        (folder.parent / name / "stage.json").write_text(record)
    (folder.parent / "d").mkdir()
    (folder.parent / "d/stage.json").write_text(json.dumps({**data.identity, "wall_s": 9.5}))
    (folder.parent / "d/cost.json").write_text("")
    assert estimate([data], store)[data.key].seconds == 7.5


def test_a_run_takes_no_less_than_its_longest_chain() -> None:
    """Four stages of 10 s: one, two that need it, and one that needs one of these. Two workers: 30 s; one: 40 s."""
    first = Word("first")
    second, third = Word("second", first), Word("third", first)
    stages = [first, second, third, Word("fourth", second)]
    costs = {s.key: Cost(0.0, 10.0, 0.0) for s in stages}
    assert [duration_of(stages, costs, n) for n in (1, 2, 8)] == [40, 30, 30]
    assert duration_of([], {}, 2) == 0
