"""LETTER's two contrasts by hand, where they send gradients, and its clusters of codes."""

import math

import pytest
import torch

from rlrecbench.identifiers.letter import Clusters, alignment, diversity
from rlrecbench.identifiers.quantiser import Quantiser
from rlrecbench.seeds import generator


def test_alignment_of_two_items_by_hand() -> None:
    """Dot products [[2, 0], [1, 3]]: the losses are ln(1 + e^-2) and ln(1 + e^-2)."""
    latent = torch.tensor([[2.0, 0.0], [1.0, 3.0]])
    found = alignment(latent, torch.eye(2))
    assert float(found) == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-6)


def test_diversity_of_three_codes_by_hand() -> None:
    """Codes (1, 0), (0, 1), (1, 1).

    An item has code 2 and partner 0: without code 2 itself the logits are 1 and 1, so its loss is ln 2. An item of
    code 0 and partner 2 has logits 0 (code 1) and 1 (code 2): ln(1 + e^-1).
    """
    books = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]])
    found = diversity(books, torch.tensor([[2], [0]]), torch.tensor([[0], [2]]))
    assert float(found) == pytest.approx((math.log(2) + math.log(1 + math.exp(-1))) / 2, rel=1e-6)


def test_diversity_is_the_mean_over_levels() -> None:
    books = torch.randn(2, 5, 3)
    codes, partners = torch.tensor([[0, 4], [3, 1]]), torch.tensor([[1, 2], [2, 0]])
    each = [diversity(books[[i]], codes[:, [i]], partners[:, [i]]) for i in range(2)]
    assert torch.allclose(diversity(books, codes, partners), torch.stack(each).mean())


def test_alignment_moves_the_encoder_and_diversity_the_codebooks() -> None:
    torch.manual_seed(0)
    model = Quantiser((4, 6, 3), 2, 4, commitment=0.25, straight_through="level", batch_norm=False)
    torch.nn.init.normal_(model.codebooks)
    out = model.quantise(model.encoder(torch.randn(5, 4)))
    parameters = [next(model.encoder.parameters()), model.codebooks]
    encoder, books = torch.autograd.grad(
        alignment(out.latent, torch.randn(5, 3)), parameters, allow_unused=True, materialize_grads=True
    )
    assert encoder.abs().max() > 0
    assert books.abs().max() == 0
    encoder, books = torch.autograd.grad(
        diversity(model.codebooks, out.codes, (out.codes + 1) % 4),
        parameters,
        allow_unused=True,
        materialize_grads=True,
    )
    assert encoder.abs().max() == 0
    assert books.abs().max() > 0


def test_partners_are_uniform_over_the_other_codes_of_the_cluster() -> None:
    """Level 0: clusters {0, 2, 5} and {1, 3, 4}; level 1: {0, 1} and {2, 3, 4, 5}."""
    labels = torch.tensor([[0, 1, 0, 1, 1, 0], [0, 0, 1, 1, 1, 1]])
    codes = torch.tensor([[2, 4]]).repeat(6000, 1)
    drawn = Clusters(labels).partners(codes, generator(0, "partners"))
    for level, others in enumerate(([0, 5], [2, 3, 5])):
        found, counts = drawn[:, level].unique(return_counts=True)
        assert found.tolist() == others
        assert counts.tolist() == pytest.approx([6000 / len(others)] * len(others), rel=0.1)


@pytest.mark.parametrize(("size", "low", "high"), [(256, 10, 60), (64, 3, 60), (8, 2, 8), (3, 2, 3), (2, 2, 2)])
def test_clusters_have_at_least_two_codes_and_letters_bounds(size: int, low: int, high: int) -> None:
    torch.manual_seed(0)
    books = torch.randn(2, size, 4)
    books[:, 0] = 100  # a code far from all others is no cluster of its own
    labels = Clusters.of(books, 10, seed=1).labels
    assert labels.shape == (2, size)
    for level in labels:
        counts = level.bincount()
        assert len(counts) == min(10, max(1, size // 2))
        assert low <= counts.min() <= counts.max() <= high


def test_no_partner_is_the_code_itself() -> None:
    torch.manual_seed(1)
    clusters = Clusters.of(torch.randn(3, 40, 4), 10, seed=0)
    codes = torch.randint(0, 40, (2000, 3))
    drawn = clusters.partners(codes, generator(0, "partners"))
    level = torch.arange(3)
    assert (drawn != codes).all()
    assert (clusters.labels[level, drawn] == clusters.labels[level, codes]).all()
