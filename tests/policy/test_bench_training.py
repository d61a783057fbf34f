"""The benchmarks of training and planning, on models small enough to run in seconds."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from rlrecbench import bench
from rlrecbench.bench import planning, training, world
from rlrecbench.bench.timing import Result
from rlrecbench.bench.training import Ours, Plain, TrainingWorld
from rlrecbench.catalogue import Catalogue
from rlrecbench.policy.t5 import PRESETS
from rlrecbench.train.budget import Budget


@pytest.fixture(scope="module")
def small() -> TrainingWorld:
    """Random pairs of Beauty's shape, 16 in a batch, on a small T5."""
    paths = 1 + np.random.default_rng(0).integers(8, size=(world.ITEMS, 2)) + 8 * np.arange(2)
    return TrainingWorld(training._pairs(None), Catalogue(paths, vocab=17), PRESETS["tiny"], Budget(batch_size=16))


def test_all_loops_train_on_the_same_pairs(small: TrainingWorld) -> None:
    """Five batches from all lengths; the padded loop has the same rows in another order."""
    assert len(small.bucketed) == len(small.shuffled) == 5
    assert np.array_equal(np.sort(np.concatenate(small.bucketed)), np.sort(np.concatenate(small.shuffled)))
    longest = [int(small.pairs.lengths[rows].max()) for rows in small.bucketed]
    assert longest == sorted(longest)
    assert longest[0] < 3
    assert longest[-1] > 12


def test_random_pairs_have_the_quartiles_of_beauty() -> None:
    lengths = training._pairs(None).lengths
    assert len(lengths) == 131_413
    assert np.abs(np.quantile(lengths, [0.25, 0.5, 0.75]) - [2, 4, 9]).max() <= 1


@pytest.mark.parametrize("width", [None, 20])
def test_a_step_of_ours_is_a_step_of_theirs(small: TrainingWorld, width: int | None) -> None:
    """Without dropout, one gradient step from the same weights on the same rows ends at the same weights."""
    ours, plain = Ours(small), Plain(small, small.bucketed, width)
    rows = small.bucketed[2]
    ours.learner.eval()
    plain.model.eval()
    small.descend(ours.learner, ours.optimizer, ours.loss(rows))
    small.descend(plain.model, plain.optimizer, plain.loss(rows))
    mine = {name.removeprefix("policy.t5."): p for name, p in ours.learner.named_parameters()}
    for name, p in plain.model.named_parameters():
        torch.testing.assert_close(mine[name], p, rtol=0, atol=2e-5)


@pytest.mark.parametrize("run", [training.padded, training.bucketed])
def test_training_record(small: TrainingWorld, run: Callable[[TrainingWorld, int], Result]) -> None:
    result = run(small, 1)
    assert result.name in ("train/t5-padded", "train/t5-bucketed")
    assert result.equal
    assert result.ratio == result.reference_s / result.ours_s
    assert result.gflop is not None
    assert result.gflop > 0


def test_peak_share_is_operations_over_time_and_peak() -> None:
    """200 GFLOP in 4 s on a machine of 100 GFLOP/s: half."""
    result = bench.Result("x", 4.0, "y", 8.0, 2.0, 2.0, 2.0, 1, True, gflop=200.0)
    assert bench._shared(result, 100.0).peak_share == 0.5
    assert bench._shared(bench.Result("x", 4.0, "y", 8.0, 2.0, 2.0, 2.0, 1, True), 100.0).peak_share is None


def test_plan_finds_the_same_stages_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "SUITE", "quickstart")
    result = planning.plan(1)
    assert result.equal
    assert result.name == "plan"
