"""Rewards by hand, item by item."""

import math

import numpy as np
import pytest
import torch

from rlrecbench.conformance import Probe
from rlrecbench.data.groups import popularity_groups
from rlrecbench.method import Draw, FineTune, Prompts
from rlrecbench.rewards import rewards
from rlrecbench.seeds import generator

PROBE = Probe(FineTune())
POLICY = PROBE.policy()
PROMPTS, TARGET = PROBE.prompts()
DRAW = Draw(
    Prompts("train", PROMPTS.rows, PROMPTS.history), TARGET, POLICY, generator(0),
    torch.as_tensor(PROBE.data.popularity), collab=PROBE.collab,
)  # fmt: skip
ITEMS = torch.stack([TARGET, TARGET.roll(1), torch.full_like(TARGET, -1)], 1)


def _by_hand(name: str, row: int, item: int) -> float:
    scores: list[float] = PROBE.collab.score("train", PROMPTS.rows)[row].tolist()
    target = int(TARGET[row])
    if name == "hit":
        return float(item == target)
    if name == "collab-sigmoid":
        return 1 / (1 + math.exp(-scores[item]))
    if name == "collab-minmax":
        return (scores[item] - min(scores)) / (max(scores) - min(scores))
    if name == "collab-rank":
        return sum(s < scores[item] for s in scores) / len(scores)
    if name == "token-overlap":
        paths = POLICY.catalogue.paths
        return float(sum(a == b for a, b in zip(paths[item], paths[target], strict=True)))
    popularity = PROBE.data.popularity
    if name == "rank-shaped":  # two places, 0 and 1; the item is at place 1
        return 0.0 if item == target else -(1 / math.log2(3)) / (1 + 1 / math.log2(3))
    if name == "frequency":
        return float((popularity[item] - popularity.min()) / (popularity.max() - popularity.min()))
    if name == "group-balanced":
        return _balance(popularity.tolist())[item]
    return float(1 - popularity[item] / popularity.max())


def _balance(frequency: list[int]) -> list[float]:
    """Share of the rarest group over each item's own, from lists."""
    order = sorted((i for i in range(len(frequency)) if frequency[i]), key=lambda i: (-frequency[i], i))
    groups = [g.tolist() for g in np.array_split(np.array(order, dtype=np.int64), 8)]
    groups[7] += [i for i in range(len(frequency)) if not frequency[i]]
    totals = [sum(frequency[i] for i in g) for g in groups]
    rarest = min(t for t in totals if t)
    return [next(rarest / t if t else 1.0 for g, t in zip(groups, totals, strict=True) if i in g) for i in
            range(len(frequency))]  # fmt: skip


def _draw(target: list[int], frequency: list[int]) -> Draw:
    prompts = Prompts("train", torch.arange(len(target)), torch.zeros(len(target), 1, dtype=torch.int64))
    counts = torch.tensor(frequency)
    return Draw(prompts, torch.tensor(target), POLICY, generator(0), torch.ones_like(counts), frequency=counts)


@pytest.mark.parametrize("name", [e.name for e in rewards])
def test_every_reward(name: str) -> None:
    got = rewards[name](DRAW, ITEMS)
    assert got.shape == ITEMS.shape
    for row in range(len(TARGET)):
        for column in (0, 1):
            expected = _by_hand(name, row, int(ITEMS[row, column]))
            slack = 1.5 / PROBE.data.n_items if name == "collab-rank" else 1e-5  # a tie in the last bit moves one rank
            assert float(got[row, column]) == pytest.approx(expected, abs=slack)
        assert float(got[row, 2]) == 0.0


def test_collision_codes_do_not_count_as_overlap() -> None:
    policy = PROBE.policy()
    policy.catalogue.content = 2
    draw = Draw(PROMPTS, TARGET, policy, generator(0), DRAW.popularity, collab=PROBE.collab)
    assert float(rewards["token-overlap"](draw, TARGET[:, None]).max()) == 2.0


