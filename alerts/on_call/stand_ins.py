"""Overrides that people make over the API, beside those of the file. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from alerts.on_call.model import OnCall, Override
from store.errors import BadInput, LimitExceeded

MAX_STAND_INS = 1_000
# What ended so long ago is forgotten; the calendar shows that far back.
KEPT_MS = 65 * 86_400_000


@dataclass(frozen=True, slots=True)
class StandIn:
    """Somebody stands in on one schedule from `start_ms` until `end_ms`."""

    id: str
    schedule: str
    user: str
    start_ms: int
    end_ms: int
    created_by: str
    created_ms: int


def check(made: StandIn, known: Iterable[StandIn]) -> None:
    """Whether one may be kept beside those that are known.

    Raises:
        BadInput: Another schedule has that id.
        LimitExceeded: There are too many already.
    """
    by_id = {one.id: one for one in known}
    if made.id in by_id and by_id[made.id].schedule != made.schedule:
        raise BadInput(f"another schedule has an override {made.id!r}", hint="choose another id")
    if len(by_id) >= MAX_STAND_INS and made.id not in by_id:
        raise LimitExceeded(
            f"there are {MAX_STAND_INS} overrides already",
            reason="overrides",
            hint="delete some that are over",
        )


def with_stand_ins(on_call: OnCall, stand_ins: Iterable[StandIn]) -> OnCall:
    """The schedules with these overrides over their own; of two the one made last holds.

    One whose schedule or person is not in the file any more has no effect.
    """
    schedules = dict(on_call.schedules)
    for one in sorted(stand_ins, key=lambda one: (one.created_ms, one.id)):
        schedule = schedules.get(one.schedule)
        if schedule is not None and one.user in on_call.users:
            override = Override(one.user, one.start_ms, one.end_ms)
            schedules[schedule.name] = replace(schedule, overrides=(*schedule.overrides, override))
    return replace(on_call, schedules=schedules)
