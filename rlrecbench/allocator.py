"""How freed memory is held.

glibc gives blocks above 32 MiB back to the system when they are freed, and the top of its heap too. The tensors of a
training step are as large, so the system clears and enters their pages anew at every step: a third of TIGER's time on
a CPU. A process that computes for hours does better to keep what it has had.
"""

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4  # malloc.h
_KEEP = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _TOP_PAD: 64 << 20}
_DEFAULT = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 64 << 20, _TOP_PAD: 128 << 10}


def keep_memory(keep: bool = True) -> None:
    """Let the allocator keep what is freed; without effect where the C library is not glibc.

    Args:
        keep: False: what glibc comes to do by itself in a program with large tensors.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for option, value in (_KEEP if keep else _DEFAULT).items():
        mallopt(option, value)
