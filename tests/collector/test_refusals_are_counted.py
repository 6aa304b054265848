"""Every receiver counts every refusal by its reason, and shows it at its source."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import cramjam
import grpc
import httpx
import pytest
from prometheus_client import CollectorRegistry
from starlette.routing import BaseRoute

from collector.body import BodyReader
from collector.otlp.ingest import OtlpIngest
from collector.overload import MAX_UNANSWERED, Lane
from collector.pipeline import Pipeline
from collector.receivers import events, otlp_grpc, otlp_http, remote_write
from collector.receivers.rum import RumReceiver
from collector.source_health import SourceRegistry, SourceState
from store.errors import Overloaded, StoreUnavailable
from tests.collector.conftest import RecordingAppender, Serve
from tests.collector.otlp_bodies import trace_request
from tests.collector.remote_write_bytes import series_bytes

NOW_MS = 1_790_000_000_000
TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
MOST = 4096
EVENT = (
    b'{"specversion":"1.0","id":"1","source":"s","type":"purchase","data":'
    b'{"transaction_id":"1","value":1,"currency":"EUR","session_id":"a"}}'
)


@dataclass(frozen=True)
class Receiver:
    """How a receiver is reached. `packed` says that a Content-Encoding may be chosen."""

    path: str
    media: str
    source: str
    good: bytes
    bad: bytes
    packed: bool = True
    stored_source: str = ""


OTLP = "application/x-protobuf"
RECEIVERS = {
    "traces": Receiver(
        "/v1/traces", OTLP, "otlp", trace_request(1).SerializeToString(), b"\xff", True, "otlp:shop"
    ),
    "metrics": Receiver("/v1/metrics", OTLP, "otlp", b"", b"\xff"),
    "logs": Receiver("/v1/logs", OTLP, "otlp", b"", b"\xff"),
    "json": Receiver("/v1/traces", "application/json", "otlp", b"{}", b"{"),
    "remote_write": Receiver(
        remote_write.PATH,
        OTLP,
        "remote_write",
        bytes(cramjam.snappy.compress_raw(series_bytes([("__name__", "a")], [(NOW_MS, 1.0)]))),
        bytes(cramjam.snappy.compress_raw(b"\xff\xff")),
        False,
        "remote_write",
    ),
    "events": Receiver("/events", "application/cloudevents+json", "events", EVENT, b"{", True),
    "rum": Receiver("/rum", "text/plain", "rum", b"[]", b"\xff"),
    "collect": Receiver("/collect", "application/json", "rum", b"{}", b"{"),
}


@dataclass
class Open:
    """The receivers, listening, with small bounds; and what they count."""

    url: str
    lanes: dict[str, Lane]
    appender: RecordingAppender
    sources: SourceRegistry
    registry: CollectorRegistry

    def send(self, to: Receiver, body: bytes, **headers: str) -> httpx.Response:
        told = {"content-type": to.media, **headers}
        return httpx.post(f"{self.url}{to.path}", content=body, headers=told, timeout=30)

    def counts(self) -> dict[tuple[str, str], float]:
        """What is counted as refused, by source and reason; both accounts must be the same."""
        metered = {
            (sample.labels["source"], sample.labels["reason"]): sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == "warroom_collector_dropped_total"
        }
        shown = {
            (status.name, reason): float(count)
            for status in self.sources.list(NOW_MS)
            for reason, count in status.dropped.items()
        }
        assert metered == shown
        return metered


@pytest.fixture
def opened(
    serve: Serve,
    pipeline: Pipeline,
    appender: RecordingAppender,
    sources: SourceRegistry,
    registry: CollectorRegistry,
) -> Open:
    ingest, beacons = OtlpIngest(pipeline), RumReceiver(pipeline, settle_ms=20)

    def bodies(lane: Lane) -> BodyReader:
        return BodyReader(max_body_bytes=MOST, max_read_s=1.0, lane=lane)

    lanes = {"otlp": ingest.lane, "remote_write": Lane(), "events": Lane(), "rum": beacons.lane}
    routes: list[BaseRoute] = [
        *otlp_http.routes(ingest, bodies=bodies(ingest.lane)),
        *remote_write.routes(pipeline, bodies(lanes["remote_write"])),
        *events.routes(pipeline, bodies=bodies(lanes["events"])),
        *beacons.routes(),
    ]
    return Open(serve(routes), lanes, appender, sources, registry)


@pytest.fixture(params=sorted(RECEIVERS))
def receiver(request: pytest.FixtureRequest) -> Receiver:
    return RECEIVERS[request.param]


def test_what_is_good_is_not_counted_as_refused(opened: Open, receiver: Receiver) -> None:
    assert opened.send(receiver, receiver.good).is_success
    assert opened.counts() == {}


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"content-type": "image/png"}, 415), ({"content-encoding": "br"}, 415)],
)
def test_media_and_encodings_that_are_not_known(
    opened: Open, receiver: Receiver, headers: dict[str, str], status: int
) -> None:
    assert opened.send(receiver, receiver.good, **headers).status_code == status
    assert opened.counts() == {(receiver.source, "unsupported_media"): 1}


def test_a_body_that_cannot_be_decoded(opened: Open, receiver: Receiver) -> None:
    assert opened.send(receiver, receiver.bad).status_code == 400
    assert opened.counts() == {(receiver.source, "malformed"): 1}
    (row,) = opened.sources.list(NOW_MS)
    assert (row.name, row.state) == (receiver.source, SourceState.ERROR)
    assert row.error


def test_a_body_that_is_damaged_or_grows_too_large(opened: Open, receiver: Receiver) -> None:
    if receiver.packed:
        cut = gzip.compress(b"x" * 100)[:-9]
        bomb = gzip.compress(bytes(6 << 20))
        damaged, size = "damaged_compression", "body_size"
        assert opened.send(receiver, cut, **{"content-encoding": "gzip"}).status_code == 400
        assert opened.send(receiver, bomb, **{"content-encoding": "gzip"}).status_code == 413
    else:
        cut, damaged, size = receiver.good[:-3], "malformed", "body_size"
        assert opened.send(receiver, cut).status_code == 400
        assert opened.send(receiver, bytes(MOST + 1)).status_code == 413
    assert opened.counts() == {(receiver.source, damaged): 1, (receiver.source, size): 1}


def test_overload_is_told_and_counted(opened: Open, receiver: Receiver) -> None:
    with ExitStack() as held:
        for _ in range(MAX_UNANSWERED):
            held.enter_context(opened.lanes[receiver.source].answering())
        answers = [opened.send(receiver, receiver.good) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {429}
    assert all(1 <= int(answer.headers["retry-after"]) <= 3 for answer in answers)
    assert opened.counts() == {(receiver.source, "overloaded"): 3}
    assert opened.sources.list(NOW_MS)[0].state is SourceState.SHEDDING
    assert opened.send(receiver, receiver.good).is_success


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (Overloaded("the queue is full", retry_after_s=9), 429, "overloaded"),
        (StoreUnavailable("the disk is full"), 503, "store_unavailable"),
    ],
)
@pytest.mark.parametrize("name", ["traces", "remote_write", "events"])
def test_what_the_store_refuses_is_counted_by_item(
    opened: Open, name: str, error: Exception, status: int, reason: str
) -> None:
    receiver = RECEIVERS[name]
    opened.appender.refuse_with = error
    answer = opened.send(receiver, receiver.good)
    assert (answer.status_code, "retry-after" in answer.headers) == (status, True)
    source = receiver.stored_source or receiver.source
    assert opened.counts() == {(source, reason): 1}


def _begun(opened: Open, receiver: Receiver) -> socket.socket:
    address = urlsplit(opened.url)
    connection = socket.create_connection((address.hostname, address.port), timeout=30)
    head = f"POST {receiver.path} HTTP/1.1\r\nHost: x\r\nContent-Type: {receiver.media}\r\n"
    connection.sendall(f"{head}Content-Length: 100\r\n\r\nabc".encode())
    return connection


@pytest.mark.parametrize("name", ["traces", "remote_write", "events"])
def test_a_body_that_never_ends(opened: Open, name: str) -> None:
    with _begun(opened, RECEIVERS[name]) as connection:
        assert b" 400 " in connection.recv(100)
    assert opened.counts() == {(RECEIVERS[name].source, "body_late"): 1}


@pytest.mark.parametrize("name", ["rum", "collect"])
def test_a_sender_that_goes_away(opened: Open, name: str) -> None:
    _begun(opened, RECEIVERS[name]).close()
    _until(lambda: opened.counts() == {("rum", "client_gone"): 1})


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def called(
    grpc_server: Callable[[OtlpIngest], str], pipeline: Pipeline
) -> Iterator[tuple[Lane, Any]]:
    ingest = OtlpIngest(pipeline)
    with grpc.insecure_channel(grpc_server(ingest)) as channel:
        yield ingest.lane, channel.unary_unary(TRACES)


def _code(call: Any, body: bytes) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as refusal:
        call(body, timeout=30)
    code: grpc.StatusCode = refusal.value.code()
    return code


def _idle(over: threading.Event) -> Iterator[bytes]:
    """The messages of a call that never sends one."""
    over.wait(60)
    yield from ()


def test_idle_calls_end_and_let_others_in(
    opened: Open, grpc_server: Callable[..., str], pipeline: Pipeline
) -> None:
    address, over = grpc_server(OtlpIngest(pipeline), max_read_s=1.0), threading.Event()
    with grpc.insecure_channel(address) as channel:
        open_call = channel.stream_unary(TRACES)
        calls = [open_call.future(_idle(over), timeout=60) for _ in range(3)]
        try:
            assert {call.code() for call in calls} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        finally:
            over.set()
    assert opened.counts() == {("otlp", "body_late"): 3}


def test_an_idle_call_makes_room_where_another_wants_its_place(
    opened: Open,
    grpc_server: Callable[..., str],
    pipeline: Pipeline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(otlp_grpc, "MAX_CONCURRENT_CALLS", 2)
    monkeypatch.setattr(otlp_grpc, "PATIENCE_S", 0.0)
    address, over = grpc_server(OtlpIngest(pipeline)), threading.Event()
    with grpc.insecure_channel(address) as channel:
        open_call = channel.stream_unary(TRACES)
        idle = [open_call.future(_idle(over), timeout=60) for _ in range(3)]
        try:
            _until(lambda: any(call.done() for call in idle))
            body = trace_request().SerializeToString()
            assert channel.unary_unary(TRACES)(body, timeout=30) == b""
            _until(lambda: sum(call.done() for call in idle) == 2)
            ended = {call.code() for call in idle if call.done()}
            assert ended == {grpc.StatusCode.DEADLINE_EXCEEDED}
        finally:
            over.set()
    assert opened.counts()["otlp", "body_late"] == 2


def test_a_call_whose_own_time_is_just_over_makes_no_room_and_the_next_does(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp_grpc, "MAX_CONCURRENT_CALLS", 0)

    async def run() -> None:
        server = otlp_grpc.OtlpGrpcServer(OtlpIngest(pipeline), "127.0.0.1:0")
        server._open_calls = 1
        async with asyncio.timeout(None) as over:
            """It cannot be given another time any more."""
        async with asyncio.timeout(None) as waiting:
            server._reading = {over: -1e9, waiting: -1e9}
            server._make_room()
            assert waiting.when() is not None
            waiting.reschedule(None)
        assert server._reading == {}

    asyncio.run(run())


def test_a_call_that_its_sender_gave_up_is_no_mistake_of_anybody(
    opened: Open, grpc_server: Callable[..., str], pipeline: Pipeline
) -> None:
    over = threading.Event()
    with grpc.insecure_channel(grpc_server(OtlpIngest(pipeline))) as channel:
        try:
            call = channel.stream_unary(TRACES).future(_idle(over), timeout=0.3)
            assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        finally:
            over.set()
    _until(lambda: opened.counts() == {("otlp", "client_gone"): 1})
    assert not any(source.error for source in pipeline.sources.list(pipeline.now_ms()))


def test_who_sends_too_much_at_once_is_told_what_to_do(
    opened: Open, called: tuple[Lane, Any], pipeline: Pipeline
) -> None:
    assert _code(called[1], bytes(5 << 20)) is grpc.StatusCode.RESOURCE_EXHAUSTED
    _until(lambda: opened.counts() == {("otlp", "message_not_whole"): 1})
    (source,) = pipeline.sources.list(pipeline.now_ms())
    assert "below 4 MiB" in source.remedy


def test_calls_are_counted_as_requests_are(opened: Open, called: tuple[Lane, Any]) -> None:
    lane, call = called
    assert _code(call, b"\xff") is grpc.StatusCode.INVALID_ARGUMENT
    assert _code(call, bytes(5 << 20)) is grpc.StatusCode.RESOURCE_EXHAUSTED
    with ExitStack() as held:
        for _ in range(MAX_UNANSWERED):
            held.enter_context(lane.answering())
        assert _code(call, b"") is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert call(b"", timeout=30) == b""
    _until(lambda: len(opened.counts()) == 3)
    assert opened.counts() == {
        ("otlp", "malformed"): 1,
        ("otlp", "message_not_whole"): 1,
        ("otlp", "overloaded"): 1,
    }
