"""Groups of colliding items, and their reassignment."""

import numpy as np
import torch

from rlrecbench.identifiers import Identifiers
from rlrecbench.identifiers.collisions import colliding, reassigned

CODES = np.array([[0, 1], [2, 0], [0, 1], [1, 1], [2, 0], [0, 1], [1, 0]])


def test_groups_are_the_items_that_share_all_codes() -> None:
    assert [group.tolist() for group in colliding(CODES)] == [[0, 2, 5], [1, 4]]
    assert colliding(np.array([[0], [1]])) == []
    assert Identifiers(CODES, (3, 2)).collision_rate == 1 - 4 / 7


def test_items_with_different_vectors_are_told_apart_and_the_others_stay() -> None:
    residual = torch.tensor([[0.0], [5.0], [1.0], [9.0], [5.5], [2.0], [9.0]])
    book = torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]])
    found = reassigned(CODES, residual, book, epsilon=0.003, rounds=20)
    assert (found[:, 0] == CODES[:, 0]).all()
    assert (found[[3, 6]] == CODES[[3, 6]]).all()
    assert colliding(found) == []
    assert (CODES[0] == [0, 1]).all()  # the input is left alone


def test_items_with_equal_vectors_stay_together() -> None:
    residual = torch.tensor([[1.0], [5.0], [1.0], [9.0], [5.0], [3.0], [9.0]])
    book = torch.linspace(0, 5, 6)[:, None]
    found = reassigned(CODES, residual, book, epsilon=0.003, rounds=20)
    assert (found[0] == found[2]).all()
    assert (found[1] == found[4]).all()
    assert (found[0] != found[5]).any()


def test_many_copies_of_a_vector_stay_together_in_single_precision() -> None:
    """A matrix product rounds the same row differently at different places; 2 to 12 copies, 256 codes."""
    generator = torch.Generator().manual_seed(0)
    for copies in range(2, 13):
        codes = np.zeros((copies, 2), np.int64)
        residual = torch.randn(1, 32, generator=generator).repeat(copies, 1)
        book = torch.randn(256, 32, generator=generator)
        found = reassigned(codes, residual, book, epsilon=0.003, rounds=3)
        assert (found == found[0]).all()


def test_no_round_changes_nothing() -> None:
    residual = torch.arange(7.0)[:, None]
    assert (reassigned(CODES, residual, residual[:4], epsilon=0.003, rounds=0) == CODES).all()
