"""Which device a stage computes on, and what to say when its memory is full."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rlrecbench.errors import BenchError


def device_of(choice: str) -> torch.device:
    """Return the device of "auto", "cpu" or "cuda": an accelerator only where there is one."""
    return torch.device("cuda" if choice != "cpu" and torch.cuda.is_available() else "cpu")


@contextmanager
def enough_memory(advice: str) -> Iterator[None]:
    """Say which setting to lower where memory runs out.

    Args:
        advice: What to do, such as "lower train.micro_batch (now 64)".

    Raises:
        BenchError: An allocation failed, of the accelerator's memory or the machine's.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as e:
        raise BenchError(f"out of memory: {advice}") from e
    except RuntimeError as e:
        if "can't allocate memory" not in str(e):  # what torch's allocator for CPUs says
            raise
        raise BenchError(f"out of memory: {advice}") from e
