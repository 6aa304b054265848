"""Where alerts go under one routing: each route that takes them, with the group there."""

from __future__ import annotations

from collections.abc import Container

from alerts.grouping import group_id
from alerts.route_tree import Route, Routing
from store.model import Labels

# A route with the labels and the id of the alert's group there.
Place = tuple[Route, Labels, str]


class Places:
    """Remembers where alerts went, by alert and by those labels that the routing looks at.

    Of fifty thousand alerts that begin at once few differ in these.
    """

    def __init__(self, routing: Routing) -> None:
        self.routing = routing
        self._names = _names(routing)
        self._of_alert: dict[str, tuple[Place, ...]] = {}
        self._of_labels: dict[tuple[str | None, ...], tuple[Place, ...]] = {}

    def of(self, fingerprint: str, labels: Labels) -> tuple[Place, ...]:
        """Where an alert goes."""
        found = self._of_alert.get(fingerprint)
        if found is None:
            found = self._of_alert[fingerprint] = self._alike(labels)
        return found

    def kept(self, known: Container[str], count: int) -> Places:
        """These, or when they hold far more than the `count` alerts that are known, only those."""
        if len(self._of_alert) <= 2 * count + 1_000:
            return self
        left = Places(self.routing)
        left._of_alert = {key: place for key, place in self._of_alert.items() if key in known}
        return left

    def _alike(self, labels: Labels) -> tuple[Place, ...]:
        if self._names is None:
            return self._found(labels)
        values = labels.to_dict()
        key = tuple([values.get(name) for name in self._names])
        found = self._of_labels.get(key)
        if found is None:
            found = self._of_labels[key] = self._found(labels)
        return found

    def _found(self, labels: Labels) -> tuple[Place, ...]:
        found = []
        for route in self.routing.route.match(labels):
            group_labels = route.group_labels(labels)
            found.append((route, group_labels, group_id(route, group_labels)))
        return tuple(found)


def _names(routing: Routing) -> tuple[str, ...] | None:
    """The labels that routes match or group by; None when a route groups by all of them."""
    names: set[str] = set()
    for route in routing.route.walk():
        if route.group_by is None:
            return None
        names |= {matcher.name for matcher in route.matchers}
        names.update(route.group_by)
    return tuple(sorted(names))
