"""Counts of HTTP requests by service and route, whichever semantic convention exports them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from detectors.increases import summed
from store.model import Float64Array, Int64Array, Labels
from store.ports import Querier

# A target that is no route makes a series for each path: then only the busiest are judged.
_MAX_ROUTES = 2_000
_PROCESS = ("job", "instance")
FIRST_SERVER_ERROR = 500


@dataclass(frozen=True, slots=True)
class HttpFamily:
    """A histogram of request durations, and the names of its labels.

    Attributes:
        name: Without `_count` and `_bucket`.
        unit_s: One unit of its bounds in seconds.
    """

    name: str
    route: str
    status: str
    unit_s: float


# Stable convention first; where both are exported, the first is judged.
FAMILIES = (
    HttpFamily(
        "http_server_request_duration_seconds", "http_route", "http_response_status_code", 1.0
    ),
    HttpFamily("http_server_duration_milliseconds", "http_target", "http_status_code", 0.001),
)


@dataclass(frozen=True, slots=True)
class Route:
    """One route of one service, as its series name it."""

    family: HttpFamily
    job: str
    route: str

    @property
    def service(self) -> str:
        """`service.name`, without the namespace that a job may carry."""
        return self.job.rpartition("/")[2]

    @property
    def name(self) -> str:
        return self.route or self.service

    @property
    def labels(self) -> dict[str, str]:
        return {"job": self.job, self.family.route: self.route}

    def selector(self, suffix: str, *more: str) -> str:
        """PromQL of this route's series."""
        pairs = [f'{name}="{quoted(value)}"' for name, value in self.labels.items()]
        return f"{self.family.name}{suffix}{{{','.join([*pairs, *more])}}}"


@dataclass(frozen=True, slots=True)
class RouteCounts:
    """Requests of a route, and those that the server failed, for each step.

    Attributes:
        statuses: The failed ones by status code.
    """

    route: Route
    steps_ms: Int64Array
    requests: Float64Array
    errors: Float64Array
    statuses: dict[str, Float64Array]


@dataclass(frozen=True, slots=True)
class RouteDurations:
    """Requests of a route for each step, cumulative by duration.

    Attributes:
        bounds_s: Upper bounds, ascending, the last one infinite.
        counts: A row a bound, a column a step: requests that took no longer.
    """

    route: Route
    steps_ms: Int64Array
    bounds_s: Float64Array
    counts: Float64Array


def read_counts(
    querier: Querier, start_ms: int, end_ms: int, step_ms: int
) -> Iterator[RouteCounts]:
    """Every route that had requests, the busiest first.

    Raises:
        QueryError: The series cannot be read.
    """
    for route, steps_ms, rows in _read(querier, "_count", start_ms, end_ms, step_ms):
        empty = np.zeros(len(steps_ms))
        statuses = {
            labels.get(route.family.status): increase
            for labels, increase in rows.items()
            if server_failed(labels.get(route.family.status))
        }
        yield RouteCounts(
            route,
            steps_ms,
            sum(rows.values(), start=empty),
            sum(statuses.values(), start=empty),
            statuses,
        )


def read_durations(
    querier: Querier, start_ms: int, end_ms: int, step_ms: int
) -> Iterator[RouteDurations]:
    """Every route with a histogram of durations, the busiest first.

    Raises:
        QueryError: The series cannot be read.
    """
    for route, steps_ms, rows in _read(querier, "_bucket", start_ms, end_ms, step_ms):
        bounds: dict[float, Float64Array] = {}
        for labels, increase in rows.items():
            bound = upper_bound(labels.get("le"))
            if bound is not None:
                bounds[bound] = bounds.get(bound, 0.0) + increase
        if np.inf in bounds and len(bounds) > 1:
            ordered = sorted(bounds)
            yield RouteDurations(
                route,
                steps_ms,
                np.array(ordered) * route.family.unit_s,
                np.stack([bounds[bound] for bound in ordered]),
            )


_Rows = dict[Labels, Float64Array]


def _read(
    querier: Querier, suffix: str, start_ms: int, end_ms: int, step_ms: int
) -> Iterator[tuple[Route, Int64Array, _Rows]]:
    told: set[tuple[str, str]] = set()
    for family in FAMILIES:
        matrix = querier.range(f"{family.name}{suffix}", start_ms, end_ms, step_ms)
        kept = ("job", family.route, "le" if suffix == "_bucket" else family.status)
        increases = summed(matrix, kept, _PROCESS)
        routes: dict[tuple[str, str], _Rows] = {}
        for labels, increase in increases.values.items():
            place = (labels.get("job"), labels.get(family.route))
            if place not in told:
                routes.setdefault(place, {})[labels] = increase
        told |= routes.keys()
        busiest = sorted(routes, key=lambda place: (-_sum(routes[place]), place))
        for job, route in busiest[:_MAX_ROUTES]:
            yield Route(family, job, route), increases.steps_ms, routes[job, route]


def _sum(rows: _Rows) -> float:
    return float(sum(increase.sum() for increase in rows.values()))


def server_failed(status: str) -> bool:
    """Whether a status label says that the server failed the request."""
    return status.isdecimal() and int(status) >= FIRST_SERVER_ERROR


def upper_bound(text: str) -> float | None:
    """The bound of a bucket; None where the label is no number."""
    try:
        bound = float(text)
    except ValueError:
        return None
    return None if np.isnan(bound) else bound


def quoted(value: str) -> str:
    """A label's value as it stands between the quotes of a matcher."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
