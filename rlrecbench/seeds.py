"""Named random streams: one root seed per cell, and adding a sampler shifts no other stream.

Every step draws from a stream of its own, named by what it is for and where in training it stands. So a
resumed run needs no saved generator state: step 1,000 draws the same numbers however it was reached.
"""

from hashlib import blake2b

import torch


def stream(seed: int, *name: str | int) -> int:
    """Return the seed of the stream with this name, 63 bits."""
    text = "/".join(str(part) for part in (seed, *name))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) >> 1


def generator(seed: int, *name: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator at the start of the stream with this name."""
    return torch.Generator(device).manual_seed(stream(seed, *name))
