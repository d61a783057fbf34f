"""Levels and power of the tests in simulated benchmarks; prints the tables of docs/decisions/010.

``pytest -n 0 -s -m slow tests/stats/test_calibration.py`` (about two minutes).
"""

from collections.abc import Sequence
from itertools import product
from math import sqrt
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from rlrecbench import stats

Values = NDArray[np.float32]

GAIN = (1 / np.log2(np.arange(2, 12))).astype(np.float32)  # NDCG@10 of a hit by rank
EASE, SPREAD, TASTE = -2.8, 1.2, 0.5  # logit of a hit: mean and sd over users, sd of a user's liking of a method
LIFT = 0.15  # on the logit: 12 % more NDCG
USERS, SEEDS, NOISE = (2_000, 10_000), (3, 5), (0.03, 0.06, 0.12)
DESIGNS = list(product(USERS, SEEDS, NOISE))
RUNS = 2_000  # four times what the claim is about, so that chance counts for half


def simulate(
    rng: np.random.Generator, methods: int, seeds: int, users: int, noise: float | Sequence[float], lift: float = 0
) -> Values:
    """NDCG@10 of methods on the same users, [methods, S, U]; one user in ten is hit.

    The logit of a hit is the user's ease, plus the user's liking of the method, plus the luck of the training run,
    N(0, noise), one noise for all methods or one for each. Ranks lean to the top. The first method has ``lift`` on its
    logits.
    """
    normal = rng.standard_normal
    logit = np.float32(EASE) + np.float32(SPREAD) * normal(users, np.float32)
    logit = logit + np.float32(TASTE) * normal((methods, 1, users), np.float32)
    logit = logit + np.asarray(noise, np.float32).reshape(-1, 1, 1) * normal((methods, seeds, 1), np.float32)
    logit[0] += np.float32(lift)
    hit = (1 / (1 + np.exp(-logit))).ravel()
    luck = rng.random(hit.size, np.float32)
    at = np.flatnonzero(luck < hit)
    out = np.zeros(hit.size, np.float32)
    out[at] = GAIN[(10 * (luck[at] / hit[at]) ** 2).astype(np.intp).clip(max=9)]
    return out.reshape(methods, seeds, users)


def rejections(seeds: int, users: int, noise: float, runs: int) -> tuple[float, float, float]:
    """Share of runs with p < .05 for two equal methods: two-way, t over users, t over seeds."""
    rng, found = np.random.default_rng([1, seeds, users, round(1000 * noise)]), np.zeros(3)
    for _ in range(runs):
        a, b = simulate(rng, 2, seeds, users, noise)
        tests = stats.two_way(a - b), stats.t_users(a - b), stats.t_seeds(a.mean(1), b.mean(1))
        found += [test.p < 0.05 for test in tests]
    crossed, per_user, per_seed = found / runs
    return float(crossed), float(per_user), float(per_seed)


def truth(noise: float) -> tuple[float, stats.Variance]:
    """Effect of ``LIFT`` and variance components of the simulation, by Gauss's quadrature instead of by chance.

    With h = mean gain x P(hit): seeds = sum over both methods of Var(E[h | luck]); users = Var(E[D | user]), the
    methods' likings being independent given ease; interaction is what remains of Var(D).
    """
    z, w = np.polynomial.hermite_e.hermegauss(40)
    w = w / w.sum()
    by_rank = np.diff(np.sqrt(np.arange(11) / 10))  # P(10 luck^2 falls into a rank)
    gain, square = float(by_rank @ GAIN), float(by_rank @ GAIN**2)
    shift = np.array([LIFT, 0.0])[:, None, None, None]
    logit = EASE + SPREAD * z[:, None, None] + TASTE * z[:, None] + noise * z + shift  # [2, ease, liking, luck]
    hit = 1 / (1 + np.exp(-logit))
    by_luck = gain * np.einsum("meln,e,l->mn", hit, w, w)
    by_user = gain * hit @ w  # [2, ease, liking]
    by_ease = by_user @ w  # [2, ease]
    rates = by_ease @ w / gain  # [2]
    effect = gain * float(rates[0] - rates[1])
    seeds = float((by_luck**2 @ w - (by_luck @ w) ** 2).sum())
    likings = (by_user**2 @ w - by_ease**2).sum(0)
    users = float(w @ (likings + (by_ease[0] - by_ease[1]) ** 2)) - effect**2
    total = square * float(rates.sum()) - 2 * float(w @ (by_ease[0] * by_ease[1])) - effect**2
    return effect, stats.Variance(users, seeds, total - users - seeds)


class Family(NamedTuple):
    """Shares of runs with p < .05, of eight methods and their baseline."""

    uncorrected: float  # any of eight equal methods
    own: float  # any, after Holm on each test's own p
    together: float  # any, after Holm on the family's p
    own_power: float  # the first, 2 x LIFT better, after Holm on own p
    power: float  # the first, after Holm on the family's p


def family(seeds: int, users: int, noise: float | Sequence[float], runs: int) -> Family:
    """Draw families of equal methods, and as many in which the first is better."""
    rng, found = np.random.default_rng([3, seeds, users]), np.zeros(5)
    for lift in (0, 2 * LIFT):
        for _ in range(runs):
            *methods, baseline = simulate(rng, 9, seeds, users, noise, lift)
            tests = [stats.two_way(method - baseline) for method in methods]
            raw = [test.p for test in tests]
            for i, p in enumerate((raw, stats.holm(raw), stats.holm(stats.family_p(tests)))):
                if not lift:
                    found[i] += min(p) < 0.05
                elif i:
                    found[2 + i] += p[0] < 0.05
    return Family(*(found / runs))


