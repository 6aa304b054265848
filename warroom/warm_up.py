"""Compile every kernel once, where progress can be shown; Numba keeps them on disk."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

from collector.otlp.warm import warm as warm_traces
from collector.remote_write.warm import warm as warm_remote_write
from detectors.traces.warm import warm as warm_detectors
from store.backends.duckdb import warm_kernels
from store.promql.rollup_warm import warm_rollups
from store.promql.warm import warm

Show = Callable[[str], None]


def warm_up() -> None:
    """Load every kernel into this process: a second where they are compiled, else half a minute."""
    warm_store()
    warm_queries()


def warm_store() -> None:
    """The kernels between the wire and the disk, and those that judge what is there."""
    warm_kernels()
    warm_remote_write()
    warm_traces()
    warm_detectors()


def warm_queries() -> None:
    """The kernels of PromQL."""
    warm()
    warm_rollups()


def compile_kernels(show: Show) -> None:
    """Compile in two processes at once, for the installation; what they make stays on disk."""
    started = time.perf_counter()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=2, mp_context=spawn) as pool:
        work = {"store": pool.submit(warm_store), "queries": pool.submit(warm_queries)}
        for name, done in work.items():
            done.result()
            show(f"    {name} after {time.perf_counter() - started:.1f} s")
