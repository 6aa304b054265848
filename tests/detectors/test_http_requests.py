"""Requests of routes by the names of client libraries: what detectors and comparisons read."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.http_requests import read_durations
from detectors.readings import Window
from detectors.window_reading import Subject, WindowReader
from store.model import Labels, SampleBatch
from store.promql.engine import Engine
from store.testing import open_store

START_MS = 1_700_000_000_000
END_MS = START_MS + 600_000
TIMES = np.arange(START_MS, END_MS + 1, 5_000, dtype=np.int64)
BOUNDS = {"0.1": 0.9, "0.5": 1.0, "+Inf": 1.0}
# Histogram, route, counter, status, one unit in seconds.
LIBRARIES = [
    ("http_server_duration_milliseconds", "http_route", "", "http_status_code", 0.001),
    ("http_server_requests_seconds", "uri", "", "status", 1.0),
    ("http_request_duration_seconds", "handler", "", "code", 1.0),
    ("http_request_duration_seconds", "path", "http_requests_total", "status_code", 1.0),
    (
        "django_http_requests_latency_seconds_by_view_method",
        "view",
        "django_http_responses_total_by_status_view_method_total",
        "status",
        1.0,
    ),
]


def exported(library: tuple[str, str, str, str, float]) -> SampleBatch:
    """Ten requests a second of one route, of which one fails."""
    histogram, route, counter, status, unit_s = library
    place = {"job": "shop", "instance": "a", route: "/checkout"}
    rows: dict[Labels, float] = {}
    for code, per_second in (("200", 9.0), ("503", 1.0)):
        told = {} if counter else {status: code}
        if counter:
            rows[Labels.of({"__name__": counter, **place, status: code})] = per_second
        name = f"{histogram}_count"
        labels = Labels.of({"__name__": name, **place, **told})
        rows[labels] = rows.get(labels, 0.0) + per_second
        for bound, share in BOUNDS.items():
            le = bound if bound == "+Inf" else f"{float(bound) / unit_s:g}"
            bucket = Labels.of({"__name__": f"{histogram}_bucket", **place, **told, "le": le})
            rows[bucket] = rows.get(bucket, 0.0) + per_second * share
    values = np.concatenate([rate * (TIMES - START_MS) / 1_000 for rate in rows.values()])
    index = np.repeat(np.arange(len(rows), dtype=np.int32), len(TIMES))
    return SampleBatch(tuple(rows), index, np.tile(TIMES, len(rows)), values)


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library[0] + library[2])
def test_a_window_is_read_by_the_names_of_each_library(
    library: tuple[str, str, str, str, float],
) -> None:
    with open_store() as store:
        store.append(exported(library)).result(30)
        engine = Engine(store)
        window = Window(START_MS, END_MS)
        reading = WindowReader(engine, store).read(Subject("shop", "/checkout"), window)
        (durations,) = read_durations(engine, START_MS, END_MS, 5_000)
    assert reading.source == "metrics"
    assert reading.errors.share == pytest.approx(0.1, abs=0.01)
    assert reading.errors.total == pytest.approx(6_000, rel=0.02)
    assert reading.durations.total == pytest.approx(6_000, rel=0.02)
    assert durations.route.name == "/checkout"
    assert durations.bounds_s.tolist() == pytest.approx([0.1, 0.5, np.inf])
    assert durations.counts[0].sum() == pytest.approx(0.9 * durations.counts[-1].sum(), rel=0.01)
