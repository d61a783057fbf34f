"""Where the tests find data: the shared folder when there is one, and ml-100k inside recbole always."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: the tests run one process per core

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("ours", deadline=None)  # a loaded machine is slow, not wrong
settings.load_profile("ours")


def _shared() -> Path:
    given = os.environ.get("RLRECBENCH_DATA")
    return Path(given) if given else Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Return the folder that holds data set NAME, or skip."""

    def find(name: str) -> Path:
        folder = _shared()
        if not (folder / name).is_dir():
            pytest.skip(f"data set {name} is not in {folder}; set RLRECBENCH_DATA to the folder that holds it")
        return folder

    return find
