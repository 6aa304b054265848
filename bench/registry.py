"""Every benchmark, a row each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bench import (
    footprint,
    level_drops,
    live_stream,
    month,
    order_drops,
    range_queries,
    recovery,
    remote_write,
    rules,
    traces,
)
from bench.setup import Setup
from bench.table import Table

BENCHMARKS: Mapping[str, Callable[[Setup], list[Table]]] = {
    "remote_write": remote_write.run,
    "range_queries": range_queries.run,
    "month": month.run,
    "traces": traces.run,
    "live_stream": live_stream.run,
    "footprint": footprint.run,
    "recovery": recovery.run,
    "level_drops": level_drops.run,
    "level_drops_odd": level_drops.run_odd,
    "order_drops": order_drops.run,
    "rules": rules.run,
}
