"""Groups of alerts: who belongs together, and when a group is due."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from alerts.route_tree import Route
from store.model import Labels

# Alertmanager looks for empty groups this often; until then a group keeps its rhythm.
MAINTENANCE_MS = 30_000


@dataclass(frozen=True, slots=True)
class Group:
    """Alerts of one route with the same group labels.

    Attributes:
        id: Of the route and the group labels; unique where Alertmanager's key is not.
        key: Alertmanager's group key.
        next_flush_ms: When it is looked at next.
        last_flush_ms: When it was looked at last; None before the first time.
    """

    id: str
    key: str
    route_id: str
    receiver: str
    labels: Labels
    created_ms: int
    next_flush_ms: int
    last_flush_ms: int | None = None

    @property
    def dedup_key(self) -> str:
        """The key under which a paging service knows this group, as Alertmanager makes it."""
        return hashlib.sha256(self.key.encode()).hexdigest()

    def flushed(self, route: Route, now_ms: int) -> Group:
        """The group after a flush at `now_ms`: the next one keeps the rhythm of the ones before."""
        return replace(self, last_flush_ms=now_ms, next_flush_ms=self._following(route, now_ms))

    def empty(self, route: Route, now_ms: int) -> Group | None:
        """The group when nothing is in it; None when maintenance came by since the last flush.

        An alert that comes back before is told at the next flush, as with Alertmanager.
        """
        since_ms = self.created_ms if self.last_flush_ms is None else self.last_flush_ms
        if since_ms // MAINTENANCE_MS != now_ms // MAINTENANCE_MS:
            return None
        if self.next_flush_ms > now_ms:
            return self
        return replace(self, next_flush_ms=self._following(route, now_ms))

    def _following(self, route: Route, now_ms: int) -> int:
        following_ms = min(self.next_flush_ms, now_ms) + route.group_interval_ms
        return following_ms if following_ms > now_ms else now_ms + route.group_interval_ms


def group_id(route: Route, labels: Labels) -> str:
    """A short name that stays the same while the route and the labels do."""
    return hashlib.sha256(f"{route.id}\n{route.group_key(labels)}".encode()).hexdigest()[:40]


def new_group(route: Route, labels: Labels, now_ms: int) -> Group:
    """A group at its first alert: it waits `group_wait` for others to join."""
    return Group(
        id=group_id(route, labels),
        key=route.group_key(labels),
        route_id=route.id,
        receiver=route.receiver,
        labels=labels,
        created_ms=now_ms,
        next_flush_ms=now_ms + route.group_wait_ms,
    )


def joined(group: Group, route: Route, starts_ms: int, now_ms: int) -> Group:
    """The group after an alert joined: one that is older than `group_wait` waits no longer.

    A route that was given another receiver takes its groups along.
    """
    if group.receiver != route.receiver:
        group = replace(group, receiver=route.receiver)
    overdue = starts_ms + route.group_wait_ms < now_ms
    if group.last_flush_ms is None and overdue and group.next_flush_ms > now_ms:
        return replace(group, next_flush_ms=now_ms)
    return group
