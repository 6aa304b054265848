"""Who is on call, who stands in, schedules for calendars, and escalations that run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from alerts.engine import AlertEngine
from alerts.escalation.steps import Escalation
from alerts.on_call.ical import calendar_of
from alerts.on_call.model import OnCall, Schedule
from alerts.on_call.stand_ins import StandIn
from alerts.on_call.who import DAY_MS, Shift, instant_ms, now_and_next
from alerts.route_tree import Routing
from api.errors import NotFound
from api.shapes import Json
from store.errors import BadInput
from store.timestamps import rfc3339

_MAX_COMING = 8
_LONGEST_MS = 400 * DAY_MS
Id = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class OverrideRequest(BaseModel):
    """Body of `PUT /on-call/{schedule}/overrides/{id}`.

    Times without an offset are by the clock of the schedule's time zone, as in the file.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    user: str = Field(min_length=1, max_length=128)
    from_: datetime | None = Field(default=None, alias="from")
    until: datetime
    by: str = Field(default="someone", max_length=256)


def router(engine: AlertEngine, now: Callable[[], int]) -> APIRouter:
    """`/on-call…`: schedules, overrides and calendars."""
    routes = APIRouter(prefix="/api/warroom/v1", tags=["on-call"])

    @routes.get("/on-call")
    async def on_call() -> Json:
        return await run_in_threadpool(_told, engine, now())

    @routes.get("/on-call/{schedule}.ics")
    async def calendar(schedule: str) -> Response:
        text = await run_in_threadpool(calendar_of, _known(engine, schedule), now())
        return Response(text, media_type="text/calendar; charset=utf-8")

    @routes.get("/on-call/{schedule}/overrides")
    async def overrides(schedule: str) -> Json:
        _known(engine, schedule)
        found = await run_in_threadpool(engine.stand_ins)
        mine = [_override(one) for one in found if one.schedule == schedule]
        return {"overrides": mine, "next": None}

    @routes.put("/on-call/{schedule}/overrides/{override_id}")
    async def stand_in(schedule: str, override_id: Id, body: OverrideRequest) -> Json:
        plan = _known(engine, schedule)
        made = _stand_in(plan, override_id, body, now())
        if made.user not in engine.routing.on_call.users:
            known = ", ".join(sorted(engine.routing.on_call.users))
            raise BadInput(f"there is no user {made.user!r}", hint=f"known are {known}")
        await run_in_threadpool(engine.stand_in, made)
        return _override(made)

    @routes.delete("/on-call/{schedule}/overrides/{override_id}", status_code=204)
    async def end(schedule: str, override_id: Id) -> Response:
        if not await run_in_threadpool(engine.end_stand_in, schedule, override_id):
            raise NotFound(
                f"the schedule {schedule!r} has no override {override_id!r} made here",
                hint="those of the file are changed in the file",
            )
        return Response(status_code=204)

    return routes


def _known(engine: AlertEngine, schedule: str) -> Schedule:
    found = engine.routing.on_call.schedules.get(schedule)
    if found is None:
        raise NotFound(f"there is no schedule {schedule!r}", hint="see GET /on-call")
    return found


def _stand_in(plan: Schedule, override_id: str, body: OverrideRequest, now_ms: int) -> StandIn:
    start_ms = now_ms if body.from_ is None else _instant(body.from_, plan)
    end_ms = _instant(body.until, plan)
    if end_ms <= now_ms:
        raise BadInput("the override ended already", hint="until must be in the future")
    if not start_ms < end_ms <= min(start_ms, now_ms) + _LONGEST_MS:
        raise BadInput(
            "until must be after from, and at most 400 days after from and after now",
            hint="correct one of them",
        )
    return StandIn(override_id, plan.name, body.user, start_ms, end_ms, body.by, now_ms)


def _instant(at: datetime, plan: Schedule) -> int:
    try:
        return round(at.timestamp() * 1000) if at.tzinfo else instant_ms(at, plan.time_zone)
    except (OverflowError, ValueError, OSError) as exc:
        raise BadInput(f"{at.isoformat()} is no time that can be kept") from exc


def _override(one: StandIn) -> Json:
    return {
        "id": one.id,
        "schedule": one.schedule,
        "user": one.user,
        "from": rfc3339(one.start_ms),
        "until": rfc3339(one.end_ms),
        "created_by": one.created_by,
        "created_at": rfc3339(one.created_ms),
    }


def _told(engine: AlertEngine, now_ms: int) -> Json:
    routing = engine.routing
    plan: OnCall = routing.on_call
    return {
        "schedules": [_schedule(schedule, now_ms) for schedule in plan.schedules.values()],
        "escalations": [_escalation(one, routing) for one in engine.escalations()],
    }


def _schedule(schedule: Schedule, now_ms: int) -> Json:
    first, *rest = now_and_next(schedule, now_ms)
    # The last one is cut where the look ahead ends.
    coming = rest[:-1]
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
