"""A run that nobody disturbed, to compare with."""

import pytest

from .runs import ONE, Run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The smallest run with a training; for tests that only look, or copy it."""
    run = Run(tmp_path_factory.mktemp("finished"), *ONE)
    assert run.finish() == 0, run.said()
    return run
