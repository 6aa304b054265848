"""A whole shop that sends at a given rate: spans, business events, and targets to scrape.

It sends by the clock, not as fast as it is answered, and does not retry: what the service refuses
is lost to it, and counted. Run it as `python -m bench.full_shop`; it prints one JSON object.
"""

from __future__ import annotations

import argparse
import http.server
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import cycle
from typing import Protocol

import numpy as np
import numpy.typing as npt
import orjson
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from typing_extensions import override

from bench.shop_traces import BODY_SPANS, bodies
from bench.wire import Sender, post

TARGETS = 50
SERIES = 200
SPANS_PER_SECOND = 30_000
EVENTS_PER_SECOND = 500
_DISTINCT_BODIES = 8
BODY_EVENTS = 100
_LATEST_S = 1.0
_STEPS = ("view_item", "add_to_cart", "begin_checkout", "add_payment_info", "purchase")


@dataclass
class Sent:
    """What became of what one connection sent.

    Attributes:
        accepted: Items that were acknowledged.
        statuses: Requests by the status of their answer.
        retry_after: Answers that said when to try again.
        refused: Items of requests that were not acknowledged.
        skipped: Requests that were not sent, because earlier ones were not answered in time.
        behind_s: How late a request was at worst.
    """

    accepted: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    retry_after: int = 0
    refused: int = 0
    skipped: int = 0
    behind_s: float = 0.0


