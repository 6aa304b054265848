"""What every benchmark is given, and what several of them do."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.series import SCRAPE_MS, Floats, Labels, requests
from bench.server import Server
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


def first_scrape_ms(scrapes: int) -> int:
    """The oldest of so many scrapes, of which the newest is now."""
    return int(time.time() * 1000) // SCRAPE_MS * SCRAPE_MS - (scrapes - 1) * SCRAPE_MS


def load(
    server: Server, series: Sequence[Labels], values: Floats, first_ms: int, *, slices: int = 10
) -> None:
    """Fill a server by remote write, a part of the time at once to spare memory."""
    connections = 4
    senders = [Sender(server.port) for _ in range(connections)]
    try:
        size = max(1, -(-len(values) // slices))
        for start in range(0, len(values), size):
            begin_ms = first_ms + start * SCRAPE_MS
            part = requests(series, values[start : start + size], begin_ms, connections)
            send_all(senders, part)
    finally:
        for sender in senders:
            sender.close()
