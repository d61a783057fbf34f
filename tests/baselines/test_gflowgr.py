"""GFlowGR's rewards, weights, sampler and loss, switch by switch, by hand."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from rlrecbench.baselines.gflowgr import GFlowGR, GFlowGRTB, _mean, _shared_prefix
from torch import Tensor

from rlrecbench import conformance, registry
from rlrecbench.catalogue import Catalogue
from rlrecbench.config import build
from rlrecbench.conformance import Probe
from rlrecbench.method import Draw, Drawn, Prompts, Scalar, Step, methods
from rlrecbench.policy.base import Policy
from rlrecbench.rewards import rewards
from rlrecbench.seeds import generator
from rlrecbench.train.loop import Learner

registry.load()
NAMES = ("gflowgr-tb", "gflowgr-db")
BOTH = pytest.mark.parametrize("name", NAMES)
WORLD = Probe(build(methods["gflowgr-tb"], {}, "test"))
PATHS = WORLD.policy().catalogue.paths
TARGETS = WORLD.prompts()[1]
SCORES = WORLD.collab.score("train", torch.arange(len(TARGETS)))


def probe_of(name: str = "gflowgr-tb", **settings: Any) -> Probe:
    return Probe(build(methods[name], settings, "test"))


def log_z_of(learner: Learner) -> Tensor:
    head = learner.heads["log_z"]
    assert isinstance(head, Scalar)
    return head.value


def drawn_by(seed: int = 0, progress: float = 0.5, epoch: int = 0, **settings: Any) -> Drawn:
    probe = probe_of(**settings)
    return probe.batch(probe.learner(), seed, progress, epoch).drawn


def by_hand(row: int, item: int) -> tuple[float, float, int, int]:
    """r_a, sigmoid(score), equal tokens and equal leading tokens of an item for a prompt of the probe."""
    target = int(TARGETS[row])
    same = [int(x == y) for x, y in zip(PATHS[item], PATHS[target], strict=True)]
    leading = same.index(0) if 0 in same else len(same)
    return float(item == target), 1 / (1 + math.exp(-float(SCORES[row, item]))), sum(same), leading


# --- reward ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("similar", ["position", "prefix"])
@pytest.mark.parametrize(
    "parts",
    [
        ("hit",), ("collab",), ("similar",), ("hit", "collab"), ("hit", "similar"), ("collab", "similar"),
        ("hit", "collab", "similar"),
    ],
)  # fmt: skip
def test_reward_and_weight_by_hand(parts: tuple[str, ...], similar: str) -> None:
    """R is the sum of its parts, at least 0.01; w = 1 / max(|r_a - r_c|, 0.2)^2 whatever the parts are."""
    settings: dict[str, Any] = {
        "reward": list(parts),
        "similar": similar,
        "normalise": False,
        "trajectories": 12,
        "sampler": "random",
    }
    drawn = drawn_by(**settings)
    assert drawn.rewards is not None
    differ = 0
    for row in range(12):
        for column, item in enumerate(drawn.items[row].tolist()):
            hit, collab, same, leading = by_hand(row, item)
            differ += same != leading
            value = {"hit": hit, "collab": collab, "similar": same if similar == "position" else leading}
            expected = max(sum(value[p] for p in parts), 0.01)
            assert float(drawn.rewards[row, column]) == pytest.approx(expected, rel=1e-5)
            assert float(drawn.extra["weight"][row, column]) == pytest.approx(
                max(abs(hit - collab), 0.2) ** -2, rel=1e-4
            )
    assert differ > 5


def small_draw(catalogue: Catalogue, target: int) -> Draw:
    """One prompt with an empty history, for rewards that read the catalogue only."""
    prompts = Prompts("train", torch.zeros(1, dtype=torch.int64), torch.tensor([[-1]]))
    policy = cast("Policy", SimpleNamespace(catalogue=catalogue))
    return Draw(prompts, torch.tensor([target]), policy, generator(0), torch.ones(catalogue.n_items, dtype=torch.int64))


def test_similarity_does_not_count_collision_codes_nor_what_is_behind_a_paths_end() -> None:
    """Items 0 and 1 differ in the collision code 9 or 10 only; item 3 is longer than the target 2."""
    codes = Catalogue([(1, 4, 9), (1, 4, 10), (2, 4, 9), (1, 5, 9)], 12, content=2)
    items = torch.tensor([[0, 1, 2, 3, -1]])
    draw = small_draw(codes, 0)
    assert rewards["token-overlap"](draw, items).tolist() == [[2, 2, 1, 1, 0]]
    assert _shared_prefix(draw, items).tolist() == [[2, 2, 0, 1, 0]]
    first = Catalogue([(0, 4), (0, 5), (1, 4), (0, 4)], 12)  # 0 is a token like any other
    assert _shared_prefix(small_draw(first, 0), items).tolist() == [[2, 1, 0, 2, 0]]
    titles = Catalogue([(1, 2), (3, 2), (1, 4), (1, 5, 6, 7)], 12)
    assert _shared_prefix(small_draw(titles, 2), items).tolist() == [[1, 0, 2, 1, 0]]


@pytest.mark.parametrize(("scale", "name"), [("minmax", "collab-minmax"), ("rank", "collab-rank")])
def test_collaborative_scale_reaches_reward_and_weight(scale: str, name: str) -> None:
    settings: dict[str, Any] = {"collab_scale": scale, "reward": ["collab"], "normalise": False, "floor": 1e-6}
    probe, drawn = probe_of(**settings), drawn_by(**settings)
    expected = rewards[name](probe.draw(probe.policy()), drawn.items)
    assert drawn.rewards is not None
    torch.testing.assert_close(drawn.rewards, expected.clamp(min=1e-6))
    hit = torch.tensor([1.0, 0.0])
    torch.testing.assert_close(drawn.extra["weight"], (hit - expected).abs().clamp(min=0.2) ** -2)


# --- weights ---------------------------------------------------------------------------------------------


def test_clamp_zero_is_the_weight_as_printed() -> None:
    """1 / (r_a - r_c)^2: for the target 1 / (1 - r_c)^2, for an augmented item 1 / r_c^2."""
    settings: dict[str, Any] = {"clamp": 0.0, "normalise": False}
    drawn = drawn_by(**settings)
    weight = drawn.extra["weight"]
    for row in range(len(weight)):
        for column, item in enumerate(drawn.items[row].tolist()):
            hit, collab, *_ = by_hand(row, item)
            assert float(weight[row, column]) == pytest.approx((hit - collab) ** -2, rel=1e-3)
    assert float(weight.max()) > 25


def test_clamp_zero_stays_finite_where_both_signals_agree_exactly() -> None:
    """With minmax the lowest item has r_c = 0 = r_a; its weight is 1e12, not infinite."""
    drawn = drawn_by(clamp=0.0, normalise=False, collab_scale="minmax", sampler="random", trajectories=80)
    weight = drawn.extra["weight"]
    assert bool(weight.isfinite().all())
    assert float(weight.max()) == pytest.approx(1e12, rel=1e-3)


def test_unweighted_means_one() -> None:
    assert bool((drawn_by(weighted=False).extra["weight"] == 1).all())


def test_normalised_weights_have_mean_one_over_the_items_that_exist() -> None:
    """120 of 96 items cannot be drawn, so some are absent: weight 0, and not counted in the mean."""
    free = drawn_by(normalise=False, sampler="random", trajectories=120)
    drawn = drawn_by(sampler="random", trajectories=120)
    there = drawn.items >= 0
    assert not there.all()
    assert bool((drawn.extra["weight"][~there] == 0).all())
    assert float(drawn.extra["weight"][there].mean()) == pytest.approx(1.0)
    ratio = (drawn.extra["weight"] / free.extra["weight"])[there]
    torch.testing.assert_close(ratio, ratio[:1].expand(len(ratio)))


# --- sampler ---------------------------------------------------------------------------------------------


def ranks_of(drawn: Drawn) -> list[tuple[list[int], int]]:
    """For each prompt the ranks of its augmented items among all items it may get, 0 the lowest score."""
    everything = drawn_by(sampler="random", trajectories=96).items[:, 1:]
    out = []
    for row, items in enumerate(drawn.items[:, 1:].tolist()):
        scores = SCORES[row].tolist()
        allowed = sorted((i for i in everything[row].tolist() if i >= 0), key=scores.__getitem__)
        out.append((sorted(allowed.index(i) for i in items), len(allowed)))
    return out


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("ramp", [False, True], ids=["by progress", "by epoch"])
def test_the_adaptive_window_slides(progress: float, ramp: bool) -> None:
    """A window of exactly K = 10 ranks of all M allowed items begins at floor(progress (M - 10))."""
    settings: dict[str, Any] = {"pool": 96, "trajectories": 10}
    if ramp:
        drawn = drawn_by(0, 0.123, round(progress * 8), ramp_epochs=8, **settings)
    else:
        drawn = drawn_by(0, progress, 3, **settings)
    for ranks, allowed in ranks_of(drawn):
        first = int((allowed - 10) * progress)
        assert ranks == list(range(first, first + 10))


def test_a_window_wider_than_the_draws_is_drawn_from_everywhere() -> None:
    """Four of the lowest half of a pool of 96, which is 48 ranks: beyond the first four, and never beyond the half."""
    seen = [rank for ranks, _ in ranks_of(drawn_by(0, 0.0, pool=96, trajectories=4, window=0.5)) for rank in ranks]
    assert 30 < max(seen) < 48
    assert len(set(seen)) > 20


def test_a_window_as_wide_as_the_pool_never_slides() -> None:
    """At the end of training the lowest score is drawn as often as any."""
    drawn = [ranks_of(drawn_by(seed, 1.0, pool=96, trajectories=4, window=1.0)) for seed in range(3)]
    assert min(rank for ranks in drawn for row, _ in ranks for rank in row) == 0


def test_more_items_than_there_are_leave_gaps() -> None:
    """96 items less the target and the history, for 200 places."""
    items = drawn_by(0, 0.5, trajectories=200, window=1.0).items
    for row in items.tolist():
        kept = [i for i in row if i >= 0]
        assert len(kept) == len({*kept})
        assert 80 < len(kept) < 96
        assert {*row} - {*kept} == {-1}


def test_the_mean_over_a_single_entry_is_that_entry() -> None:
    assert float(_mean(torch.tensor([5.0, 7.0]), torch.tensor([True, False]))) == 5.0
    assert float(_mean(torch.tensor([5.0, 7.0]), torch.tensor([False, False]))) == 0.0


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_the_growing_window_keeps_the_easy_items(progress: float) -> None:
    """Ranks 0 .. floor(progress (M - 10)) + 9; late in training both its ends are drawn from."""
    seen = ranks_of(drawn_by(0, progress, sampler="grow", pool=96, trajectories=10))
    for ranks, allowed in seen:
        assert max(ranks) < int((allowed - 10) * progress) + 10
        if progress == 0.0:
            assert ranks == list(range(10))
    if progress == 1.0:
        assert min(min(ranks) for ranks, _ in seen) < 5
        assert max(max(ranks) for ranks, _ in seen) > 85


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_the_hard_sampler_always_takes_the_highest(progress: float) -> None:
    for ranks, allowed in ranks_of(drawn_by(0, progress, sampler="hard", pool=96, trajectories=10)):
        assert ranks == list(range(allowed - 10, allowed))


def test_the_random_sampler_ignores_scores_and_progress() -> None:
    """Mean rank of 24 x 10 uniform draws: (M - 1) / 2 within four standard errors."""
    one, two = (drawn_by(0, p, sampler="random", trajectories=10) for p in (0.0, 1.0))
    assert torch.equal(one.items, two.items)
    share = [(r + 0.5) / allowed for ranks, allowed in ranks_of(one) for r in ranks]
    assert sum(share) / len(share) == pytest.approx(0.5, abs=4 * math.sqrt(1 / 12 / 240))


def test_ramp_epochs_end_at_the_hardest_window() -> None:
    settings: dict[str, Any] = {"pool": 96, "trajectories": 10, "ramp_epochs": 2}
    assert torch.equal(drawn_by(0, 0.1, 2, **settings).items, drawn_by(0, 0.1, 9, **settings).items)


@BOTH
def test_without_augmented_items_the_target_remains(name: str) -> None:
    """K = 0: the loss is L_GR + w r^2 of the targets; here detailed residuals are compared too."""
    probe = probe_of(name, trajectories=0)
    learner = probe.learner()
    batch = probe.batch(learner)
    with torch.no_grad():
        step = learner.step(batch)
        residual = cast("GFlowGR", probe.tuner).residual(step)
        nll = -step.tokens.vocab[:, 0].sum(-1).mean() / 3
        expected = nll + (residual.square().sum(-1)[:, 0] * step.extra["weight"][:, 0]).mean()
        assert batch.drawn.items.shape == (24, 1)
        assert float(learner(batch)) == pytest.approx(float(expected), rel=1e-5)


# --- loss ------------------------------------------------------------------------------------------------


def test_trajectory_balance_by_hand() -> None:
    """Two prompts, one augmented item each, log Z = 2, unit weights: mean over prompts of the summed squares."""
    probe = probe_of(normalise=False, weighted=False)
    learner = probe.learner()
    log_z_of(learner).data.fill_(2.0)
    batch = probe.batch(learner)
    with torch.no_grad():
        loss = float(learner(batch))
        step = learner.step(batch)
        logp = step.tokens.vocab.sum(-1)
        assert step.rewards is not None
        expected = 0.0
        for b in range(len(logp)):
            expected += -float(logp[b, 0]) / 3
            for c in range(2):
                expected += (2.0 + float(logp[b, c]) - math.log(float(step.rewards[b, c]))) ** 2
    assert loss == pytest.approx(expected / len(logp), rel=1e-5)


def test_log_z_of_the_prompt_is_linear_in_its_first_state() -> None:
    """Log Z(b) = w h_b + bias with the decoder's first state h_b, the same for all candidates of a prompt."""
    probe = probe_of(log_z="prompt", trajectories=2, weighted=False, normalise=False)
    learner = probe.learner()
    weight, bias = (p for n, p in sorted(learner.heads["log_z"].named_parameters(), reverse=True))
    with torch.no_grad():
        weight.normal_()
        bias.fill_(0.7)
        step = learner.step(probe.batch(learner))
        log_z = step.states[:, 0, 0] @ weight[0] + 0.7
        assert step.rewards is not None
        expected = log_z[:, None] + step.tokens.vocab.sum(-1) - step.rewards.log()
        torch.testing.assert_close(cast("GFlowGR", probe.tuner).residual(step)[..., 0], expected, atol=1e-4, rtol=1e-5)
    assert float(log_z.std()) > 0.01


