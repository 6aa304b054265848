"""Compile every kernel once, where progress can be shown; Numba keeps them on disk."""

from __future__ import annotations

import time
from collections.abc import Callable

from collector.remote_write.decode import LabelCache, decode
from store.backends.duckdb import warm_kernels
from store.promql.warm import warm


def warm_up(show: Callable[[str], None]) -> None:
    """Run every kernel family; seconds where the cache is empty, else a fraction of one."""
    started = time.perf_counter()
    show("    store")
    warm_kernels()
    show("    remote write")
    decode(b"", LabelCache())

    def progress(done: int, of: int) -> None:
        show(f"    query kernels {done}/{of}")

    warm(progress)
    show(f"    kernels ready in {time.perf_counter() - started:.1f} s")
