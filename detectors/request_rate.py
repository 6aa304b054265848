"""Requests a second of each route, measured from the spans that were stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from detectors.traces.columns import ints, matching
from detectors.traces.frame import CONSUMER, SERVER

Route = tuple[str, str]  # service, route
_MAX_ROUTES = 5_000
_MAX_SAVED_ROUTES = 500
_LEAST_WINDOW_S = 10.0


class RequestRates:
    """Counts of entry spans by arrival, over a sliding window.

    Args:
        window_s: Over how long a rate is measured; what is older is forgotten.
    """

    def __init__(self, window_s: float) -> None:
        self._window_ms = int(window_s * 1_000)
        self._counts: dict[Route, list[tuple[int, int]]] = {}
        self._since_ms: int | None = None

    def count(self, spans: pa.Table, now_ms: int) -> None:
        """Add the requests among newly read spans."""
        if self._since_ms is None:
            self._since_ms = now_ms
        for route, number in _requests(spans):
            if route in self._counts or len(self._counts) < _MAX_ROUTES:
                self._counts.setdefault(route, []).append((now_ms, number))
        horizon = now_ms - self._window_ms
        for route in list(self._counts):
            kept = [item for item in self._counts[route] if item[0] > horizon]
            if kept:
                self._counts[route] = kept
            else:
                del self._counts[route]

    def per_second(self, service: str, route: str, now_ms: int) -> float:
        counted = sum(number for _, number in self._counts.get((service, route), ()))
        since_ms = self._since_ms if self._since_ms is not None else now_ms
        observed_s = min(now_ms - since_ms, self._window_ms) / 1_000
        return counted / max(observed_s, _LEAST_WINDOW_S)

    def since(self, service: str, route: str, since_ms: int) -> int:
        """Requests that arrived after `since_ms`, as far as the window reaches."""
        counts = self._counts.get((service, route), ())
        return sum(number for at_ms, number in counts if at_ms > since_ms)

    def dumps(self) -> str:
        """The busiest routes as JSON, so that a restart knows the rates."""
        busiest = sorted(
            self._counts.items(), key=lambda item: -sum(number for _, number in item[1])
        )[:_MAX_SAVED_ROUTES]
        routes = [[service, route, counts] for (service, route), counts in busiest]
        return orjson.dumps({"since_ms": self._since_ms, "routes": routes}).decode()

    def loads(self, text: str) -> None:
        """Take over what `dumps` wrote."""
        data = orjson.loads(text)
        self._since_ms = data.get("since_ms")
        self._counts = {
            (service, route): [(int(at_ms), int(number)) for at_ms, number in counts]
            for service, route, counts in data.get("routes", [])
        }


def _requests(spans: pa.Table) -> Iterator[tuple[Route, int]]:
    if not len(spans):
        return
    kind = ints(spans, "kind")
    begins = np.asarray(spans["parent_span_id"].is_null().to_numpy(), dtype=np.bool_)
    entries = matching(spans, begins | (kind == SERVER) | (kind == CONSUMER))
    texts: list[Any] = [
        entries[column].cast(pa.string()) for column in ("service", "name", "http_route")
    ]
    service, name, routes = texts
    named: Any = pc.equal(routes.fill_null(""), pa.scalar(""))
    route: Any = pc.if_else(named, name, routes)
    table = pa.table({"service": service, "route": route})
    grouped = table.group_by(["service", "route"]).aggregate([([], "count_all")])
    for row in grouped.to_pylist():
        yield (row["service"], row["route"]), int(row["count_all"])