@pytest.mark.parametrize("log_z", ["scalar", "prompt"])
def test_log_z_starts_where_the_mean_residual_is_zero(log_z: str) -> None:
    probe = probe_of(log_z=log_z)
    learner = probe.learner()
    with torch.no_grad():
        step = learner.step(probe.batch(learner))
        tuner = cast("GFlowGR", probe.tuner)
        assert abs(float(tuner.residual(step).mean())) > 1
        tuner.begin(step)
        assert float(tuner.residual(step).mean()) == pytest.approx(0.0, abs=1e-4)


def test_a_clipped_residual_grows_linearly() -> None:
    """Huber: beyond the clip d, the square becomes d (2 |r| - d)."""
    probe, free = (
        probe_of(residual_clip=0.5, weighted=False, normalise=False),
        probe_of(weighted=False, normalise=False),
    )
    one, two = probe.learner(), free.learner()
    for learner in (one, two):
        log_z_of(learner).data.fill_(10.0)
    batch = free.batch(two)
    with torch.no_grad():
        step = two.step(batch)
        assert step.rewards is not None
        r = 10.0 + step.tokens.vocab.sum(-1) - step.rewards.log()
        nll = -step.tokens.vocab[:, 0].sum(-1).mean() / 3
        huber = torch.where(r.abs() <= 0.5, r**2, 0.5 * (2 * r.abs() - 0.5))
        assert (r.abs() > 0.5).any()
        assert float(one(batch)) == pytest.approx(float(nll + huber.sum(1).mean()), rel=1e-5)