class Stamped:
    """One request of spans that can be sent again as new: other trace ids, the present time."""

    def __init__(self, request: bytes) -> None:
        head, _, body = request.partition(b"\r\n\r\n")
        message = ExportTraceServiceRequest.FromString(body)
        spans = [s for r in message.resource_spans for scope in r.scope_spans for s in scope.spans]
        self.spans = len(spans)
        self._made_ns = time.time_ns()
        self._bytes = np.frombuffer(request, dtype=np.uint8).copy()
        offset = len(head) + 4
        ids = {span.trace_id for span in spans}
        times = {t for s in spans for t in (s.start_time_unix_nano, s.end_time_unix_nano)}
        self._ids = _places(body, ids, offset)
        self._times = _places(body, {t.to_bytes(8, "little") for t in times}, offset)
        self._first_times = self._gathered(self._times)

    def _gathered(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        held = self._bytes[places[:, None] + np.arange(8)]
        return np.ascontiguousarray(held).view("<u8")[:, 0]

    def request(self, rng: random.Random) -> bytes:
        """The request, as if its traces had just ended."""
        mark = np.frombuffer(rng.randbytes(6), dtype=np.uint8)
        self._bytes[self._ids[:, None] + np.arange(6)] = mark
        moved = self._first_times + np.uint64(time.time_ns() - self._made_ns)
        self._bytes[self._times[:, None] + np.arange(8)] = moved.view(np.uint8).reshape(-1, 8)
        return self._bytes.tobytes()


def _places(body: bytes, values: set[bytes], offset: int) -> npt.NDArray[np.int64]:
    found = []
    for value in values:
        place = body.find(value)
        while place >= 0:
            found.append(place + offset)
            place = body.find(value, place + 1)
    return np.asarray(sorted(found), dtype=np.int64)


class _Connection(Sender):
    """Tells what was answered instead of retrying."""

    def ask(self, request: bytes) -> tuple[int, bool]:
        """The status, and whether a time to try again was told."""
        self._socket.sendall(request)
        status, head, _ = self._whole_answer()
        return status, b"\r\nretry-after:" in head.lower()


class Load(Protocol):
    """What one connection sends, request by request."""

    def next(self) -> tuple[bytes, int]:
        """A request, and how many items it holds."""
        ...


class Spans:
    """Requests of a shop's traces, in an order of their own."""

    def __init__(self, made: Sequence[bytes], seed: int) -> None:
        self._rng = random.Random(seed)
        start = seed % len(made)
        self._turn = cycle([Stamped(request) for request in (*made[start:], *made[:start])])

    def next(self) -> tuple[bytes, int]:
        """The next request, stamped anew."""
        stamped = next(self._turn)
        return stamped.request(self._rng), stamped.spans


class Checkouts:
    """Requests of business events, a hundred each."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def next(self) -> tuple[bytes, int]:
        """The next request."""
        rows = [_event(self._rng, n) for n in range(BODY_EVENTS)]
        media = "application/cloudevents-batch+json"
        return post("/events", orjson.dumps(rows), media), len(rows)


def _event(rng: random.Random, number: int) -> dict[str, object]:
    key = f"{rng.getrandbits(64):x}"
    kind = _STEPS[number % len(_STEPS)]
    data: dict[str, object] = {"session_id": key, "checkout_id": key, "device": "mobile"}
    if kind == "purchase":
        data |= {"transaction_id": key, "value": "59.90", "currency": "EUR"}
    now = datetime.now(UTC).isoformat()
    return {
        "specversion": "1.0",
        "id": key,
        "source": "shop",
        "type": kind,
        "time": now,
        "data": data,
    }


def send(port: int, load: Load, every_s: float, seconds: float) -> Sent:
    """Send a request every so many seconds over one connection, whatever is answered."""
    sent, connection = Sent(), _Connection(port)
    begin = due = time.monotonic()
    while due < begin + seconds:
        now = time.monotonic()
        if now < due:
            time.sleep(due - now)
        elif now - due > _LATEST_S:
            # An SDK's queue is full by now: what is due is dropped, not sent late.
            lost = int((now - due) / every_s)
            sent.skipped += lost
            due += lost * every_s
        request, count = load.next()
        sent.behind_s = max(sent.behind_s, time.monotonic() - due)
        status, told_when = connection.ask(request)
        sent.statuses[status] += 1
        sent.retry_after += told_when
        taken = HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES
        sent.accepted += count if taken else 0
        sent.refused += 0 if taken else count
        due += every_s
    connection.close()
    return sent


class Targets(http.server.ThreadingHTTPServer):
    """Pages of metrics, `/0` and on, each with the same number of series that all grow."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, series: int) -> None:
        super().__init__(("127.0.0.1", 0), _Page)
        self.series = series
        self.scrapes = 0


class _Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Targets)
        server.scrapes += 1
        value = int(time.time())
        lines = [f'shop_work_total{{part="{n}"}} {value + n}' for n in range(server.series)]
        page = ("# TYPE shop_work_total counter\n" + "\n".join(lines) + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    @override
    def log_message(self, format: str, *args: object) -> None:
        del format, args


def run(
    ports: tuple[int, int], seconds: float, times: float, connections: int
) -> dict[str, object]:
    """Send so many times the usual load; what became of it. `ports`: the main one, and OTLP's."""
    every_s = BODY_SPANS * connections / (SPANS_PER_SECOND * times)
    made = bodies(BODY_SPANS * _DISTINCT_BODIES, seed=7).requests
    loads: list[tuple[int, Load, float]] = [
        (ports[1], Spans(made, seed), every_s) for seed in range(connections)
    ]
    loads.append((ports[0], Checkouts(99), BODY_EVENTS / (EVENTS_PER_SECOND * times)))
    with ThreadPoolExecutor(len(loads)) as pool:
        jobs = [pool.submit(send, *load, seconds) for load in loads]
    *spans, events = [job.result() for job in jobs]
    return {"spans": _summed(spans), "events": _summed([events]), "seconds": seconds}


def _summed(parts: Sequence[Sent]) -> dict[str, object]:
    statuses: Counter[str] = Counter()
    for part in parts:
        statuses.update({str(status): count for status, count in part.statuses.items()})
    told = [asdict(part) for part in parts]
    whole: dict[str, object] = {
        name: sum(part[name] for part in told)
        for name in ("accepted", "refused", "skipped", "retry_after")
    }
    return whole | {"statuses": statuses, "behind_s": max(part.behind_s for part in parts)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--otlp-port", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--times", type=float, default=1.0)
    parser.add_argument("--connections", type=int, default=4)
    asked = parser.parse_args()
    ports = (asked.port, asked.otlp_port)
    told = run(ports, asked.seconds, asked.times, asked.connections)
    sys.stdout.write(orjson.dumps(told).decode() + "\n")


if __name__ == "__main__":
    main()
