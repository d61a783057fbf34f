"""The training loop: budgets, schedules, buckets, checkpoints, exact resumption, invariances."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rlrecbench import registry
from rlrecbench.config import build
from rlrecbench.conformance import Probe
from rlrecbench.data.frame import Examples
from rlrecbench.errors import BenchError
from rlrecbench.method import Draw, FineTune, Step, methods
from rlrecbench.policy.t5 import T5Policy
from rlrecbench.store import Report
from rlrecbench.train import Budget, TrainJob, train
from rlrecbench.train.budget import by_length, epoch_batches
from rlrecbench.train.loop import Outcome, tokens_of
from rlrecbench.train.pool import Pool

registry.load()


def _job(folder: Path, name: str = "sft", **changes: Any) -> TrainJob:
    probe = Probe(build(methods[name], {}, name))
    budget = build(Budget, {"epochs": 2, "batch_size": 32, "lr": 1e-3, **changes.pop("budget", {})}, "test")
    job = TrainJob(
        data=probe.data, policy=probe.policy(), method=probe.tuner, budget=budget, seed=1, folder=folder,
        collab=probe.collab, beams=10, device="cpu",
    )  # fmt: skip
    return replace(job, **changes)


def _same(one: Outcome, two: Outcome) -> bool:
    return all(torch.equal(one.weights[k], two.weights[k]) for k in one.weights)


@pytest.mark.parametrize(
    ("budget", "rows", "steps"),
    [
        (Budget(epochs=3, batch_size=10), 25, 9),
        (Budget(epochs=3, batch_size=10, max_steps=4), 25, 4),
        (Budget(epochs=3, batch_size=10, max_examples=25), 25, 3),
        (Budget(epochs=3, batch_size=10, max_examples=30), 25, 4),
        (Budget(epochs=1, batch_size=100), 25, 1),
    ],
)
def test_total_steps(budget: Budget, rows: int, steps: int) -> None:
    assert budget.total_steps(rows) == steps


def test_learning_rates() -> None:
    """10 steps of warm-up of 100: 1/11, 2/11, ...; then half a cosine from 1 to 0."""
    budget = Budget(warmup=0.1)
    assert [budget.lr_factor(s, 100) for s in (0, 9, 10)] == pytest.approx([1 / 11, 10 / 11, 1.0])
    assert budget.lr_factor(55, 100) == pytest.approx(0.5)
    assert replace(budget, schedule="linear").lr_factor(55, 100) == pytest.approx(0.5)
    assert replace(budget, schedule="constant").lr_factor(99, 100) == 1.0


@given(st.lists(st.integers(0, 9), min_size=1, max_size=300), st.integers(1, 40), st.integers(0, 3))
def test_every_row_once_an_epoch_in_batches_of_like_length(lengths: list[int], size: int, epoch: int) -> None:
    examples = Examples.make([0] * len(lengths), [[1] * n for n in lengths], [0] * len(lengths))
    budget = Budget(batch_size=size)
    batches = epoch_batches(examples, budget, 5, epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert all(len(b) == size for b in batches[:-1]) or sum(len(b) < size for b in batches) == 1
    if len(lengths) <= 50 * size:  # one bucket: the batches are slices of the rows sorted by length
        spans = sorted((min(lengths[i] for i in b), max(lengths[i] for i in b)) for b in batches)
        assert all(spans[i][1] <= spans[i + 1][0] for i in range(len(spans) - 1))
    again = epoch_batches(examples, budget, 5, epoch)
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))
    order = np.concatenate(by_length(examples, np.arange(len(lengths)), size))
    assert [lengths[i] for i in order] == sorted(lengths, reverse=True)


def _stop(at: int) -> Report:
    """Interrupt at the given report of a step."""
    calls = 0

    def stop(done: float, total: float, note: str) -> None:
        nonlocal calls
        calls += note.startswith("epoch")
        if calls == at:
            raise KeyboardInterrupt

    return stop


@pytest.mark.parametrize("stop_at", [1, 7, 14])
@pytest.mark.parametrize("name", ["sft", "dpo", "gflowgr-tb"])
def test_stopped_anywhere_and_resumed_gives_the_same_bytes(tmp_path: Path, name: str, stop_at: int) -> None:
    whole = train(_job(tmp_path / "a", name))
    (tmp_path / "b").mkdir()
    with pytest.raises(KeyboardInterrupt):
        train(_job(tmp_path / "b", name), _stop(stop_at))
    resumed = train(_job(tmp_path / "b", name))
    assert _same(whole, resumed)
    assert (resumed.steps, resumed.examples, resumed.best) == (whole.steps, whole.examples, whole.best)
    logs = [[_timeless(line) for line in (tmp_path / f / "train.jsonl").open()] for f in "ab"]
    assert logs[0] == logs[1]


def test_a_checkpoint_whose_log_has_lost_its_end_is_left_and_training_begins_anew(tmp_path: Path) -> None:
    """As after a power cut: the checkpoint was on the disk, the log's last lines were not."""
    whole = train(_job(tmp_path / "a", "sft"))
    (tmp_path / "b").mkdir()
    with pytest.raises(KeyboardInterrupt):
        train(_job(tmp_path / "b", "sft"), _stop(14))
    log = tmp_path / "b/train.jsonl"
    log.write_bytes(log.read_bytes()[:-7])
    assert _same(whole, train(_job(tmp_path / "b", "sft")))
    logs = [[_timeless(line) for line in (tmp_path / f / "train.jsonl").open()] for f in "ab"]
    assert logs[0] == logs[1]


