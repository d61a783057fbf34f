"""Full memory is said with the setting to lower; every other error stays what it is."""

import pytest
import torch

from rlrecbench.device import enough_memory
from rlrecbench.errors import BenchError


def test_memory_that_the_machine_does_not_have() -> None:
    """A petabyte, asked of torch's own allocator."""
    with (
        pytest.raises(BenchError, match=r"^out of memory: lower train.micro_batch \(now 64\)$"),
        enough_memory("lower train.micro_batch (now 64)"),
    ):
        torch.empty(1 << 50, dtype=torch.uint8)


def test_memory_of_an_accelerator() -> None:
    with pytest.raises(BenchError, match="out of memory"), enough_memory("x"):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_another_error_passes() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"), enough_memory("x"):
        torch.ones(2, 3) @ torch.ones(2, 3)
