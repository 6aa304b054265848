"""Time from a start after kill -9 until it is ready, and until every series can be asked for."""

from __future__ import annotations

import time

from bench.series import COUNTER, SCRAPE_MS, counters, mixed_values
from bench.setup import Setup, first_scrape_ms, load, wait_loaded
from bench.table import Row, Table
from bench.targets import Target

_NOTES = [
    "The server is killed with SIGKILL right after the last answer. Warroom and VictoriaMetrics"
    " are asked for what they acknowledged; VictoriaMetrics may lose the last seconds, which were"
    " in memory only, so its count is not checked.",
]


def run(setup: Setup) -> list[Table]:
    """One kill of each target."""
    count, scrapes = setup.sizes.recovery
    found = {target.name: _measure(setup, target, count, scrapes) for target in setup.targets}
    what = f"{count:,} series × {scrapes} samples"
    rows = [
        Row(f"{what}: ready", "s", "less", {name: ready_s for name, (ready_s, _) in found.items()}),
        Row(
            f"{what}: first answer", "s", "less", {n: asked_s for n, (_, asked_s) in found.items()}
        ),
    ]
    return [Table("recovery", "Recovery", rows, _NOTES)]


def _measure(setup: Setup, target: Target, count: int, scrapes: int) -> tuple[float, float]:
    setup.say(f"recovery: {target.name}")
    first_ms = first_scrape_ms(scrapes)
    end_ms = first_ms + (scrapes - 1) * SCRAPE_MS
    with setup.server(target, "recovery") as server:
        load(server, counters(count), mixed_values(count, scrapes, seed=5), first_ms)
        wait_loaded(server, COUNTER, end_ms, count)
        server.kill()
        started = time.perf_counter()
        server.start()
        ready_s = time.perf_counter() - started
        if not target.loses_unflushed:
            wait_loaded(server, COUNTER, end_ms, count)
        return ready_s, time.perf_counter() - started
