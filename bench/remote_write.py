"""Remote write: samples a CPU-second and a wall second, by number of connections."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench.series import SCRAPE_MS, Floats, Labels, counters, mixed_values, requests
from bench.server import Server
from bench.setup import Setup, first_scrape_ms
from bench.table import Row, Table
from bench.targets import Target
from bench.wire import Sender, send_all

WARM_UP_SCRAPES = 10


@dataclass(frozen=True, slots=True)
class _Speed:
    """Medians of the rounds."""

    a_cpu_second: float
    a_wall_second: float
    refused: int


def run(setup: Setup) -> list[Table]:
    """One fresh server for each number of connections."""
    series = counters(setup.sizes.series)
    rows: list[Row] = []
    refused: list[str] = []
    for connections in setup.sizes.connections:
        rounds = _rounds(setup, series, connections)
        speeds: dict[str, _Speed] = {}
        for target in setup.targets:
            setup.say(f"remote write, {connections} connections: {target.name}")
            speed = speeds[target.name] = _measure(setup, target, rounds, connections)
            if speed.refused:
                refused.append(f"{target.name} answered 429 {speed.refused} times")
        plural = "connection" if connections == 1 else "connections"
        of_cpu = {name: speed.a_cpu_second for name, speed in speeds.items()}
        of_wall = {name: speed.a_wall_second for name, speed in speeds.items()}
        rows.append(Row(f"{connections} {plural}, CPU", "samples/CPU s", "more", of_cpu))
        rows.append(Row(f"{connections} {plural}, wall", "samples/s", "more", of_wall))
    samples = setup.sizes.series * setup.sizes.write_scrapes
    notes = [
        f"{setup.sizes.series:,} series; medians of {setup.sizes.rounds} rounds of"
        f" {samples:,} samples after a warm-up; requests are encoded before; up to 2,000 samples"
        " a request.",
        "A 2xx of Warroom says that the samples are in its log on disk and flushed. Prometheus"
        " answers once they are in its log, not flushed; VictoriaMetrics once they are in memory.",
        f"CPU is the server's own, up to {setup.sizes.settle_s:g} s after the last answer of a"
        " round, so that work put off counts. The sender shares the machine: wall figures are low.",
        *refused,
    ]
    return [Table("remote_write", "Remote write", rows, notes)]


def _rounds(setup: Setup, series: Sequence[Labels], connections: int) -> list[list[list[bytes]]]:
    sizes = setup.sizes
    scrapes = WARM_UP_SCRAPES + sizes.rounds * sizes.write_scrapes
    values: Floats = mixed_values(len(series), scrapes, seed=connections)
    first_ms = first_scrape_ms(scrapes)
    cuts = [WARM_UP_SCRAPES + sizes.write_scrapes * n for n in range(sizes.rounds + 1)]
    parts: list[list[list[bytes]]] = []
    for start, end in zip([0, *cuts[:-1]], cuts, strict=True):
        begin_ms = first_ms + start * SCRAPE_MS
        parts.append(requests(series, values[start:end], begin_ms, connections))
    return parts


def _measure(
    setup: Setup, target: Target, rounds: Sequence[Sequence[Sequence[bytes]]], connections: int
) -> _Speed:
    samples = setup.sizes.series * setup.sizes.write_scrapes
    with setup.server(target, f"write-{connections}") as server:
        senders = [Sender(server.port) for _ in range(connections)]
        try:
            send_all(senders, rounds[0])
            time.sleep(setup.sizes.settle_s)
            measured = [_round(setup, server, senders, part) for part in rounds[1:]]
        finally:
            for sender in senders:
                sender.close()
        refused = sum(sender.refused for sender in senders)
    return _Speed(
        a_cpu_second=median(samples / max(cpu_s, 0.01) for cpu_s, _ in measured),
        a_wall_second=median(samples / wall_s for _, wall_s in measured),
        refused=refused,
    )


def _round(
    setup: Setup, server: Server, senders: Sequence[Sender], part: Sequence[Sequence[bytes]]
) -> tuple[float, float]:
    before_s = server.cpu_s()
    wall_s = send_all(senders, part)
    time.sleep(setup.sizes.settle_s)
    return server.cpu_s() - before_s, wall_s
