"""The memory of this process and of the machine, or container, that it may use."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

_STATM = Path("/proc/self/statm")
_THRESHOLDS = (50_000, 20, 20)
_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def resident_bytes() -> int:
    """What the process holds in memory now; 0 where the system does not tell."""
    try:
        pages = int(_STATM.read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def usable_bytes(limits: tuple[Path, ...] = _CGROUP_LIMITS) -> int:
    """The machine's memory, or the container's where that is less."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in limits:
        try:
            found.append(int(path.read_text(encoding="ascii")))
        except (OSError, ValueError):
            # No such controller, or the word `max`.
            continue
    return min(found)


def settle() -> None:
    """What lives until the end need not be looked at by the garbage collector again.

    And it looks less often: an alert storm makes a million objects that live, and reference
    counts free all but cycles. That is a seventh of the storm's tick.
    """
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)


def releaser() -> Callable[[], None]:
    """Gives back to the system what Python, Arrow and the C library keep for later."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)

    def release() -> None:
        gc.collect()
        pa.default_memory_pool().release_unused()
        if trim is not None:
            trim(0)

    return release
