"""What this machine has and how fast it multiplies: what estimates of time rest on."""

import os
import shutil
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

_SIZE = {"cpu": 1024, "cuda": 8192}  # of the square matrices: 10 ms to 30 ms a product
_REPEATS = 5
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container


@lru_cache(maxsize=4)
def peak(device: str) -> float:
    """FLOP/s of a matrix product, the fastest of a few: of one core in float32, of a whole GPU in bfloat16."""
    threads = torch.get_num_threads()
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    size = _SIZE[device]
    a = torch.ones(size, size, device=device, dtype=dtype)
    torch.set_num_threads(1)
    try:
        return 2.0 * size**3 / min(_seconds(a) for _ in range(_REPEATS))
    finally:
        torch.set_num_threads(threads)


def _seconds(a: torch.Tensor) -> float:
    """Time of one product: on a CPU this thread's own, so that other work does not count; GPUs are waited for."""
    if not a.is_cuda:
        start = time.thread_time()
        torch.mm(a, a)
        return time.thread_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    torch.mm(a, a)
    torch.cuda.synchronize()
    return time.perf_counter() - start


def memory() -> dict[str, float | None]:
    """GiB of main memory: all of it, or what a container may use, and what is free; None where unknown."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        total, free = page * os.sysconf("SC_PHYS_PAGES"), page * os.sysconf("SC_AVPHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return {"total": None, "free": None}
    found = _number(Path("/proc/meminfo"), "MemAvailable:")
    free = found * 1024 if found is not None else free
    for path in _LIMITS:
        limit = _number(Path(path))
        total = min(total, limit) if limit is not None else total
    return {"total": round(total / 2**30, 1), "free": round(min(free, total) / 2**30, 1)}


def _number(path: Path, key: str = "") -> int | None:
    """The first number of a file, or of its line that begins with a key."""
    try:
        words = next(line.removeprefix(key).split() for line in path.read_text().splitlines() if line.startswith(key))
        return int(words[0])
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def disk_free(folder: Path) -> float:
    """GiB that are free where a folder is, or will be made."""
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    return round(shutil.disk_usage(place).free / 2**30, 1)


def gpus() -> list[dict[str, Any]]:
    """Name, memory in GiB and whether it computes in bfloat16, of each CUDA device."""
    out = []
    for n in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(n)
        bf16 = about.major >= 8  # Ampere
        out.append({"name": about.name, "memory_gib": round(about.total_memory / 2**30, 1), "bfloat16": bf16})
    return out
