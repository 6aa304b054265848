"""Bytes a sample on disk, and resident memory, once upkeep has settled."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping

from bench import proc
from bench.series import Floats, counters, mixed_values
from bench.server import BenchFailed, Server
from bench.setup import Setup, first_scrape_ms, load
from bench.table import OURS, Row, Table
from bench.targets import PROMETHEUS, VICTORIA, Target

_UPKEEP_S = 60.0
_MIB = 1024 * 1024


def run(setup: Setup) -> list[Table]:
    """A fresh server for each size."""
    rows: list[Row] = []
    for count, scrapes in setup.sizes.footprint:
        values = mixed_values(count, scrapes, seed=3)
        found = {t.name: _measure(setup, t, count, values) for t in setup.targets}
        what = f"{count:,} series × {scrapes} samples"
        for place, (figure, unit) in enumerate(
            (("disk", "bytes/sample"), ("resident", "MiB"), ("resident, not file", "MiB"))
        ):
            of = {name: figures[place] for name, figures in found.items()}
            rows.append(Row(f"{what}: {figure}", unit, "less", of))
    notes = [
        "Of ten series four are counters, three never change, three are gauges with three"
        " decimals. Samples are 15 s apart.",
        "Disk: Warroom's file after a normal stop; a snapshot of Prometheus (blocks, without its"
        " log); VictoriaMetrics' data and index after a forced flush and merge.",
        "Resident memory is taken while the server runs, idle, after that wait and before the"
        " stop. The part that no file backs leaves out pages of mapped files.",
        "Warroom ticks meanwhile: rules, detectors and boards are in its memory.",
    ]
    return [Table("footprint", "Disk and memory", rows, notes)]


def _measure(
    setup: Setup, target: Target, count: int, values: Floats
) -> tuple[float, float, float]:
    scrapes = len(values)
    setup.say(f"disk and memory, {count:,} series: {target.name}")
    with setup.server(target, f"footprint-{count}") as server:
        load(server, counters(count), values, first_scrape_ms(scrapes))
        time.sleep(max(1.0, setup.sizes.settle_s * 3))
        resident, anonymous = proc.memory_bytes(server.pid)
        _ORDERLY[target.name](server)
        stored = proc.tree_bytes(*target.stored(server.directory))
    return stored / (count * scrapes), resident / _MIB, anonymous / _MIB


def _stop(server: Server) -> None:
    server.stop()


def _snapshot(server: Server) -> None:
    status, body = server.ask("POST", "/api/v1/admin/tsdb/snapshot")
    if status != 200:
        raise BenchFailed(f"{server.target.name} made no snapshot: {body[:300]!r}")


def _merge(server: Server) -> None:
    server.get("/internal/force_flush")
    server.get("/internal/force_merge")
    deadline = time.monotonic() + _UPKEEP_S
    quiet = 0
    while quiet < 5:
        time.sleep(0.2)
        quiet = 0 if _merging(server) else quiet + 1
        if time.monotonic() > deadline:
            raise BenchFailed(f"{server.target.name} still merges after {_UPKEEP_S:.0f} s")


def _merging(server: Server) -> bool:
    text = server.get("/metrics")[1].decode()
    active = re.findall(r"^vm_active_(?:force_)?merges(?:\{[^}]*\})? (\d+)", text, re.MULTILINE)
    return any(int(number) for number in active)


# How each puts its data in order before it is weighed.
_ORDERLY: Mapping[str, Callable[[Server], None]] = {
    OURS: _stop,
    PROMETHEUS: _snapshot,
    VICTORIA: _merge,
}
