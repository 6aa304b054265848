"""Hostile and broken input against the running service, at each of its three doors."""

from __future__ import annotations

import gzip
import json
import math
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import cramjam
import grpc
import httpx
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.collector.otlp_bodies import trace_request
from tests.collector.remote_write_bytes import field as proto_field
from tests.collector.remote_write_bytes import series_bytes
from tests.e2e.service import Warroom

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PROTOBUF = {"Content-Type": "application/x-protobuf"}
SNAPPY = {**PROTOBUF, "Content-Encoding": "snappy"}
CLOUDEVENTS = {"Content-Type": "application/cloudevents+json"}
TRACE_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
BAD_TRACE = b"\x0a\xff\xff\x03short"
MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Bad:
    """A request and what must be answered."""

    path: str
    body: bytes
    status: int
    says: str
    headers: dict[str, str] = field(default_factory=dict)


def metrics_request(value: float, time_ns: int, label: str = "x") -> bytes:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="odd_gauge")
    point = metric.gauge.data_points.add(as_double=value, time_unix_nano=time_ns)
    point.attributes.add(key="label").value.string_value = label
    encoded: bytes = request.SerializeToString()
    return encoded


def snappy(body: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(body))


def write_request(value: float, ts_ms: int, **labels: str) -> bytes:
    return snappy(series_bytes(sorted({"__name__": "odd", **labels}.items()), [(ts_ms, value)]))


def event(**changes: object) -> bytes:
    whole: dict[str, object] = {
        "specversion": "1.0",
        "id": "e-1",
        "source": "bad-input",
        "type": "purchase",
        "data": {"transaction_id": "o-1", "value": "10.00", "currency": "EUR"},
    }
    return json.dumps({**whole, **changes}).encode()


BOMB = gzip.compress(b"\0" * (64 * MEBIBYTE), 9)
# Says that it will be 4 GiB.
SNAPPY_BOMB = b"\xff\xff\xff\xff\x0f" + b"\xfe\x01\x00" * 100
TRACES = trace_request().SerializeToString()

