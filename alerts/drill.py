"""Drills: a marked page through a chosen route, the same way as an earnest one from the outbox on.

No alert, group or incident is made: the wall stays as it is. What would have held a real alert back
(a silence, a mute time) is told, and the drill goes out all the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from alerts.notification import EventAction, Notice, NoticeAlert
from alerts.route_tree import Route, Routing
from alerts.silences import Silence, silenced_by
from alerts.stages.mute import muted_by
from store.errors import BadInput
from store.model import Labels
from store.timestamps import rfc3339

ALERT_NAME = "WarroomDrill"
MARK = "drill"
_MAX_LABELS = 32


@dataclass(frozen=True, slots=True)
class DrillRoute:
    """A route that the drill takes; `held_by` is what would hold a real alert back there."""

    receiver: str
    route: str
    kinds: tuple[str, ...]
    held_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Drill:
    """A drill, and the notices that make it."""

    id: str
    routes: tuple[DrillRoute, ...]
    notices: tuple[Notice, ...]


def lanes_of(drill_id: str) -> str:
    """What the lanes of a drill begin with."""
    return f"{MARK}/{drill_id}/"


def plan(
    labels: Mapping[str, str],
    routing: Routing,
    silences: Sequence[Silence],
    now_ms: int,
    *,
    external_url: str = "",
) -> Drill:
    """The drill for an alert with these labels.

    Raises:
        BadInput: There are too many labels, or nobody is behind the route.
    """
    if len(labels) > _MAX_LABELS:
        raise BadInput(f"a drill takes at most {_MAX_LABELS} labels")
    marked = Labels.of({"alertname": ALERT_NAME, "severity": "info", **labels, MARK: "true"})
    seed = f"{marked.pairs}{now_ms}"
    identity = hashlib.sha256(seed.encode()).hexdigest()[:12]
    routes, notices = [], []
    for place, route in enumerate(routing.route.match(marked)):
        receiver = routing.receivers[route.receiver]
        kinds = tuple(one.kind for one in receiver.integrations)
        held = _held_by(route, routing, silences, marked, now_ms)
        routes.append(DrillRoute(route.receiver, route.key, kinds, held))
        for index, integration in enumerate(receiver.integrations):
            lane = f"{lanes_of(identity)}{place}/{index}"
            ends = [EventAction.RESOLVE] if integration.send_resolved else []
            for action in (EventAction.TRIGGER, *ends):
                one = _notice(lane, action, route, index, marked, now_ms)
                notices.append(replace(one, external_url=external_url))
    if not notices:
        names = ", ".join(route.receiver for route in routes)
        raise BadInput(
            f"nobody is behind the receiver {names}: a drill would reach no one",
            hint="give labels that another route takes, such as severity=page",
        )
    return Drill(identity, tuple(routes), tuple(notices))


def _held_by(
    route: Route, routing: Routing, silences: Sequence[Silence], labels: Labels, now_ms: int
) -> tuple[str, ...]:
    muted = muted_by(route, routing.time_intervals, now_ms)
    mutes = (f"{muted[0]}: {', '.join(muted[1])}",) if muted else ()
    return (*mutes, *(f"silence {name}" for name in silenced_by(silences, labels, now_ms)))


def _notice(
    lane: str, action: EventAction, route: Route, index: int, labels: Labels, now_ms: int
) -> Notice:
    firing = action is EventAction.TRIGGER
    alert = NoticeAlert(
        fingerprint=lane,
        firing=firing,
        labels=labels,
        annotations={
            "summary": "DRILL: Warroom tests this route, nothing is wrong",
            "cause": "a person asked for a drill",
            "since": rfc3339(now_ms),
            "fix": "nothing to do: the drill ends by itself",
        },
        starts_ms=now_ms,
        ends_ms=None if firing else now_ms,
    )
    digest = hashlib.sha256(lane.encode()).hexdigest()
    return Notice(
        id=f"msg_{action.value[:3]}_{digest[:32]}",
        lane=lane,
        action=action,
        receiver=route.receiver,
        integration=index,
        group_key=route.group_key(route.group_labels(labels)),
        dedup_key=f"{MARK}-{digest}",
        group_labels=route.group_labels(labels),
        alerts=(alert,),
        reason=MARK,
        created_ms=now_ms,
    )