class Sharper(NamedTuple):
    """Share of runs with p < .05 for one checkpoint each of equal mean NDCG, of which one has fewer, higher hits."""

    t_users: float
    wilcoxon: float


def sharper(users: int, runs: int) -> Sharper:
    """Draw A with hits at rank 1 alone, and B with hits at ranks 6 to 10 and as many more as make up for it."""
    rng, found, gain = np.random.default_rng([4, users]), np.zeros(2), GAIN[5:]
    for _ in range(runs):
        a = (rng.random(users) < 0.1 * gain.mean()).astype(np.float32)
        b = (rng.random(users) < 0.1) * rng.choice(gain, users)
        found += [stats.t_users([a - b]).p < 0.05, stats.wilcoxon([a - b]).p < 0.05]
    return Sharper(*(found / runs))


def show(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a markdown table."""
    print("\n\n| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    print("\n".join("| " + " | ".join(row) + " |" for row in rows))


def test_two_equal_methods_are_told_apart_by_users_and_rarely_by_the_default() -> None:
    crossed, per_user, _ = rejections(3, 2_000, 0.12, 200)
    assert crossed <= 0.09
    assert per_user >= 0.15


def test_holm_keeps_a_small_family() -> None:
    found = family(3, 500, 0.2, 150)
    assert found.together <= 0.08
    assert found.own >= 0.12
    assert found.uncorrected >= 0.25


def test_wilcoxon_tells_equal_means_apart() -> None:
    found = sharper(10_000, 100)
    assert found.t_users <= 0.12
    assert found.wilcoxon >= 0.5


@pytest.mark.slow
def test_level_of_every_design() -> None:
    """At most 9 % anywhere and 6 % on average, while the per-user test rejects half of the true nulls somewhere."""
    found = [rejections(S, U, noise, RUNS) for U, S, noise in DESIGNS]
    levels = [
        [f"{stats.power_of(0, truth(noise)[1], U, S):.3f}", *(f"{x:.3f}" for x in f)]
        for (U, S, noise), f in zip(DESIGNS, found, strict=True)
    ]
    show(
        ["users", "seeds", "sd of seeds", "two-way, as computed", "two-way", "t-users", "t-seeds"],
        [[f"{U:,}", str(S), f"{noise:g}", *row] for (U, S, noise), row in zip(DESIGNS, levels, strict=True)],
    )
    crossed, per_user, per_seed = np.transpose(found)
    assert crossed.max() <= 0.09
    assert crossed.mean() <= 0.06
    assert per_seed.max() <= 0.09
    assert per_user.max() >= 0.4


@pytest.mark.slow
def test_power_is_as_computed() -> None:
    rows = []
    for U, S, noise in DESIGNS:
        effect, variance = truth(noise)
        rng, found = np.random.default_rng([5, U, S]), 0
        for _ in range(RUNS):
            a, b = simulate(rng, 2, S, U, noise, LIFT)
            found += stats.two_way(a - b).p < 0.05
        computed, least = stats.power_of(effect, variance, U, S), stats.smallest_effect(variance, U, S)
        rows.append([f"{U:,}", str(S), f"{noise:g}", f"{computed:.2f}", f"{found / RUNS:.2f}", f"{least:.4f}"])
        # four binomial standard errors, and .01 for values that are far from normal
        assert found / RUNS == pytest.approx(computed, abs=4 * sqrt(computed * (1 - computed) / RUNS) + 0.01)
    show(["users", "seeds", "sd of seeds", "power, as computed", "power", "found with power .8"], rows)


@pytest.mark.slow
def test_holm_keeps_the_family() -> None:
    """On the family's p, at most 8 % err (5 % and three binomial standard errors), noisy methods or not.

    One noisy method leaves another most of its power.
    """
    uneven = {"first .12, others .03": [0.12] + [0.03] * 8, "second .5, others .03": [0.03, 0.5] + [0.03] * 7}
    designs: list[tuple[int, int, str, float | list[float]]] = [
        *((U, S, f"{noise:g}", noise) for U, S, noise in DESIGNS),
        *((U, S, name, noise) for name, noise in uneven.items() for U, S in product(USERS, SEEDS)),
    ]
    rows = []
    for U, S, name, noise in designs:
        found = family(S, U, noise, 500)
        rows.append([f"{U:,}", str(S), name, *(f"{x:.3f}" for x in found[:3]), *(f"{x:.2f}" for x in found[3:])])
        assert found.together <= 0.08
        assert found.power >= 0.5 * found.own_power or "second" not in name
    own, together = "power, own", "power, family's"
    show(["users", "seeds", "sd of seeds", "uncorrected", "Holm, own p", "Holm, family's p", own, together], rows)


@pytest.mark.slow
def test_wilcoxon_beside_the_mean() -> None:
    found = {users: sharper(users, 500) for users in (500, 2_000, 10_000, 40_000)}
    show(
        ["users", "t-users", "wilcoxon"],
        [[f"{u:,}", f"{f.t_users:.3f}", f"{f.wilcoxon:.3f}"] for u, f in found.items()],
    )
    assert max(f.t_users for f in found.values()) <= 0.08
    assert found[40_000].wilcoxon >= 0.95
