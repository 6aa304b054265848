"""Counts of HTTP requests by service and route, whichever semantic convention exports them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

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
        name: Without `_count` and `_bucket`; empty where requests are counted and not timed.
        unit_s: One unit of its bounds in seconds.
        counter: What counts the requests, where that is not the histogram's own `_count`.
        method: The label of the request's method.
    """

    name: str
    route: str
    status: str
    unit_s: float = 1.0
    counter: str = ""
    method: str = "method"

    def metric(self, suffix: str) -> str:
        """The series of `_count`, `_bucket` or `_sum`; empty where there is none."""
        if suffix == "_count" and self.counter:
            return self.counter
        return f"{self.name}{suffix}" if self.name else ""


@dataclass(frozen=True, slots=True)
class Convention:
    """How a library names its histogram; whoever writes the program chooses the labels.

    Attributes:
        family: The names by default.
        routes: Other labels that may name the route; likewise `statuses`.
    """

    family: HttpFamily
    routes: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label that a route or a status may stand in."""
        return (self.family.route, *self.routes, self.family.status, *self.statuses)

    def families(self, series: Iterable[Labels]) -> dict[str, HttpFamily]:
        """What each job calls its route and its status, by the labels that it has."""
        seen: dict[str, set[str]] = {}
        for one in series:
            names = seen.setdefault(one.get("job"), set())
            names.update(name for name in self.labels if one.get(name))
        return {job: self._chosen(names) for job, names in seen.items()}

    def _chosen(self, names: set[str]) -> HttpFamily:
        default = self.family
        route = next((name for name in self.routes if name in names), default.route)
        status = next((name for name in self.statuses if name in names), default.status)
        return replace(
            default,
            route=default.route if default.route in names else route,
            status=default.status if default.status in names else status,
        )


_ROUTES = ("route", "path", "endpoint", "url", "uri", "view")
_STATUSES = ("status_code", "status")
# Stable convention first; of a job that exports several, the first with a status is judged.
CONVENTIONS = (
    Convention(
        HttpFamily(
            "http_server_request_duration_seconds",
            "http_route",
            "http_response_status_code",
            method="http_request_method",
        )
    ),
    # Django's instrumentation writes the route into the target.
    Convention(
        HttpFamily(
            "http_server_duration_milliseconds",
            "http_target",
            "http_status_code",
            0.001,
            method="http_method",
        ),
        ("http_route",),
    ),
    # Micrometer (Spring Boot, Quarkus).
    Convention(HttpFamily("http_server_requests_seconds", "uri", "status")),
    # What Prometheus's own clients are shown with: Go, Node, FastAPI and others.
    Convention(HttpFamily("http_request_duration_seconds", "handler", "code"), _ROUTES, _STATUSES),
    # prometheus_flask_exporter, django-prometheus.
    Convention(
        HttpFamily("flask_http_request_duration_seconds", "path", "status"),
        ("url_rule", "endpoint"),
    ),
    Convention(
        HttpFamily(
            "django_http_requests_latency_seconds_by_view_method",
            "view",
            "status",
            counter="django_http_responses_total_by_status_view_method_total",
        )
    ),
    Convention(
        HttpFamily("", "handler", "code", counter="http_requests_total"), _ROUTES, _STATUSES
    ),
)


@dataclass(frozen=True, slots=True)
class Route:
    """One route of one service, as its series name it; `method` where only one is meant."""

    family: HttpFamily
    job: str
    route: str
    method: str = ""

    @property
    def service(self) -> str:
        """`service.name`, without the namespace that a job may carry."""
        return self.job.rpartition("/")[2]

    @property
    def name(self) -> str:
        return f"{self.method} {self.route or self.service}".strip()

    @property
    def labels(self) -> dict[str, str]:
        method = {self.family.method: self.method} if self.method else {}
        return {"job": self.job, self.family.route: self.route, **method}

    def selector(self, suffix: str, *more: str) -> str:
        """PromQL of this route's series."""
        pairs = [f'{name}="{quoted(value)}"' for name, value in self.labels.items()]
        return f"{self.family.metric(suffix)}{{{','.join([*pairs, *more])}}}"


@dataclass(frozen=True, slots=True)
class RouteCounts:
    """Requests of a route, and those that the server failed, for each step.

    Attributes:
        statuses: The failed ones by status code.
        methods: The same of each method by itself, where there are several and requests failed.
    """

    route: Route
    steps_ms: Int64Array
    requests: Float64Array
    errors: Float64Array
    statuses: dict[str, Float64Array]
    methods: tuple[RouteCounts, ...] = ()


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


