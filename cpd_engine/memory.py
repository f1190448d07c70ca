"""What a process of the engine does with memory that it has freed."""

from __future__ import annotations

import ctypes
import sys

# mallopt(3): a threshold of −1 gives nothing back, at most 0 mappings keeps large blocks on the heap.
_TRIM_THRESHOLD, _NEVER = -1, -1
_MMAP_MAX, _NONE = -4, 0


def keep_freed() -> None:
    """Have glibc keep freed memory for the next tensor of that size; elsewhere nothing happens. For processes that are ours alone.

    Otherwise each tensor of more than 32 MB, such as a head's gradient, is fresh from the system in every step, and the system fills it
    with zeros first: up to a fifth of a step's time. The peak stays what it was, but it is kept until the process ends.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, _NONE)
        mallopt(_TRIM_THRESHOLD, _NEVER)