def hand_step(log: dict[str, float] | None = None, progress: float = 0.25) -> Step:
    """Two prompts, K = 3, paths of two tokens; the second prompt has one augmented item only.

    log P: prompt 0: -3, -5, -6, -7; prompt 1: -4, -8. log R: 1, 0, 0, -1; 1, -2. Weights: 2, 1, 1, 4; 1, 3.
    With log Z = 5 the residuals are 1, 0, -1, -1; 0, -1.
    """
    logp = torch.tensor([[-3.0, -5, -6, -7], [-4, -8, 0, 0]])
    items = torch.tensor([[0, 1, 2, 3], [4, 5, -1, -1]])
    log_r = torch.tensor([[1.0, 0, 0, -1], [1, -2, 0, 0]])
    weight = torch.tensor([[2.0, 1, 1, 4], [1, 3, 0, 0]])
    collab = torch.tensor([[0.5, 0.1, 0.2, 0.3], [0.9, 0.6, 0, 0]])
    drawn = Drawn(items, log_r.exp(), {"weight": weight, "collab": collab})
    prompts = Prompts("train", torch.arange(2), torch.zeros(2, 1, dtype=torch.int64))
    step = Step(drawn, prompts, cast("Policy", None), "vocab", {"log_z": Scalar(5.0)}, 3, progress, log=log)
    tokens = torch.stack([logp / 4, logp * 3 / 4], -1)
    there = (items >= 0)[..., None].expand(2, 4, 2)
    step.__dict__["tokens"] = SimpleNamespace(vocab=tokens, trie=tokens, present=there)
    return step


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # L_GR per token (3 + 4) / 2 / 2 = 1.75. Balance: prompt 0: 2 + (0 + 1 + 4), prompt 1: 0 + 3
        ({}, 1.75 + (7 + 3) / 2),
        ({"lam": 0.1}, 1.75 + 0.1 * 5),
        ({"lam": 0.0}, 1.75),
        # L_GR per item (3 + 4) / 2
        ({"reduction": "item"}, 3.5 + 5),
        # prompt 0: 2 + 5 / 3, prompt 1: 0 + 3 / 1, absent items not counted
        ({"trajectory_reduction": "mean"}, 1.75 + (2 + 5 / 3 + 3) / 2),
        # |r| = 1 becomes 0.5 (2 - 0.5) = 0.75
        ({"residual_clip": 0.5}, 1.75 + 0.75 * 5),
    ],
)
def test_the_loss_by_hand(settings: dict[str, Any], expected: float) -> None:
    method = build(methods["gflowgr-tb"], {"trajectories": 3, **settings}, "test")
    assert isinstance(method, GFlowGRTB)
    assert float(method.loss(hand_step()).detach()) == pytest.approx(expected, rel=1e-6)


