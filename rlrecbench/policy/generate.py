"""What a policy generates for a prompt without history: items drawn from it, and the probability of every item.

Both are in the trie measure: at every node the probabilities of the legal tokens sum to one.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlrecbench.catalogue import Catalogue
from rlrecbench.policy.base import Policy
from rlrecbench.policy.search import exact, sample
from rlrecbench.seeds import generator

_AT_ONCE = 1024  # draws; part of what is drawn, so no setting


class Generated(NamedTuple):
    """Items drawn with replacement, [n], and the log-probability of each draw's path in nats, [n]."""

    items: NDArray[np.int64]
    logp: NDArray[np.float32]


def generate(policy: Policy, n: int, seed: int) -> Generated:
    """Draw n items at temperature 1; of items that share a path one is drawn evenly.

    Call ``policy.eval()`` first unless dropout is wanted.

    Args:
        policy: The backbone.
        n: Draws.
        seed: Of the random streams; they do not depend on the device.
    """
    encoded = policy.encode(_nobody(policy))
    items, logp = [], []
    for block, at in enumerate(range(0, n, _AT_ONCE)):
        stream = generator(seed, "generate", block)
        drawn = sample(policy, encoded, min(_AT_ONCE, n - at), generator=stream)
        even = torch.rand(drawn.leaves.shape[1], generator=stream)
        items.append(_one_of(policy.catalogue, drawn.leaves[0].cpu(), even))
        logp.append(drawn.logp[0].float().cpu())
    return Generated(torch.cat(items).numpy(), torch.cat(logp).numpy())


def probabilities(policy: Policy) -> NDArray[np.float64]:
    """Compute the probability of every item, [N]; items that share a path share its probability evenly.

    The log-probabilities are the policy's, in float32; the sum over the items is 1 up to their rounding.
    """
    leaves, _, logp = exact(policy, policy.encode(_nobody(policy)))
    of_node = np.zeros(policy.catalogue.trie.n_nodes)
    of_node[leaves.cpu().numpy()] = logp[0].double().exp().cpu().numpy()
    leaf = policy.catalogue.leaf_of
    return np.asarray(of_node[leaf] / policy.catalogue.leaf_sizes[leaf], np.float64)


def _nobody(policy: Policy) -> Tensor:
    return torch.full((1, 1), -1, device=policy.device)


def _one_of(catalogue: Catalogue, leaves: Tensor, even: Tensor) -> Tensor:
    """Pick an item of each leaf by uniform numbers in [0, 1): all [n]."""
    start, items = catalogue.leaf_items(leaves.device)
    size = start[leaves + 1] - start[leaves]
    return items[start[leaves] + torch.minimum((even * size).long(), size - 1)]
