"""The benchmarks' records, on models small enough to run in seconds."""

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlrecbench import bench, registry
from rlrecbench.bench import identifiers, search, step, timing, world
from rlrecbench.bench.world import World
from rlrecbench.config import build
from rlrecbench.errors import ConfigError
from rlrecbench.method import FineTune, methods
from rlrecbench.policy.t5 import PRESETS, T5Policy
from rlrecbench.train.loop import draw_batch

registry.load()
BUILT_IN = [e.name for e in methods if e.value.__module__.startswith("rlrecbench.baselines.")]
TUNERS = [name for name in BUILT_IN if issubclass(methods[name], FineTune) and name != "sft"]


def _paths() -> world.Ints:
    """120 items under three codes of eight."""
    return 1 + np.random.default_rng(0).integers(8, size=(120, 3)) + 8 * np.arange(3)


@pytest.fixture(scope="module")
def small() -> World:
    return World(_paths(), prompts=6, shape=PRESETS["tiny"])


def _method(name: str, **settings: Any) -> FineTune:
    method = build(methods[name], settings, "test")
    assert isinstance(method, FineTune)
    return method


def test_search_record(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A real run, tiny model, eight users: ours equals generate and the ratios are those of the seconds."""
    monkeypatch.setattr(search, "USERS", 8)
    monkeypatch.setattr(search, "PRESETS", {"paper": PRESETS["tiny"]})
    record = json.loads(json.dumps(bench.run("search/t5", tmp_path, repeats=1)))
    (line,) = record["benchmarks"]
    assert line["name"] == "search/t5"
    assert line["equal"] is True
    assert line["repeats"] == 1
    assert line["ratio"] == line["ratio_min"] == line["ratio_max"] == line["reference_s"] / line["ours_s"]
    assert record["machine"]["cores"] >= 1
    assert set(record["machine"]["matmul_gflops"]) == {"float32", "bfloat16"}


def test_sinkhorn_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real run on 48 vectors: codes and logarithms agree with the plain form; with other codes they do not."""
    monkeypatch.setattr(identifiers, "BATCH", 48)
    monkeypatch.setattr(identifiers, "CODES", 8)
    monkeypatch.setattr(bench, "machine", dict)
    (line,) = bench.run("identifiers/sinkhorn", repeats=2)["benchmarks"]
    assert (line["name"], line["repeats"], line["equal"]) == ("identifiers/sinkhorn", 2, True)
    assert 0 < line["ratio_min"] <= line["ratio"] <= line["ratio_max"]
    with monkeypatch.context() as other:
        other.setattr(identifiers, "assign", lambda distances, epsilon: distances.argmin(1))
        assert not identifiers.spread(1).equal
    monkeypatch.setattr(identifiers, "sinkhorn", lambda distances, epsilon: torch.zeros(48, 8).double())
    assert not identifiers.spread(1).equal


@pytest.mark.parametrize(("cost", "ratios"), [(False, (3, 2, 10)), (True, (1 / 3, 1 / 10, 1 / 2))])
def test_median_and_extremes(monkeypatch: pytest.MonkeyPatch, cost: bool, ratios: tuple[float, ...]) -> None:
    """Clock readings by hand: ours 1, 2, 1 s, theirs 3, 4, 10 s; gains 3, 2, 10; costs 1/3, 1/2, 1/10."""
    ticks = iter([0, 1, 0, 3, 0, 2, 0, 4, 0, 1, 0, 10])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    line = timing.compare("x", "y", lambda: None, lambda: None, True, 3, cost)
    assert (line.ours_s, line.reference_s) == (1, 4)
    assert (line.ratio, line.ratio_min, line.ratio_max) == ratios


@pytest.mark.parametrize("name", TUNERS)
def test_every_method_has_a_step(name: str, small: World) -> None:
    line = step.step(name, _method(name), small, repeats=1)
    assert line.name == f"step/{name}"
    assert line.reference.startswith("one sft step on the same 6 prompts (ours: a")
    assert line.equal
    assert line.ratio == line.ratio_min == line.ratio_max == line.ours_s / line.reference_s > 0


def test_names_of_steps() -> None:
    """Every trained method once, no other, and the settings whose cost is promised."""
    built_in = {f"step/{name}" for name in [*TUNERS, *step.VARIANTS]}
    names = step.steps(None)
    assert built_in <= set(names)
    assert not {f"step/{name}" for name in BUILT_IN if name not in TUNERS} & set(names)
    for method, settings in step.VARIANTS.values():
        _method(method, **settings)


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("sft", {}, (0, 1, 0)),
        ("dpo", {}, (0, 1, 0)),  # the reference's log-probabilities are kept
        ("s-dpo", {"negatives": 3}, (0, 1, 0)),
        ("ipa", {}, (0, 1, 0)),  # reference and candidates are renewed together
        ("sprec", {}, (0, 1, 1)),  # the reference is younger than the candidates
        ("gflowgr-tb", {"trajectories": 3}, (1, 1, 0)),
        ("grpo", {}, (1, 1, 1)),
        ("grpo", {"updates": 2}, (1, 2, 1)),  # the reference once per draw
        ("ppo", {}, (1, 4, 1)),
    ],
)
def test_what_a_step_is(
    name: str, settings: dict[str, Any], expected: tuple[int, int, int], small: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Draws, gradient steps and passes of the reference within one timed step, counted."""
    training = step.Training(_method(name, **settings), small)
    counts = {"draws": 0, "updates": 0, "reference": 0}

    def counted(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            counts[kind] += 1
            return function(*arguments, **named)

        return call

    monkeypatch.setattr(step, "draw_batch", counted("draws", draw_batch))
    monkeypatch.setattr(training.optimizer, "step", counted("updates", training.optimizer.step))
    if (reference := training.learner.__dict__["reference"]) is not None:
        monkeypatch.setattr(reference, "encode", counted("reference", reference.encode))
    training.step()
    assert tuple(counts.values()) == expected


def test_a_step_is_one_of_adamw_at_the_methods_rate(small: World) -> None:
    """The first step's moments are the gradient's own: p - lr decay p - lr g / (|g| + eps), to a tenth of it."""
    training, other = (step.Training(_method("dpo"), small) for _ in range(2))
    training.step()
    parameters = list(other.learner.parameters())
    assert other.pool is not None
    gradient = torch.autograd.grad(other.learner(other.pool), parameters, allow_unused=True)
    lr, decay, eps = 1e-5, 0.01, 1e-8  # dpo's, the budget's, torch's
    for p, g, ours in zip(parameters, gradient, training.learner.parameters(), strict=True):
        if g is not None:
            moved = g.abs() > 1e-5  # far above eps, so that neither clipping nor rounding counts
            assert moved.any() or not g.any()
            expected = p - lr * decay * p - lr * g / (g.abs() + eps)
            assert torch.allclose(ours[moved], expected[moved], rtol=0, atol=0.1 * lr)


@pytest.mark.parametrize(("name", "clip"), [("sft", 1.0), ("s-dpo", 0.3)])
def test_a_step_clips_as_the_methods_budget_says(
    name: str, clip: float, small: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, seen = step.Training(_method(name), small), []
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda parameters, most: seen.append(most))
    training.step()
    assert seen == [clip]


def test_other_weights_are_not_equal(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second policy asked for has other weights: the check of equality sees it."""
    seeds: Iterator[int] = iter(range(9))

    def other(self: World) -> T5Policy:
        torch.manual_seed(next(seeds))
        return T5Policy(self.catalogue, self.shape)

    monkeypatch.setattr(World, "policy", other)
    assert not step.step("dpo", _method("dpo"), small, repeats=1).equal


def test_steps_of_a_plugin_and_through_the_front_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "machine", dict)
    monkeypatch.setattr(step, "World", partial(World, prompts=4, shape=PRESETS["tiny"]))
    monkeypatch.setattr(step, "index", lambda data, rng: _paths())
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from dataclasses import dataclass\n"
        "from rlrecbench.api import FineTune, method\n"
        "@method('bench-plugin')\n"
        "@dataclass(frozen=True)\n"
        "class Mine(FineTune):\n"
        "    '''Mine.'''\n"
        "    def loss(self, step):\n"
        "        return -step.logp[:, 0].mean()\n"
    )
    record = bench.run("step/bench-plugin", tmp_path, repeats=2, plugins=[plugin])
    (line,) = record["benchmarks"]
    assert (line["name"], line["repeats"], line["equal"]) == ("step/bench-plugin", 2, True)


def test_the_world_is_as_large_as_beauty() -> None:
    real = World(world.index(None, np.random.default_rng(0)))
    assert real.prompts.history.shape == (128, 7)
    assert len(real.popularity) == len(real.text) == len(real.collab.items) == real.catalogue.n_items == 12_101
    assert int(real.popularity.min()) == 5


def test_released_index_is_read(shared_data: Callable[[str], Path]) -> None:
    """Item 0 is (183, 70, 232, 6) in the released file."""
    index = world.index(shared_data("beauty"), np.random.default_rng(0))
    assert index.shape == (12_101, 4)
    assert index[0].tolist() == [1 + 183, 1 + 256 + 70, 1 + 512 + 232, 1 + 768 + 6]


def test_unknown_name() -> None:
    with pytest.raises(
        ConfigError,
        match="no benchmark's name begins with 'serach'; there are: search/t5, train/t5-padded",
    ):
        bench.run("serach")
