"""Rewards by hand, item by item."""

import math

import pytest
import torch

from rlrecbench.conformance import Probe
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
    return float(1 - popularity[item] / popularity.max())


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
