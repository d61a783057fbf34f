"""Codes, tokens, the report and the collision code, against hand-computed values."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlrecbench.catalogue import Catalogue
from rlrecbench.errors import StoreError
from rlrecbench.identifiers import Identifiers, deduplicated

FOUR = Identifiers(np.array([[0, 2], [1, 0], [0, 2], [0, 1]]), (2, 3))


def test_paths_put_each_level_behind_the_one_before_and_keep_zero_free() -> None:
    assert FOUR.vocab == 6
    assert FOUR.paths().tolist() == [[1, 5], [2, 3], [1, 5], [1, 4]]


def test_report_of_four_items() -> None:
    report = FOUR.report()
    assert report["used"] == [2, 3]
    assert report["prefixes"] == [2, 3]
    assert (report["unique"], report["colliding"], report["biggest_group"]) == (3, 2, 2)
    # exp of the entropy of (3/4, 1/4) and of (1/4, 1/4, 1/2)
    assert report["perplexity"] == pytest.approx([(4 / 3) ** 0.75 * 4**0.25, 4**0.5 * 2**0.5])


def test_collision_codes_count_within_a_group_in_item_order() -> None:
    unique = deduplicated(FOUR)
    assert unique.codes.tolist() == [[0, 2, 0], [1, 0, 0], [0, 2, 1], [0, 1, 0]]
    assert (unique.sizes, unique.content) == ((2, 3, 2), 2)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40))
def test_deduplicated_codes_are_unique_and_begin_with_the_old_ones(rows: list[tuple[int, int]]) -> None:
    ids = Identifiers(np.array(rows), (3, 3))
    unique = deduplicated(ids)
    assert unique.report()["unique"] == len(rows)
    assert (unique.codes[:, :2] == ids.codes).all()
    assert unique.sizes[2] == ids.report()["biggest_group"]


def test_paths_make_a_catalogue_whose_leaves_are_the_groups() -> None:
    catalogue = Catalogue(FOUR.paths(), FOUR.vocab)
    assert catalogue.leaf_of[0] == catalogue.leaf_of[2]
    assert catalogue.collisions == 2


def test_written_identifiers_are_read_back(tmp_path: Path) -> None:
    unique = deduplicated(FOUR)
    unique.write(tmp_path)
    again = Identifiers.read(tmp_path)
    assert (again.codes == unique.codes).all()
    assert again.codes.dtype == np.dtype(np.int64)
    assert (again.sizes, again.content) == ((2, 3, 2), 2)


def test_broken_folder_is_named(tmp_path: Path) -> None:
    FOUR.write(tmp_path)
    (tmp_path / "codes.npy").write_bytes(b"no array")
    with pytest.raises(StoreError, match=r"cannot be read .* run again") as caught:
        Identifiers.read(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("codes", [[[0, 3]], [[-1, 0]], [[0]], []])
def test_codes_outside_their_codebook_are_refused(codes: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="codes"):
        Identifiers(np.array(codes, np.int64), (2, 3))