def test_diagnostics_by_hand() -> None:
    """Of the hand-made step: path residuals 1, 0, -1, -1, 0, -1; two of four augmented with progress 1/4."""
    log: dict[str, float] = {}
    method = build(methods["gflowgr-tb"], {"trajectories": 3}, "test")
    assert isinstance(method, GFlowGRTB)
    method.loss(hand_step(log))
    assert log == pytest.approx(
        {
            "log_z": 5.0,
            "nll": 1.75,
            "balance_target": (2 + 0) / 2,
            "balance_augmented": (5 + 3) / 2,
            "residual_mean": -2 / 6,
            "residual_std": math.sqrt(4 / 6 - (2 / 6) ** 2),
            "weight_target": 1.5,
            "weight_augmented": 9 / 4,
            "collab_target": 0.7,
            "collab_augmented": 0.3,
            "pushed_up": 3 / 4,
            "window": 0.25,
        },
        rel=1e-5,
    )


@pytest.mark.parametrize(
    ("sampler", "ramp", "window"), [("grow", None, 0.25), ("adaptive", 12, 0.25), ("adaptive", 2, 1.0), ("hard", 9, 1)]
)
def test_the_windows_place_is_logged(sampler: str, ramp: int | None, window: float) -> None:
    """Epoch 3 and progress 1/4."""
    log: dict[str, float] = {}
    method = build(methods["gflowgr-tb"], {"trajectories": 3, "sampler": sampler, "ramp_epochs": ramp}, "test")
    assert isinstance(method, GFlowGRTB)
    method.loss(hand_step(log))
    assert log["window"] == window


