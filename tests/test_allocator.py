"""Freed memory stays with the process where it is asked to."""

import resource
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from rlrecbench.allocator import keep_memory
size = 1 << 26
keep_memory(sys.argv[1] == "keep")
b"x" * size
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    b"x" * size
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the allocator is glibc's")
def test_large_blocks_are_not_fetched_again() -> None:
    """64 MiB are 16,384 pages; each of eight strings faults them anew, or none does."""
    faults = {}
    for mode in ("keep", "default"):
        done = subprocess.run([sys.executable, "-c", SCRIPT, mode], capture_output=True, text=True, check=True)
        faults[mode] = int(done.stdout)
    pages = 8 * (64 << 20) // resource.getpagesize()
    if faults["default"] < pages / 20:
        pytest.skip("the C library is not glibc, or pages are huge here")
    assert faults["keep"] < faults["default"] / 10