def test_penalties_of_a_group_of_sixteen() -> None:
    """Sum of 1 / log2(j + 2) for j = 0..15 is 6.1060, so place 0 gets -.164, 1 -.103, 2 -.082 and 14 -.041."""
    group = torch.arange(16)[None]
    got = rewards["rank-shaped"](_draw([15], [1] * 96), group)[0].tolist()
    assert [round(x, 3) for x in got[:3]] == [-0.164, -0.103, -0.082]
    assert got[14] == pytest.approx(-0.25 / 6.1060, abs=1e-5)
    assert got[15] == 0.0
    assert sum(got) == pytest.approx(-1 + 0.244651 / 6.1060, abs=1e-5)


def test_rank_penalties_with_gaps_and_without_the_target() -> None:
    """G = 3 present: 1 + .63093 + .5 = 2.13093. Row 0: target, absent, place 1, place 2; row 1 has no target.

    Row 2 holds the target twice, as samples may: both get 0 and keep their places 0 and 2.
    """
    items = torch.tensor([[7, -1, 3, 4], [1, 2, 3, -1], [7, 3, 7, -1]])
    got = rewards["rank-shaped"](_draw([7, 7, 7], [1] * 96), items)
    first, second = 0.6309298 / 2.1309298, 0.5 / 2.1309298
    expected = [[0, 0, -first, -second], [0, 0, 0, 0], [0, -first, 0, 0]]
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float32))


def test_a_row_without_items_earns_nothing() -> None:
    assert rewards["rank-shaped"](_draw([7], [1] * 96), torch.full((1, 3), -1)).tolist() == [[0.0, 0.0, 0.0]]


def test_frequency_is_scaled_by_the_rarest_and_the_most_frequent() -> None:
    """Frequencies 3, 9, 5 between 3 and 9: 0, 1, 1/3. Equal ones all get 0."""
    items = torch.tensor([[0, 1, 2, -1]])
    assert rewards["frequency"](_draw([0], [3, 9, 5]), items)[0].tolist() == pytest.approx([0, 1, 1 / 3, 0])
    assert rewards["frequency"](_draw([0], [4, 4, 4]), items)[0].tolist() == [0.0] * 4


def test_group_balance_by_hand() -> None:
    """Ten occurring items: groups of 2, 2, 1, 1, 1, 1, 1, 1; the two items that never occur join the last.

    Frequencies 20 16 | 9 9 | 8 | 7 | 6 | 5 | 4 | 2 + 0 0 give totals 36, 18, 8, 7, 6, 5, 4, 2; the rarest is 2.
    """
    frequency = [0, 2, 4, 5, 6, 7, 8, 9, 9, 16, 20, 0]
    got = rewards["group-balanced"](_draw([0], frequency), torch.arange(-1, 12)[None])[0].tolist()
    totals = [2, 2, 4, 5, 6, 7, 8, 18, 18, 36, 36, 2]
    assert got == pytest.approx([0.0] + [2 / t for t in totals], rel=1e-6)


def test_few_occurring_items_leave_groups_empty() -> None:
    """Three items occur: groups 0, 1, 2 hold one each, the last only items that never occur, which earn 1."""
    got = rewards["group-balanced"](_draw([0], [6, 3, 0, 2, 0]), torch.arange(5)[None])[0].tolist()
    assert got == pytest.approx([2 / 6, 2 / 3, 1.0, 1.0, 1.0])
    assert rewards["group-balanced"](_draw([0], [0, 0]), torch.arange(2)[None])[0].tolist() == [1.0, 1.0]


def test_who_follows_the_training_distribution_earns_the_same_from_each_group() -> None:
    """With p(i) proportional to the frequency, each group's part of the mean reward is the rarest share.

    The groups are those of the fairness metrics, found there from the histories.
    """
    rng = np.random.default_rng(1)
    frequency = rng.permutation(60) + (rng.random(60) < 0.5) * 60
    frequency[:5] = 0
    group = popularity_groups(np.repeat(np.arange(60), frequency), 60)
    reward = rewards["group-balanced"](_draw([0], frequency.tolist()), torch.arange(60)[None])[0].double().numpy()
    p = frequency / frequency.sum()
    earned = np.bincount(group, p * reward, minlength=8)
    share = np.bincount(group, p, minlength=8)
    np.testing.assert_allclose(earned, share.min(), rtol=1e-6)
    assert len(set(frequency[frequency > 0].tolist())) == (frequency > 0).sum()  # no ties, which the two break apart