# These hold on the main port and on the OTLP port alike.
OTLP = {
    "truncated protobuf": Bad("/v1/traces", BAD_TRACE, 400, "protobuf", PROTOBUF),
    "truncated metrics": Bad("/v1/metrics", BAD_TRACE, 400, "protobuf", PROTOBUF),
    "wrong content type": Bad(
        "/v1/traces", TRACES, 415, "Content-Type", {"Content-Type": "text/html"}
    ),
    "no content type": Bad("/v1/traces", TRACES, 415, "Content-Type"),
    "gzip bomb": Bad(
        "/v1/traces", BOMB, 413, "larger than", {**PROTOBUF, "Content-Encoding": "gzip"}
    ),
    "cut gzip": Bad(
        "/v1/traces",
        gzip.compress(TRACES)[:-9],
        400,
        "cut short",
        {**PROTOBUF, "Content-Encoding": "gzip"},
    ),
    "unknown content encoding": Bad(
        "/v1/traces", TRACES, 415, "Content-Encoding", {**PROTOBUF, "Content-Encoding": "br"}
    ),
    "oversized body": Bad("/v1/traces", b"\0" * (21 * MEBIBYTE), 413, "larger than", PROTOBUF),
    "broken JSON": Bad(
        "/v1/traces", b'{"resourceSpans": [', 400, "JSON", {"Content-Type": "application/json"}
    ),
    "JSON that is not UTF-8": Bad(
        "/v1/traces", b'{"a": "\xff\xfe"}', 400, "UTF-8", {"Content-Type": "application/json"}
    ),
}
MAIN = {
    "remote write: bad snappy": Bad("/api/v1/write", b"not snappy", 400, "snappy", SNAPPY),
    "remote write: snappy bomb": Bad("/api/v1/write", SNAPPY_BOMB, 413, "are allowed", SNAPPY),
    "remote write: truncated protobuf": Bad(
        "/api/v1/write", snappy(b"\x0a\xff\x03ab"), 400, "end of the message", SNAPPY
    ),
    "remote write: gzip": Bad(
        "/api/v1/write",
        gzip.compress(b"x"),
        415,
        "snappy",
        {**PROTOBUF, "Content-Encoding": "gzip"},
    ),
    "remote write: wrong content type": Bad(
        "/api/v1/write",
        write_request(1, 1),
        415,
        "x-protobuf",
        {"Content-Type": "application/json", "Content-Encoding": "snappy"},
    ),
    "remote write: 1 MB label value": Bad(
        "/api/v1/write",
        write_request(1, time.time_ns() // 1_000_000, big="x" * MEBIBYTE),
        400,
        "label",
        SNAPPY,
    ),
    "remote write: label that is not UTF-8": Bad(
        "/api/v1/write",
        snappy(
            proto_field(
                1,
                proto_field(1, proto_field(1, b"__name__") + proto_field(2, b"odd\xff\xfe"))
                + proto_field(2, b"\x09" + struct.pack("<d", 1.0)),
            )
        ),
        400,
        "UTF-8",
        SNAPPY,
    ),
    "remote write: oversized body": Bad(
        "/api/v1/write", b"\0" * (21 * MEBIBYTE), 413, "larger than", SNAPPY
    ),
    "event: no JSON": Bad("/events", b"{", 400, "JSON", CLOUDEVENTS),
    "event: not UTF-8": Bad("/events", b'{"id": "\xff"}', 400, "not valid JSON", CLOUDEVENTS),
    "event: wrong specversion": Bad(
        "/events", event(specversion="0.3"), 400, "specversion", CLOUDEVENTS
    ),
    "event: unknown type": Bad("/events", event(type="sneeze"), 400, "type", CLOUDEVENTS),
    "event: no id": Bad("/events", event(id=""), 400, "id must be", CLOUDEVENTS),
    "event: NaN as money": Bad(
        "/events",
        event(data={"transaction_id": "o", "value": math.nan, "currency": "EUR"}),
        400,
        "NaN",
        CLOUDEVENTS,
    ),
    "event: absurd time": Bad(
        "/events", event(time="9999-01-01T00:00:00Z"), 400, "future", CLOUDEVENTS
    ),
    "event: wrong content type": Bad(
        "/events", event(), 415, "Content-Type", {"Content-Type": "text/plain"}
    ),
    "event: oversized": Bad("/events", b" " * (6 * MEBIBYTE), 413, "larger than", CLOUDEVENTS),
    "event: lone surrogate": Bad("/events", event(id="\ud800"), 400, "Unicode", CLOUDEVENTS),
    "beacon: no JSON": Bad(
        "/rum", b"\xff\xfe", 400, "not valid JSON", {"Content-Type": "application/json"}
    ),
    "query: no PromQL": Bad(
        "/api/v1/query",
        b"query=sum(",
        400,
        "parse",
        {"Content-Type": "application/x-www-form-urlencoded"},
    ),
    "silence: no JSON": Bad(
        "/api/v2/silences", b"{", 400, "JSON", {"Content-Type": "application/json"}
    ),
    "annotation: no kind": Bad(
        "/api/warroom/v1/annotations", b"{}", 400, "kind", {"Content-Type": "application/json"}
    ),
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warroom]:
    running = Warroom(tmp_path_factory.mktemp("bad_input"))
    running.start()
    try:
        _send_good(running)
        yield running
    finally:
        running.stop()


def _send_good(service: Warroom) -> None:
    now_ms = time.time_ns() // 1_000_000
    sent = [
        httpx.post(f"{service.url}/v1/traces", content=_trace(now_ms), headers=PROTOBUF),
        httpx.post(
            f"{service.url}/api/v1/write",
            content=snappy(series_bytes([("__name__", "good")], [(now_ms, 42.0)])),
            headers=SNAPPY,
        ),
        httpx.post(f"{service.url}/events", content=event(id="good"), headers=CLOUDEVENTS),
    ]
    assert [answer.status_code for answer in sent] == [200, 204, 202]


def _trace(now_ms: int) -> bytes:
    request = ExportTraceServiceRequest()
    request.CopyFrom(trace_request())
    span = request.resource_spans[0].scope_spans[0].spans[0]
    span.start_time_unix_nano, span.end_time_unix_nano = now_ms * 1_000_000, now_ms * 1_000_001
    encoded: bytes = request.SerializeToString()
    return encoded


@pytest.fixture(autouse=True)
def _still_good(service: Warroom) -> Iterator[None]:
    """After every test: it is ready, and what was accepted before is there."""
    yield
    assert service.ready()
    assert service.vector("last_over_time(good[1h])") == {"": 42.0}
    traces = service.get(f"/jaeger/api/traces/{'01' * 16}")
    assert len(traces.json()["data"][0]["spans"]) == 1
    orders = service.get("/api/warroom/v1/business/orders").json()["points"]
    assert sum(point["orders"] for point in orders) == 1
    assert "Traceback" not in service.log


def _sentence(answer: httpx.Response) -> str:
    """The one sentence of an answer, whatever its protocol puts around it."""
    if "json" in answer.headers.get("content-type", ""):
        body = answer.json()
        error = body.get("error", body.get("message", body)) if isinstance(body, dict) else body
        return str(error.get("message", error) if isinstance(error, dict) else error)
    return answer.content.decode("utf-8", "ignore")


def _refused(url: str, bad: Bad) -> None:
    answer = httpx.post(f"{url}{bad.path}", content=bad.body, headers=bad.headers, timeout=30)
    sentence = _sentence(answer)
    assert answer.status_code == bad.status, sentence
    assert bad.says in sentence
    assert 10 < len(sentence) < 600, sentence
    assert "Traceback" not in sentence
    assert sentence.count("\n") <= 1


@pytest.mark.parametrize("case", OTLP)
def test_broken_otlp_is_refused_at_the_main_port(service: Warroom, case: str) -> None:
    _refused(service.url, OTLP[case])


@pytest.mark.parametrize("case", OTLP)
def test_broken_otlp_is_refused_at_the_otlp_port(service: Warroom, case: str) -> None:
    _refused(f"http://127.0.0.1:{service.otlp_port}", OTLP[case])


@pytest.mark.parametrize("case", MAIN)
def test_broken_input_is_refused_at_the_main_port(service: Warroom, case: str) -> None:
    _refused(service.url, MAIN[case])


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        (BAD_TRACE, grpc.StatusCode.INVALID_ARGUMENT, "protobuf"),
        (b"\0" * (5 * MEBIBYTE), grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max"),
    ],
)
def test_broken_otlp_is_refused_over_grpc(
    service: Warroom, body: bytes, code: grpc.StatusCode, says: str
) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{service.grpc_port}") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(TRACE_METHOD)(body, timeout=20)
        assert caught.value.code() is code
        assert says in caught.value.details()
        # The connection serves on.
        answer = channel.unary_unary(TRACE_METHOD)(b"", timeout=20)
        assert ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans == 0