def _timeless(line: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(line)
    read.pop("seconds", None)
    return read


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()


def test_micro_batches_change_nothing_but_rounding(tmp_path: Path) -> None:
    """Without dropout 1 x 32 and 8 x 4 give the same trajectory up to the order of additions."""
    (tmp_path / "b").mkdir()

    def calm(job: TrainJob) -> TrainJob:
        assert isinstance(job.policy, T5Policy)
        job.policy.shape = replace(job.policy.shape, dropout=0.0)
        return job

    one = train(calm(_job(tmp_path / "a")))
    two = train(calm(_job(tmp_path / "b", micro_batch=4)))
    for name, value in one.weights.items():
        torch.testing.assert_close(two.weights[name], value, atol=2e-4, rtol=1e-3)


def test_the_best_evaluation_is_kept_and_patience_stops(tmp_path: Path) -> None:
    outcome = train(_job(tmp_path / "a", budget={"epochs": 40, "patience": 2, "lr": 5e-3}))
    lines = [json.loads(line) for line in (tmp_path / "a" / "train.jsonl").open()]
    values = [line["valid/ndcg@10"] for line in lines if "valid/ndcg@10" in line]
    assert outcome.best == max(values)
    if outcome.stopped_early:
        assert max(values[:-2]) >= max(values[-2:])
        assert len(values) < 40
    assert outcome.best_step == 8 * (1 + values.index(max(values)))


def test_training_learns_the_ring(tmp_path: Path) -> None:
    """Users walk along a ring by one or two items; a trained model must know it, an untrained one cannot."""
    outcome = train(_job(tmp_path / "a", budget={"epochs": 30, "lr": 3e-3, "eval_every": 15}))
    assert outcome.best > 0.15  # chance is .047


def test_dpo_uses_the_log_probabilities_of_the_start(tmp_path: Path) -> None:
    """At the first step policy and reference agree, so every margin is 0 and the loss is log 2."""
    train(_job(tmp_path / "a", "dpo", budget={"epochs": 1, "lr": 1e-5}))
    first = json.loads((tmp_path / "a" / "train.jsonl").open().readline())
    assert first["loss"] == pytest.approx(np.log(2), abs=1e-5)
    assert first["chosen_drift"] == pytest.approx(0.0, abs=1e-5)


def test_a_pool_gives_back_what_was_drawn(tmp_path: Path) -> None:
    probe = Probe(build(methods["dpo"], {}, "dpo"))
    batch = probe.batch(probe.learner())
    kept = {
        "items": batch.drawn.items,
        "ref_tokens": tokens_of(probe.policy(), probe.tuner, batch.prompts, batch.drawn),
    }
    pool = Pool(torch.arange(24).flip(0), kept)
    pool.write(tmp_path / "draws-0.safetensors")
    drawn, more = Pool.read(tmp_path / "draws-0.safetensors").of(np.array([23, 5]), torch.device("cpu"))
    assert torch.equal(drawn.items, batch.drawn.items[[0, 18]])
    assert torch.equal(more["ref_tokens"], kept["ref_tokens"][[0, 18]])


def test_a_loss_that_is_not_a_number_is_said_so(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Explodes(FineTune):
        """Not a number."""

        start = "base"

        def loss(self, step: Step) -> Tensor:
            return step.logp.mean() * float("nan")

    with pytest.raises(BenchError, match="the loss was not finite by step 0; lower lr"):
        train(replace(_job(tmp_path / "a"), method=Explodes()))


@dataclass(frozen=True)
class SelfPlay(FineTune):
    """Draws from the policy every epoch, against the policy as it was two epochs before."""

    start = "base"
    redraw = 1
    reference = 2
    rollouts = True

    def candidates(self, draw: Draw) -> Tensor:
        return draw.beside_target(draw.beams(2)[:, 1:])

    def loss(self, step: Step) -> Tensor:
        return torch.nn.functional.softplus(step.gain[:, 1] - step.gain[:, 0]).mean() - step.logp[:, 0].mean()


@pytest.mark.parametrize("stop_at", [10, 25, 35, 40])
def test_rounds_of_self_play_resume_exactly(tmp_path: Path, stop_at: int) -> None:
    """Five epochs of 8 steps, a report every step: stops in every phase, before and after a renewal."""
    budget = {"epochs": 5, "eval_every": 4, "lr": 3e-3}
    whole = train(replace(_job(tmp_path / "a", budget=budget), method=SelfPlay()))
    (tmp_path / "b").mkdir()
    with pytest.raises(KeyboardInterrupt):
        train(replace(_job(tmp_path / "b", budget=budget), method=SelfPlay()), _stop(stop_at))
    assert _same(whole, train(replace(_job(tmp_path / "b", budget=budget), method=SelfPlay())))


def test_killed_without_a_word_and_resumed(tmp_path: Path) -> None:
    """A kill saves nothing: the last checkpoint lies epochs back, the files of later draws stay."""
    budget = {"epochs": 5, "eval_every": 4, "lr": 3e-3}
    whole = train(replace(_job(tmp_path / "a", budget=budget), method=SelfPlay()))
    (tmp_path / "b").mkdir()
    done = 0

    class Killed(BaseException):
        pass

    @dataclass(frozen=True)
    class Dies(SelfPlay):
        """Dies in its 31st step."""

        def loss(self, step: Step) -> Tensor:
            nonlocal done
            done += 1
            if done == 31:
                raise Killed
            return super().loss(step)

    with pytest.raises(Killed):
        train(replace(_job(tmp_path / "b", budget=budget), method=Dies()))
    assert _same(whole, train(replace(_job(tmp_path / "b", budget=budget), method=SelfPlay())))


def test_a_stop_during_validation_evaluates_after_all(tmp_path: Path) -> None:
    whole = train(_job(tmp_path / "a"))

    def stop(done: float, total: float, note: str) -> None:
        if note.startswith("validating"):
            raise KeyboardInterrupt

    (tmp_path / "b").mkdir()
    with pytest.raises(KeyboardInterrupt):
        train(_job(tmp_path / "b"), stop)
    resumed = train(_job(tmp_path / "b"))
    assert _same(whole, resumed)
    assert resumed.best == whole.best


def test_max_examples_is_kept(tmp_path: Path) -> None:
    assert train(_job(tmp_path / "a", budget={"max_examples": 100})).examples == 100


def test_a_training_that_diverges_is_no_result(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="not finite"):
        train(_job(tmp_path / "a", budget={"lr": 1e30, "clip": None}))


def test_bfloat16_keeps_policy_and_reference_equal(tmp_path: Path) -> None:
    """Both sides of a log-ratio are computed under the same autocast, so at the first step it is 0."""
    train(_job(tmp_path / "a", "dpo", budget={"epochs": 1, "precision": "bfloat16", "lr": 1e-6}))
    first = json.loads((tmp_path / "a" / "train.jsonl").open().readline())
    assert abs(first["chosen_drift"]) < 1e-4


def test_redraw_and_reference_every_epoch(tmp_path: Path) -> None:
    """Draws change with the epoch, and the reference follows the policy at its start."""
    seen: list[tuple[int, list[int], float]] = []

    @dataclass(frozen=True)
    class Rounds(FineTune):
        """Records what it is given."""

        start = "base"
        redraw = 1
        reference = 1
        dropout = False

        def candidates(self, draw: Draw) -> Tensor:
            return draw.beside_target(draw.beams(2))

        def loss(self, step: Step) -> Tensor:
            seen.append((step.epoch, step.items[0].tolist(), float(step.gain.detach().abs().max())))
            return -step.logp[:, 0].mean() + 0 * step.gain.sum()

    train(replace(_job(tmp_path / "a", budget={"lr": 5e-3}), method=Rounds()))
    firsts = [next(s for s in seen if s[0] == epoch) for epoch in (0, 1)]
    assert [gain for _, _, gain in firsts] == pytest.approx([0.0, 0.0], abs=1e-5)
    last = [s for s in seen if s[0] == 1][-1]
    assert last[2] > 0.01
    assert {tuple(s[1]) for s in seen if s[0] == 0} != {tuple(s[1]) for s in seen if s[0] == 1}


def test_drawing_sees_the_whole_batch(tmp_path: Path) -> None:
    """Candidates are drawn for the batch and then cut, so micro-batches see the same draws."""
    seen: dict[int | None, list[int]] = {}
    for size in (None, 4):
        taken: list[int] = []

        @dataclass(frozen=True)
        class Watch(FineTune):
            """Records its candidates."""

            start = "base"
            redraw = 0

            def candidates(self, draw: Draw) -> Tensor:
                assert len(draw.target) == 32
                return draw.beside_target(draw.uniform(1))

            def loss(self, step: Step, taken: list[int] = taken) -> Tensor:
                taken.extend(step.items[:, 1].tolist())
                return -step.logp[:, 0].mean()

        folder = tmp_path / f"micro-{size}"
        folder.mkdir()
        train(replace(_job(folder, micro_batch=size, budget={"max_steps": 2}), method=Watch()))
        seen[size] = taken
    assert seen[None] == seen[4]
