"""The alert-quality report, and the notes for whoever takes over."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.concurrency import run_in_threadpool

from alerts.drill import MARK as DRILL
from alerts.engine import AlertEngine
from alerts.incident_log.repository import IncidentRepository
from alerts.ledger.repository import OutboxRepository
from alerts.quality import History, assess
from api.handover import CHANGES, Watch, handover
from api.shapes import Json
from api.times import parse_time
from slos.model import SloStatus
from store.errors import BadInput
from store.timestamps import rfc3339

WEEK_MS = 7 * 86_400_000
SHIFT_MS = 12 * 3_600_000
MAX_SPAN_MS = 400 * 86_400_000
MAX_INCIDENTS = 5_000
MAX_LINES = 100_000
MAX_PAGES = 50_000
Time = Annotated[str, Query(max_length=64)]


@dataclass(frozen=True, slots=True)
class Archive:
    """Where the past of alerts is read."""

    engine: AlertEngine
    incidents: IncidentRepository
    ledger: OutboxRepository
    time_zone: str
    timeline: Callable[[int, int], list[Json]] = lambda _start, _end: []
    slos: Callable[[], Sequence[SloStatus]] = tuple

    def history(self, from_ms: int, until_ms: int) -> History:
        """Incidents, their timelines and pages of a span; `cut` where there are too many."""
        found = self.incidents.between(from_ms, until_ms, limit=MAX_INCIDENTS + 1)
        told = found[:MAX_INCIDENTS]
        lines = self.incidents.lines([incident.id for incident in told], limit=MAX_LINES)
        sent = self.ledger.pages_between(from_ms, until_ms, limit=MAX_PAGES + 1)
        # A drill is no page.
        pages = [one for one in sent if not one.dedup_key.startswith(f"{DRILL}-")]
        cut = (
            len(found) > MAX_INCIDENTS
            or sum(map(len, lines.values())) >= MAX_LINES
            or len(sent) > MAX_PAGES
        )
        return History(told, lines, pages[:MAX_PAGES], cut)


def router(archive: Archive, now: Callable[[], int]) -> APIRouter:
    """`/alerts/quality` and `/incidents/handover`; before the routes of single ones."""
    routes = APIRouter(prefix="/api/warroom/v1", tags=["alerts"])

    @routes.get("/alerts/quality")
    async def quality(
        start: Annotated[str, Query(alias="from", max_length=64)] = "",
        to: Time = "",
    ) -> Json:
        now_ms = now()
        until_ms = parse_time(to, now_ms, now_ms)
        span = parse_time(start, now_ms, until_ms - WEEK_MS), until_ms
        return await run_in_threadpool(_quality, archive, *span)

    @routes.get("/incidents/handover")
    async def hand_over(since: Time = "") -> Response:
        now_ms = now()
        since_ms = parse_time(since, now_ms, now_ms - SHIFT_MS)
        text = await run_in_threadpool(_handover, archive, since_ms, now_ms)
        headers = {"Content-Disposition": 'inline; filename="handover.md"'}
        return Response(text, headers=headers, media_type="text/markdown")

    return routes


def _quality(archive: Archive, from_ms: int, until_ms: int) -> Json:
    if not 0 < until_ms - from_ms <= MAX_SPAN_MS:
        raise BadInput("from must be before to, by at most 400 days")
    told = assess(
        archive.history(from_ms, until_ms),
        archive.engine.routing.on_call,
        from_ms,
        until_ms,
        time_zone=archive.time_zone,
    )
    answer = dataclasses.asdict(told)
    del answer["from_ms"], answer["until_ms"]
    return {
        **answer,
        "from": rfc3339(from_ms),
        "to": rfc3339(until_ms),
        "time_zone": archive.time_zone,
        "noisiest": [{"alert": name, "times": times} for name, times in told.noisiest],
    }


def _handover(archive: Archive, since_ms: int, now_ms: int) -> str:
    if not 0 < now_ms - since_ms <= MAX_SPAN_MS:
        raise BadInput("since must be in the past, by at most 400 days")
    engine = archive.engine
    watch = Watch(
        history=archive.history(since_ms, now_ms),
        silences=engine.silences(),
        on_call=engine.routing.on_call,
        records=engine.snapshot().records,
        slos=archive.slos(),
        changes=[e for e in archive.timeline(since_ms, now_ms) if e["kind"] in CHANGES],
    )
    return handover(watch, since_ms, now_ms)