@pytest.mark.parametrize("unknown", ["/nothing.Service/Export", "/x"])
def test_an_unknown_grpc_method_is_unimplemented(service: Warroom, unknown: str) -> None:
    with (
        grpc.insecure_channel(f"127.0.0.1:{service.grpc_port}") as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        channel.unary_unary(unknown)(b"", timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def _post_metrics(service: Warroom, body: bytes) -> ExportMetricsServiceResponse:
    answer = httpx.post(f"{service.url}/v1/metrics", content=body, headers=PROTOBUF, timeout=30)
    assert answer.status_code == 200, answer.content
    return ExportMetricsServiceResponse.FromString(answer.content)


@pytest.mark.parametrize(
    "time_ns", [1, 2**63 - 1, 2**64 - 1], ids=["1970", "year 2262", "year 2554"]
)
def test_a_point_of_another_century_is_rejected_and_counted(service: Warroom, time_ns: int) -> None:
    success = _post_metrics(service, metrics_request(1.0, time_ns)).partial_success
    assert success.rejected_data_points == 1
    assert "absurd_time" in success.error_message
    assert service.vector('odd_gauge{label="x"}') == {}


def test_a_label_of_a_megabyte_is_cut_or_refused_never_stored(service: Warroom) -> None:
    body = metrics_request(1.0, time.time_ns(), label="y" * MEBIBYTE)
    _post_metrics(service, body)
    values = service.get("/api/v1/label/label/values").json()["data"]
    assert all(len(value) <= 4096 for value in values)
    if not any(value.startswith("yyy") for value in values):
        # Longer than a whole point may be.
        assert 'reason="point_too_large"' in service.get("/metrics").text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_odd_numbers_are_values_like_others(service: Warroom, value: float) -> None:
    label = f"odd {value}"
    body = metrics_request(value, time.time_ns(), label=label)
    assert not _post_metrics(service, body).partial_success.rejected_data_points
    answer = service.vector(f'odd_gauge{{label="{label}"}}')
    assert len(answer) == 1
    assert str(next(iter(answer.values()))) == str(value)


@pytest.mark.parametrize("ts_ms", [-(2**63), -1, 2**63 - 1, 2**53])
def test_a_remote_written_sample_of_another_age_harms_nobody(service: Warroom, ts_ms: int) -> None:
    answer = httpx.post(
        f"{service.url}/api/v1/write", content=write_request(1.0, ts_ms), headers=SNAPPY
    )
    assert answer.status_code in {204, 400}, answer.text
    assert service.vector("odd") == {}
    assert service.get("/api/v1/query", query="count_over_time(odd[1d])").status_code == 200
    assert service.get("/api/v1/series", **{"match[]": "odd"}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8600", "127.0.0.1.evil.example"])
@pytest.mark.parametrize("path", ["/", "/api/v1/query?query=1", "/api/warroom/v1/findings"])
def test_a_name_that_was_rebound_to_us_is_refused(service: Warroom, host: str, path: str) -> None:
    answer = httpx.get(f"{service.url}{path}", headers={"Host": host})
    assert answer.status_code == 403
    assert "Host" in answer.text
    other = httpx.post(
        f"http://127.0.0.1:{service.otlp_port}/v1/traces", headers={"Host": host, **PROTOBUF}
    )
    assert other.status_code == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1"])
@pytest.mark.parametrize(
    "path", ["/api/warroom/v1/annotations", "/api/v2/silences", "/api/v1/admin/tsdb/delete_series"]
)
def test_a_page_of_another_origin_cannot_change_anything(
    service: Warroom, origin: str, path: str
) -> None:
    answer = httpx.post(f"{service.url}{path}", json={}, headers={"Origin": origin})
    assert answer.status_code == 403
    assert "origin" in answer.text


def test_our_own_page_may_post(service: Warroom) -> None:
    answer = httpx.post(
        f"{service.url}/api/warroom/v1/annotations",
        json={"kind": "deploy", "title": "v1"},
        headers={"Origin": service.url},
    )
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("path", ["/nothing", "/api/nothing", "/api/v1/nothing", "/assets/no.js"])
def test_an_unknown_path_is_not_found_in_plain_text(service: Warroom, path: str) -> None:
    answer = service.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/plain")
    assert "page not found" in answer.text
