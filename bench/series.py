"""Series of a shop, and their samples as remote-write requests.

A request's bytes are made once for a set of series; for each scrape only values and times are
put in, by columns. Values are made like those of real exporters: of ten series four are counters
that move a little each scrape, three never change, three are gauges with three decimals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cramjam
import numpy as np
import numpy.typing as npt

from bench.wire import post

SCRAPE_MS = 15_000
REQUEST_SAMPLES = 2_000  # what Prometheus sends at once by default
COUNTER = "shop_requests_total"
BUCKET = "shop_request_seconds_bucket"
BOUNDS = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "+Inf")
_SERIES_AN_INSTANCE = 100
_ROUTES = 50
# Milliseconds of our age take six bytes as a varint, so every sample has one length.
_VALUE_BYTES, _TIME_BYTES = 8, 6
Labels = tuple[tuple[str, str], ...]
Floats = npt.NDArray[np.float64]


def counters(count: int) -> list[Labels]:
    """`shop_requests_total` by instance, route and status."""
    return [
        (
            ("__name__", COUNTER),
            ("instance", f"web-{i // _SERIES_AN_INSTANCE:04d}:8000"),
            ("job", "shop"),
            ("method", "GET"),
            ("route", f"/shop/section-{i % _ROUTES}/"),
            ("status", ("200", "500")[i // _ROUTES % 2]),
        )
        for i in range(count)
    ]


def buckets(count: int) -> list[Labels]:
    """`shop_request_seconds_bucket`: ten bounds by instance and route."""
    return [
        (
            ("__name__", BUCKET),
            ("instance", f"web-{i // _SERIES_AN_INSTANCE:04d}:8000"),
            ("job", "shop"),
            ("le", BOUNDS[i % len(BOUNDS)]),
            ("route", f"/shop/section-{i // len(BOUNDS) % _ROUTES}/"),
        )
        for i in range(count)
    ]


def counter_values(count: int, scrapes: int, seed: int) -> Floats:
    """A row a scrape: counters that grow by a few each time."""
    steps = np.random.default_rng(seed).poisson(20.0, (scrapes, count))
    return np.cumsum(steps, axis=0, dtype=np.float64)


def bucket_values(count: int, scrapes: int, seed: int) -> Floats:
    """A row a scrape: cumulative over time and over the bounds."""
    width = len(BOUNDS)
    steps = np.random.default_rng(seed).poisson(3.0, (scrapes, -(-count // width), width))
    by_time = np.cumsum(steps, axis=0, dtype=np.float64)
    return np.cumsum(by_time, axis=2).reshape(scrapes, -1)[:, :count]


def mixed_values(count: int, scrapes: int, seed: int) -> Floats:
    """A row a scrape: four counters, three constants and three gauges of ten series."""
    random = np.random.default_rng(seed)
    values = counter_values(count, scrapes, seed)
    kind = np.arange(count) % 10
    still, moving = (kind >= 4) & (kind < 7), kind >= 7
    values[:, still] = values[:1, still]
    walk = np.cumsum(random.normal(0, 0.5, (scrapes, int(moving.sum()))), axis=0)
    values[:, moving] = np.round(100 + walk, 3)
    return values


@dataclass(frozen=True, slots=True)
class Template:
    """A request's bytes for a run of series, and where values and times stand in them."""

    first: int
    count: int
    plain: npt.NDArray[np.uint8]
    value_at: npt.NDArray[np.int64]

    @classmethod
    def of(cls, series: Sequence[Labels], first: int) -> Template:
        parts: list[bytes] = []
        ends = np.empty(len(series), dtype=np.int64)
        size = 0
        for place, labels in enumerate(series):
            parts.append(_time_series(labels))
            size += len(parts[-1])
            ends[place] = size
        value_at = ends - _TIME_BYTES - 1 - _VALUE_BYTES
        return cls(first, len(series), np.frombuffer(b"".join(parts), np.uint8), value_at)

    def filled(self, values: Floats, ts_ms: int) -> bytes:
        """With one sample a series."""
        body = self.plain.copy()
        mine = np.ascontiguousarray(values[self.first : self.first + self.count])
        places = self.value_at[:, None] + np.arange(_VALUE_BYTES)
        body[places] = mine.view(np.uint8).reshape(-1, _VALUE_BYTES)
        places = self.value_at[:, None] + _VALUE_BYTES + 1 + np.arange(_TIME_BYTES)
        body[places] = np.frombuffer(_varint(ts_ms), np.uint8)
        return body.tobytes()


def requests(
    series: Sequence[Labels],
    values: Floats,
    first_ms: int,
    connections: int,
    interval_ms: int = SCRAPE_MS,
) -> list[list[bytes]]:
    """Requests by connection. A connection owns its series, so their samples stay in order."""
    bounds = np.linspace(0, len(series), connections + 1).astype(int).tolist()
    runs = pairwise(bounds)
    return [list(_of_connection(series[a:b], a, values, first_ms, interval_ms)) for a, b in runs]


def _of_connection(
    series: Sequence[Labels], first: int, values: Floats, first_ms: int, interval_ms: int
) -> Iterator[bytes]:
    templates = [
        Template.of(series[at : at + REQUEST_SAMPLES], first + at)
        for at in range(0, len(series), REQUEST_SAMPLES)
    ]
    scrapes = max(1, REQUEST_SAMPLES // max(1, len(series)))
    for start in range(0, len(values), scrapes):
        together = range(start, min(start + scrapes, len(values)))
        for template in templates:
            body = b"".join(
                template.filled(values[at], first_ms + at * interval_ms) for at in together
            )
            packed = bytes(cramjam.snappy.compress_raw(body))
            yield post("/api/v1/write", packed, "application/x-protobuf", "snappy")


def _time_series(labels: Labels) -> bytes:
    """A TimeSeries field with one sample of value and time yet to be filled in."""
    body = b"".join(
        _field(1, _field(1, name.encode()) + _field(2, value.encode())) for name, value in labels
    )
    sample = b"\x09" + bytes(_VALUE_BYTES) + b"\x10" + bytes(_TIME_BYTES)
    return _field(1, body + _field(2, sample))


def _field(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
