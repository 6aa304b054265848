"""The only user of APScheduler: named jobs on aligned instants, each failing alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from store.model import UnitHealth
from warroom.clock import Clock

log = structlog.get_logger()

Job = Callable[[int], Awaitable[None]]


class Schedule:
    """Runs jobs every so often; a job that is still running is not started a second time.

    Instants lie on multiples of the interval since the epoch, plus an offset, so that every
    process and every restart evaluates on the same grid. A job gets its grid instant as `now_ms`.
    """

    def __init__(self, now: Clock) -> None:
        self._now = now
        self._scheduler = AsyncIOScheduler(timezone=UTC)
        self._health: dict[str, UnitHealth] = {}

    def every(self, name: str, interval_s: float, job: Job, *, offset_s: float = 0.0) -> None:
        """Run `job` every `interval_s` seconds from the next grid instant on."""
        interval_ms, offset_ms = round(interval_s * 1000), round(offset_s * 1000)
        first_ms = ((self._now() - offset_ms) // interval_ms + 1) * interval_ms + offset_ms
        start = datetime.fromtimestamp(first_ms / 1000, UTC)
        trigger = IntervalTrigger(seconds=interval_s, start_date=start, timezone=UTC)

        async def run() -> None:
            now_ms = (self._now() - offset_ms) // interval_ms * interval_ms + offset_ms
            await self._run(name, job, now_ms)

        self._scheduler.add_job(
            run,
            trigger,
            id=name,
            name=name,
            max_instances=1,
            coalesce=True,
            misfire_grace_time=max(1, int(interval_s)),
            replace_existing=True,
        )

    def cancel(self, name: str) -> None:
        """Run a job no more; one that runs now ends as usual."""
        if self._scheduler.get_job(name) is not None:
            self._scheduler.remove_job(name)
        self._health.pop(name, None)

    async def _run(self, name: str, job: Job, now_ms: int) -> None:
        try:
            await job(now_ms)
        except Exception as exc:
            # The loop boundary: the job's health shows it, the next instant tries again.
            log.exception("job failed", job=name)
            error = f"{type(exc).__name__}: {exc}"
            self._health[name] = UnitHealth(
                f"job/{name}", ok=False, at_ms=now_ms, duration_s=0.0, error=error
            )
        else:
            self._health[name] = UnitHealth(f"job/{name}", ok=True, at_ms=now_ms, duration_s=0.0)

    @property
    def health(self) -> tuple[UnitHealth, ...]:
        return tuple(self._health.values())

    def start(self) -> None:
        self._scheduler.start()

    def stop(self) -> None:
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