def test_the_mean_log_flow_of_the_empty_path_is_logged() -> None:
    """With the map still at zero it is the first bias."""
    probe = probe_of("gflowgr-db")
    learner = probe.learner()
    head: Any = learner.heads["log_f"]
    log: dict[str, float] = {}
    with torch.no_grad():
        head.bias[0] = 3.5
        learner(probe.batch(learner)._replace(log=log))
    assert log["log_f0"] == pytest.approx(3.5)


@BOTH
@pytest.mark.parametrize("trajectories", [0, 2])
def test_diagnostics_of_a_whole_step_are_numbers(name: str, trajectories: int) -> None:
    probe = probe_of(name, trajectories=trajectories)
    learner = probe.learner()
    log: dict[str, float] = {}
    batch = probe.batch(learner)._replace(log=log)
    with torch.no_grad():
        learner(batch)
        residual = cast("GFlowGR", probe.tuner).residual(learner.step(batch))
    json.dumps(log, allow_nan=False)
    assert ("pushed_up" in log) == (trajectories > 0)
    assert log["residual_mean"] == pytest.approx(float(residual.sum(-1).mean()), rel=1e-4)
    if name == "gflowgr-db":
        assert [log[f"residual_{level}"] for level in range(3)] == pytest.approx(
            residual.mean((0, 1)).tolist(), rel=1e-4
        )
        assert log["log_f0"] == 0.0


