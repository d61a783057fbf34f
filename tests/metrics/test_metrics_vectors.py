"""The released metric code's own numbers, as tabulated for three cases."""

from math import log

import numpy as np
import pytest

from rlrecbench.metrics import Lists, Reference, evaluate
from rlrecbench.metrics.distribution import divergence

TITLES = [
    "Alpha One",
    "Beta Two",
    "Gamma",
    "Delta Four Five",
    "Epsilon",
    "Zeta Six",
    "Eta",
    "Theta Eight",
    "Zulu New",
]
CDS = [429191, 170719, 118092, 90899, 71239, 56427, 41347, 22087]  # millionths; Zulu New is in no group
LIST_1 = [0, 1, 2, 3, 4, 5, 6, 7, 0, 1]
LIST_2 = [0, 0, 0, 2, 2, 3, 4, 7, 7, 7]
SHARES_A = {"dgu@10": 0.357104, "mgu@10": 0.064084}


def lists(first: list[int], second: list[int], targets: list[int]) -> Lists:
    reference = Reference(TITLES, np.arange(9), np.array([*CDS, 0]), np.array([0, 1, 2, 3, 4, 5, 6, 7, 7]))
    return Lists(np.array([first, second]), np.array(targets), reference)


def check(case: Lists, expected: dict[str, float]) -> None:
    values = evaluate(case, list(expected)).values
    assert values == {name: pytest.approx(value, abs=1.5e-6) for name, value in expected.items()}


def test_case_a_without_unseen_titles_both_countings_agree() -> None:
    accuracy = {
        "ndcg@1": 0,
        "ndcg@3": 0.25,
        "ndcg@5": 0.25,
        "ndcg@10": 0.25,
        "recall@5": 0.5,
        "recall@10": 0.5,
    }
    fairness = SHARES_A | {"dgu@10-compat": 0.357104, "mgu@10-compat": 0.064084}
    check(lists(LIST_1, LIST_2, [2, 6]), accuracy | fairness | {"entropy@10": 3.615087, "ttr@10": 14 / 36})


def test_case_b_unseen_title_at_the_very_end_resets_group_seven() -> None:
    compat = {"dgu@10-compat": 0.193452, "mgu@10-compat": 0.047036}
    words = {"entropy@10": 3.795371, "ttr@10": 16 / 36}
    check(lists(LIST_1, [*LIST_2[:-1], 8], [2, 6]), {"ndcg@10": 0.25} | SHARES_A | compat | words)


def test_case_c_unseen_titles_in_the_first_list_erase_what_stood_before() -> None:
    first = [8, *LIST_1[1:7], 8, *LIST_1[8:]]
    compat = {"dgu@10-compat": 0.407104, "mgu@10-compat": 0.071979}
    # Ours takes the first match, the published code the last: both targets then stand at rank 1.
    accuracy = {"ndcg@1": 1, "ndcg@10": 1, "recall@5": 1, "mrr@10": 1}
    plain = {"dgu@10": 0.457105, "mgu@10": 0.076584}
    check(lists(first, LIST_2, [8, 0]), accuracy | plain | compat | {"entropy@10": 3.884795, "ttr@10": 16 / 36})


def test_divergences_of_many_rows_are_those_of_each() -> None:
    """By hand: .5 ln(.5 / .25) + .5 ln(.5 / .5) = .5 ln 2, and ln 4 of the one item that the other row lacks."""
    p, q = np.array([[0.0, 0.5, 0.5, 0.0], [1.0, 0.0, 0.0, 0.0]]), np.array([0.25, 0.25, 0.5, 0.0])
    assert divergence(p, q) == pytest.approx([0.5 * log(2), log(4)])
    assert float(divergence(p[0], q)) == pytest.approx(0.5 * log(2))
