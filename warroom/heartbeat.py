"""Pings the dead-man's switch while the pipeline works."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import structlog

from alerts.deadman import Deadman, Ping, Pulse, decide, ping
from warroom.telemetry import SelfMetrics

log = structlog.get_logger()

# How often the interval is looked at; it may not be shorter than this.
LOOK_EVERY_S = 5.0


class Heartbeat:
    """Sends a ping each interval, unless Warroom would not page now: then it keeps silent."""

    def __init__(
        self,
        deadman: Callable[[], Deadman | None],
        pulse: Callable[[], Pulse],
        client: httpx.AsyncClient,
        metrics: SelfMetrics,
    ) -> None:
        self._deadman = deadman
        self._pulse = pulse
        self._client = client
        self._metrics = metrics
        self._last_ms = 0

    async def run(self, now_ms: int) -> None:
        """Ping when it is time.

        Raises:
            DeliveryError: The other side did not take it; the next look tries again.
        """
        deadman = self._deadman()
        if deadman is None or now_ms - self._last_ms < deadman.interval_ms:
            return
        verdict = decide(await asyncio.to_thread(self._pulse), now_ms)
        if verdict is not Ping.ALIVE:
            log.error("no ping to the dead-man's switch", reason=str(verdict))
            return
        await ping(deadman, self._client, now_ms)
        self._last_ms = now_ms
        self._metrics.deadman_ping.set(now_ms / 1000)
