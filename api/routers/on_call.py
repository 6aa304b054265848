"""Who is on call, schedules for calendars, and escalations that run."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Response
from fastapi.concurrency import run_in_threadpool

from alerts.engine import AlertEngine
from alerts.escalation.steps import Escalation
from alerts.on_call.ical import calendar_of
from alerts.on_call.model import OnCall, Schedule
from alerts.on_call.who import DAY_MS, Shift, shifts
from alerts.route_tree import Routing
from api.errors import NotFound
from api.shapes import Json
from store.timestamps import rfc3339

_AHEAD_MS = 35 * DAY_MS
_MAX_COMING = 8


def router(engine: AlertEngine, now: Callable[[], int]) -> APIRouter:
    """`/on-call` and `/on-call/{schedule}.ics`."""
    routes = APIRouter(prefix="/api/warroom/v1", tags=["on-call"])

    @routes.get("/on-call")
    async def on_call() -> Json:
        return await run_in_threadpool(_told, engine, now())

    @routes.get("/on-call/{schedule}.ics")
    async def calendar(schedule: str) -> Response:
        found = engine.routing.on_call.schedules.get(schedule)
        if found is None:
            raise NotFound(f"there is no schedule {schedule!r}", hint="see GET /on-call")
        text = await run_in_threadpool(calendar_of, found, now())
        return Response(text, media_type="text/calendar; charset=utf-8")

    return routes


def _told(engine: AlertEngine, now_ms: int) -> Json:
    routing = engine.routing
    plan: OnCall = routing.on_call
    return {
        "schedules": [_schedule(schedule, now_ms) for schedule in plan.schedules.values()],
        "escalations": [_escalation(one, routing) for one in engine.escalations()],
    }


def _schedule(schedule: Schedule, now_ms: int) -> Json:
    first, *coming = shifts(schedule, now_ms, now_ms + _AHEAD_MS)
    return {
        "name": schedule.name,
        "time_zone": schedule.time_zone,
        "now": _shift(first),
        "next": [_shift(shift) for shift in coming[:_MAX_COMING]],
    }


def _shift(shift: Shift) -> Json:
    return {
        "user": shift.duty.user or None,
        "reason": shift.duty.source.value,
        "from": rfc3339(shift.start_ms),
        "until": rfc3339(shift.end_ms),
    }


def _escalation(one: Escalation, routing: Routing) -> Json:
    policy = routing.on_call.policies.get(one.policy)
    return {
        "receiver": one.first.receiver,
        "policy": one.policy,
        "state": one.state.value,
        "incident_id": one.first.incident_id,
        "step": one.step + 1,
        "steps": len(policy.steps) if policy else 0,
        "next_at": rfc3339(one.next_ms) if one.running else None,
        "told": list(one.told),
    }
