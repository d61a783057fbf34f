"""Scores of candidates, negatives and batches, by value."""

import numpy as np
import pytest
import torch

from rlrecbench.collab import Collab, Pairs, histories, shuffled
from rlrecbench.data.frame import Dataset, Examples

HAND = Collab(
    torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]),
    {"test": torch.tensor([[1.0, 1.0], [3.0, -1.0]])},
)


def test_scores_by_hand() -> None:
    assert HAND.score("test", torch.tensor([1, 0])).tolist() == [[3, -2, 2], [1, 2, 2]]


def test_candidates_are_picked_from_the_scores_and_absent_ones_are_zero() -> None:
    items = torch.tensor([[2, 0, -1], [1, -1, 1]])
    assert HAND.of("test", torch.tensor([0, 1]), items).tolist() == [[2, 1, 0], [-2, 0, -2]]


def test_moved_scores_are_the_same() -> None:
    assert torch.equal(HAND.to("cpu").score("test", torch.tensor([0])), HAND.score("test", torch.tensor([0])))


@pytest.mark.gpu
def test_scores_on_a_gpu_take_rows_from_anywhere() -> None:
    moved = HAND.to("cuda")
    assert moved.of("test", torch.tensor([0]), torch.tensor([[2, -1]])).tolist() == [[2, 0]]


def test_negatives_are_uniform_over_what_the_user_never_used() -> None:
    # User 0 used 0, 1, 2 (item 2 in another row than the one drawn for), user 1 used 9.
    examples = Examples.make([0, 0, 1], [[0], [0, 1], [9]], [1, 2, 9])
    pairs, rng = Pairs(examples, 10), np.random.default_rng(0)
    first = np.bincount(pairs.negatives(np.zeros(14_000, np.int64), rng), minlength=10)
    assert first[:3].tolist() == [0, 0, 0]
    assert (abs(first[3:] - 2000) < 5 * np.sqrt(2000)).all()  # five standard deviations
    last = np.bincount(pairs.negatives(np.full(9_000, 2), rng), minlength=10)
    assert last[9] == 0
    assert (last[:9] > 0).all()


def test_a_user_of_everything_still_never_gets_the_target() -> None:
    examples = Examples.make([0], [[0, 1]], [2])
    drawn = Pairs(examples, 3).negatives(np.zeros(100, np.int64), np.random.default_rng(0))
    assert set(drawn.tolist()) == {0, 1}


def test_every_row_is_in_one_batch_and_batches_hold_similar_lengths(ring: Dataset) -> None:
    lengths = np.random.default_rng(0).integers(1, 50, 5_000)
    batches = list(shuffled(lengths, 64, np.random.default_rng(1)))
    assert sorted(np.concatenate(batches).tolist()) == list(range(5_000))
    assert max(len(b) for b in batches) == 64
    assert np.mean([np.ptp(lengths[b]) for b in batches]) < 5  # of 49 in random batches
    assert not np.array_equal(batches[0], next(shuffled(lengths, 64, np.random.default_rng(2))))


def test_an_empty_history_is_one_padding_item() -> None:
    fields = histories(Examples.make([0, 1], [[], [4, 7]], [1, 2]), np.array([0, 1]))
    assert fields["item_id_list"].tolist() == [[0, 0], [5, 8]]
    assert fields["item_length"].tolist() == [1, 2]
