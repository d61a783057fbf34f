"""Where the real data sets are."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def dirs_of(shared_data: Callable[[str], Path]) -> Callable[[str], list[Path]]:
    """Return the data folders in which data set NAME is found, or skip."""

    def find(name: str) -> list[Path]:
        if name != "ml-100k":
            return [shared_data(name)]
        if importlib.util.find_spec("recbole") is None:
            pytest.skip("ml-100k is inside recbole, which is not installed")
        return []

    return find