# --- what it equals, and the contract --------------------------------------------------------------------


@BOTH
def test_without_lambda_it_trains_as_sft_to_the_last_bit(name: str, tmp_path: Path) -> None:
    for folder in ("ours", "sft"):
        (tmp_path / folder).mkdir()
    ours = probe_of(name, lam=0.0).train(tmp_path / "ours", epochs=1)
    sft = probe_of("sft").train(tmp_path / "sft", epochs=1)
    assert len(sft) > 20
    assert all(torch.equal(ours[key], sft[key]) for key in sft)


@BOTH
@pytest.mark.parametrize(
    "settings",
    [
        {"trajectories": 3, "trajectory_reduction": "mean", "policy_measure": "trie"},
        {"similar": "prefix", "reward": ["similar"], "clamp": 0.0, "residual_clip": 2.0},
        {"trajectories": 0, "collab_scale": "rank", "reduction": "item"},
    ],
    ids=["mean", "prefix", "target only"],
)
def test_variants_keep_the_laws_of_batches(name: str, settings: dict[str, Any]) -> None:
    probe = probe_of(name, **settings)
    conformance.round_trip(probe)
    conformance.candidates(probe)
    conformance.no_leak(probe)
    conformance.scalar_loss(probe)
    conformance.permutation(probe)
    conformance.micro_batches(probe)
