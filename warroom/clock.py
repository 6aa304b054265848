"""The only reader of the wall clock."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]


def system_now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
