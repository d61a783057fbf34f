"""Which device a stage computes on."""

import torch


def device_of(choice: str) -> torch.device:
    """Return the device of "auto", "cpu" or "cuda": an accelerator only where there is one."""
    return torch.device("cuda" if choice != "cpu" and torch.cuda.is_available() else "cpu")
