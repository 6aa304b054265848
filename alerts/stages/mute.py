"""Mute: a route says nothing in its mute intervals, nor outside its active ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alerts.notification import Held
from alerts.route_tree import Route
from alerts.state import AlertRecord
from alerts.time_intervals import TimeInterval

Intervals = Mapping[str, Sequence[TimeInterval]]


def muted_by(route: Route, intervals: Intervals, now_ms: int) -> tuple[str, tuple[str, ...]] | None:
    """The reason and the intervals that mute a route now; None while it may speak."""
    if route.active_time_intervals and not any(
        _holds(name, intervals, now_ms) for name in route.active_time_intervals
    ):
        return "outside_active_time_interval", route.active_time_intervals
    muting = tuple(name for name in route.mute_time_intervals if _holds(name, intervals, now_ms))
    return ("in_mute_time_interval", muting) if muting else None


def _holds(name: str, intervals: Intervals, now_ms: int) -> bool:
    return any(interval.contains(now_ms) for interval in intervals.get(name, ()))


def apply(
    alerts: Sequence[AlertRecord], route: Route, intervals: Intervals, now_ms: int
) -> tuple[list[AlertRecord], list[Held]]:
    """All alerts, or none with the intervals that mute the route."""
    muted = muted_by(route, intervals, now_ms)
    if muted is None:
        return list(alerts), []
    reason, names = muted
    return [], [Held(alert.fingerprint, "mute", reason, names) for alert in alerts]