def families_of(
    querier: Querier, matcher: str, start_ms: int, end_ms: int
) -> tuple[HttpFamily, ...]:
    """How the jobs that `matcher` selects named their requests, those with a status first.

    Raises:
        QueryError: The series cannot be read.
    """
    told: list[HttpFamily] = []
    untold: list[HttpFamily] = []
    window_s = max((end_ms - start_ms) // 1_000, 1)
    for convention in CONVENTIONS:
        by = ", ".join(("job", *convention.labels))
        metric = f"{convention.family.metric('_count')}{{{matcher}}}"
        expr = f"group by ({by}) (last_over_time({metric}[{window_s}s]))"
        series = querier.instant(expr, end_ms).series
        for family in convention.families(series).values():
            has_status = any(one.get(family.status) for one in series)
            (told if has_status else untold).append(family)
    return tuple(dict.fromkeys((*told, *untold)))


def read_counts(
    querier: Querier, start_ms: int, end_ms: int, step_ms: int
) -> Iterator[RouteCounts]:
    """Every route that had requests, the busiest first.

    Raises:
        QueryError: The series cannot be read.
    """
    for route, steps_ms, rows in _read(querier, "_count", start_ms, end_ms, step_ms):
        counts = _counts(route, steps_ms, rows)
        yield replace(counts, methods=_methods(counts, rows)) if counts.errors.any() else counts


def _methods(counts: RouteCounts, rows: _Rows) -> tuple[RouteCounts, ...]:
    route = counts.route
    parts: dict[str, _Rows] = {}
    for labels, increase in rows.items():
        parts.setdefault(labels.get(route.family.method), {})[labels] = increase
    if len(parts) < 2:
        return ()
    return tuple(
        _counts(replace(route, method=method), counts.steps_ms, part)
        for method, part in parts.items()
    )


def _counts(route: Route, steps_ms: Int64Array, rows: _Rows) -> RouteCounts:
    empty = np.zeros(len(steps_ms))
    statuses: dict[str, Float64Array] = {}
    for labels, increase in rows.items():
        status = labels.get(route.family.status)
        if server_failed(status):
            statuses[status] = statuses.get(status, empty) + increase
    requests = sum(rows.values(), start=empty)
    errors = sum(statuses.values(), start=empty)
    return RouteCounts(route, steps_ms, requests, errors, statuses)


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
    """Each job by the first convention that tells its statuses, else by the first of all."""
    jobs: dict[str, tuple[HttpFamily, Int64Array, _Routes]] = {}
    settled: set[str] = set()
    for convention in CONVENTIONS:
        metric = convention.family.metric(suffix)
        matrix = querier.range(metric, start_ms, end_ms, step_ms) if metric else None
        if matrix is None or not matrix.series:
            continue
        # Of a method by itself nobody asks how long it took.
        method = (convention.family.method,) if suffix == "_count" else ()
        kept = ("job", "le", *convention.labels, *method)
        increases = summed(matrix, kept, _PROCESS)
        families = convention.families(increases.values)
        families = {job: family for job, family in families.items() if job not in settled}
        for job, routes in _by_route(families, increases.values).items():
            family = families[job]
            told = suffix != "_count" or any(
                labels.get(family.status) for rows in routes.values() for labels in rows
            )
            if told:
                settled.add(job)
            if told or job not in jobs:
                jobs[job] = family, increases.steps_ms, routes
    for job, (family, steps_ms, routes) in jobs.items():
        for route in sorted(routes, key=lambda one: (-_sum(routes[one]), one))[:_MAX_ROUTES]:
            yield Route(family, job, route), steps_ms, routes[route]


_Routes = dict[str, _Rows]


def _by_route(
    families: Mapping[str, HttpFamily], increases: Mapping[Labels, Float64Array]
) -> dict[str, _Routes]:
    """Each job's increases by route, then by status and bucket."""
    jobs: dict[str, _Routes] = {}
    for labels, increase in increases.items():
        job = labels.get("job")
        family = families.get(job)
        if family is not None:
            rows = jobs.setdefault(job, {}).setdefault(labels.get(family.route), {})
            key = labels.keep(("job", "le", family.route, family.status, family.method))
            rows[key] = rows[key] + increase if key in rows else increase
    return jobs


def _sum(rows: _Rows) -> float:
    return float(sum(increase.sum() for increase in rows.values()))


def server_failed(status: str) -> bool:
    """Whether a status label says that the server failed the request."""
    if status.isdecimal():
        return int(status) >= FIRST_SERVER_ERROR
    return status.lower() == "5xx"


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
