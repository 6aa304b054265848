"""What every benchmark is given, and what several of them do."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from bench.series import SCRAPE_MS, Floats, Labels, requests
from bench.server import BenchFailed, Server
from bench.sizes import Sizes
from bench.table import OURS
from bench.targets import Target
from bench.wire import Sender, send_all


@dataclass(frozen=True, slots=True)
class Setup:
    """Amounts, who is measured, where files go, and where progress is told."""

    sizes: Sizes
    targets: Sequence[Target]
    directory: Path
    watchers: int
    say: Callable[[str], None]

    def server(self, target: Target, name: str, config: str = "") -> Server:
        return Server(target, self.directory / f"{name}-{target.name}", config)

    @property
    def ours(self) -> Target:
        return next(target for target in self.targets if target.name == OURS)


def first_scrape_ms(scrapes: int, interval_ms: int = SCRAPE_MS) -> int:
    """The oldest of so many scrapes, of which the newest is now."""
    return int(time.time() * 1000) // SCRAPE_MS * SCRAPE_MS - (scrapes - 1) * interval_ms


def load(
    server: Server,
    series: Sequence[Labels],
    values: Floats,
    first_ms: int,
    interval_ms: int = SCRAPE_MS,
    *,
    slices: int = 10,
) -> None:
    """Fill a server by remote write, a part of the time at once to spare memory."""
    connections = 4
    senders = [Sender(server.port) for _ in range(connections)]
    try:
        size = max(1, -(-len(values) // slices))
        for start in range(0, len(values), size):
            begin_ms = first_ms + start * interval_ms
            slice_ = values[start : start + size]
            part = requests(series, slice_, begin_ms, connections, interval_ms)
            send_all(senders, part)
    finally:
        for sender in senders:
            sender.close()


def wait_loaded(server: Server, expr: str, end_ms: int, count: int, wait_s: float = 60.0) -> None:
    """Until the newest sample of every series that `expr` selects can be asked for.

    Raises:
        BenchFailed: They do not show in time.
    """
    deadline = time.monotonic() + wait_s
    parameters = {"query": f"count({expr})", "time": f"{end_ms / 1000:.3f}"}
    parameters |= dict(server.target.no_cache)
    seen = 0
    while time.monotonic() < deadline:
        status, body = server.get("/api/v1/query", parameters)
        result = orjson.loads(body)["data"]["result"] if status == 200 else []
        seen = int(result[0]["value"][1]) if result else 0
        if seen == count:
            return
        time.sleep(0.1)
    raise BenchFailed(f"{server.target.name} shows {seen} of {count} series")
