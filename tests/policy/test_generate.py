"""Draws and probabilities without history, against teacher forcing over all items."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import chisquare

from rlrecbench.policy import generate as module
from rlrecbench.policy.generate import generate, probabilities
from rlrecbench.policy.score import score
from rlrecbench.policy.t5 import T5Policy

SHARED = [2, 3]  # of the unequal catalogue these two items have one path


@torch.no_grad()
def enumerated(policy: T5Policy) -> NDArray[np.float64]:
    """Probability of each item: of its path, by teacher forcing, over the items that share it."""
    n = policy.catalogue.n_items
    encoded = policy.encode(torch.full((1, 1), -1))
    p = score(policy, encoded, torch.arange(n)[None]).trie.sum(-1).double().exp()[0].numpy()
    sharing = np.array([(policy.catalogue.leaf_of == leaf).sum() for leaf in policy.catalogue.leaf_of])
    return np.asarray(p / sharing)


def test_probabilities_are_those_of_teacher_forcing(unequal: T5Policy, policy: T5Policy) -> None:
    for backbone in (unequal, policy):
        found = probabilities(backbone)
        assert abs(found.sum() - 1) < 1e-5
        np.testing.assert_allclose(found, enumerated(backbone), rtol=1e-4)
    assert probabilities(unequal)[2] == probabilities(unequal)[3]


def test_draws_follow_the_probabilities(unequal: T5Policy) -> None:
    """Over several blocks; the two items of one path come up alike, and each draw knows its path's probability."""
    drawn = generate(unequal, 5000, seed=3)
    p = enumerated(unequal)
    assert chisquare(np.bincount(drawn.items, minlength=8), 5000 * p / p.sum()).pvalue > 1e-3
    path = p.copy()
    path[SHARED] *= 2
    np.testing.assert_allclose(np.exp(drawn.logp), path[drawn.items], rtol=1e-4)


def test_draws_are_of_the_seed(unequal: T5Policy) -> None:
    one, again, other = (generate(unequal, 2100, seed=s).items for s in (1, 1, 2))
    assert one.tolist() == again.tolist() != other.tolist()
    assert one[: module._AT_ONCE].tolist() != one[module._AT_ONCE : 2 * module._AT_ONCE].tolist()
    assert len(generate(unequal, 1, seed=1).items) == 1
