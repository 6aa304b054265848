"""Whatever bytes arrive, a decoder answers with columns or with BadInput, never otherwise."""

from __future__ import annotations

import gzip
import json
import zlib
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from collector.body import decompress
from collector.otlp.json_form import protobuf_of_json
from collector.otlp.logs import decode_logs
from collector.otlp.metrics import MetricDecoder
from collector.otlp.traces import TraceDecoder
from collector.processors.limit import Limit
from collector.processors.redact import Redact, is_card_number, redact_json, redact_text
from collector.relabel import Action, RelabelRule, compiled, relabelled
from collector.scrape.text_format import PageParser
from store.errors import BadInput, LimitExceeded
from store.model import LOG_SCHEMA, SPAN_CODED_SCHEMA, LogBatch
from tests.collector.otlp_bodies import trace_request

NOW_MS = 1_790_000_000_000
DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA


def metrics_body() -> bytes:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="orders")
    metric.gauge.data_points.add(time_unix_nano=NOW_MS * 10**6, as_double=1.0)
    metrics = request.resource_metrics[0].scope_metrics[0].metrics
    delta = metrics.add(name="paid").sum
    delta.aggregation_temporality, delta.is_monotonic = DELTA, True
    point = delta.data_points.add(time_unix_nano=NOW_MS * 10**6, as_int=3)
    point.exemplars.add(time_unix_nano=NOW_MS * 10**6, as_double=1.0, trace_id=bytes([1] * 16))
    classic = metrics.add(name="wait", unit="s").histogram
    classic.aggregation_temporality = DELTA
    classic.data_points.add(
        time_unix_nano=NOW_MS * 10**6, count=3, sum=2.0, bucket_counts=[1, 2], explicit_bounds=[1]
    )
    native = metrics.add(name="size").exponential_histogram
    native.aggregation_temporality = DELTA
    wide = native.data_points.add(time_unix_nano=NOW_MS * 10**6, count=3, scale=2, zero_count=1)
    wide.positive.offset, wide.positive.bucket_counts[:] = -3, [1, 1]
    summary = metrics.add(name="old").summary.data_points.add(time_unix_nano=NOW_MS * 10**6)
    summary.quantile_values.add(quantile=0.5, value=1.0)
    return request.SerializeToString()


def log_body() -> bytes:
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    record = scope.log_records.add(time_unix_nano=NOW_MS * 10**6, severity_text="WARN")
    record.body.kvlist_value.values.add(key="a").value.array_value.values.add(int_value=1)
    record.trace_id, record.span_id = bytes([1] * 16), bytes([2] * 8)
    vital = scope.log_records.add(event_name="browser.web_vital")
    vital.attributes.add(key="browser.web_vital.name").value.string_value = "lcp"
    vital.attributes.add(key="browser.web_vital.value").value.double_value = 1200
    return request.SerializeToString()


def mutated(body: bytes) -> st.SearchStrategy[bytes]:
    """A valid body with some bytes replaced, cut or repeated."""
    place = st.integers(0, len(body))
    return st.builds(
        lambda a, b, junk: body[: min(a, b)] + junk + body[max(a, b) :],
        place,
        place,
        st.binary(max_size=12),
    )


TRACE_BODY = trace_request(2).SerializeToString()


@given(st.binary(max_size=200) | mutated(TRACE_BODY))
def test_span_bytes(body: bytes) -> None:
    with suppress(BadInput):
        found = TraceDecoder().decode(body, NOW_MS)
        assert found.batch.table.schema == SPAN_CODED_SCHEMA
        Redact()(Limit()(found.batch).batch)


@given(st.binary(max_size=200) | mutated(metrics_body()))
def test_metric_bytes(body: bytes) -> None:
    with suppress(BadInput):
        found = MetricDecoder().decode(body, NOW_MS)
        assert len(found.batch.series_index) == len(found.batch.values)
        Limit()(found.batch)


@given(st.binary(max_size=200) | mutated(log_body()))
def test_log_bytes(body: bytes) -> None:
    with suppress(BadInput):
        found = decode_logs(body, NOW_MS)
        assert found.batch.table.schema == LOG_SCHEMA
        Redact()(Limit()(found.batch).batch)


KEYS = [
    "resourceSpans",
    "scopeSpans",
    "spans",
    "resource",
    "attributes",
    "key",
    "value",
    "name",
    "traceId",
    "spanId",
    "stringValue",
    "intValue",
    "kvlistValue",
    "values",
    "scope",
    "events",
    "startTimeUnixNano",
    "endTimeUnixNano",
    "kind",
    "status",
    "resourceMetrics",
    "scopeMetrics",
    "metrics",
    "gauge",
    "dataPoints",
    "asDouble",
    "timeUnixNano",
]
documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text(max_size=4)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174", "NaN"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)
    ),
    max_leaves=25,
)
nested = st.builds(
    lambda leaf: {
        "resourceSpans": [{"scopeSpans": [{"spans": [leaf]}]}],
        "resourceMetrics": [{"scopeMetrics": [{"metrics": [leaf]}]}],
        "resourceLogs": [{"scopeLogs": [{"logRecords": [leaf]}]}],
    },
    documents,
)


@given(documents | nested, st.sampled_from(["traces", "metrics", "logs"]))
def test_json_documents(document: Any, signal: str) -> None:
    body = json.dumps(document).encode()
    with suppress(BadInput):
        protobuf, _ = protobuf_of_json(signal, body)
        TraceDecoder().decode(protobuf, NOW_MS)
        MetricDecoder().decode(protobuf, NOW_MS)
        decode_logs(protobuf, NOW_MS)


@given(st.binary(max_size=100), st.sampled_from(["traces", "metrics", "logs"]))
def test_json_bytes(body: bytes, signal: str) -> None:
    with suppress(BadInput):
        protobuf_of_json(signal, body)


@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate", "zstd", "br", ""]))
def test_compressed_bytes(body: bytes, encoding: str) -> None:
    with suppress(BadInput, LimitExceeded):
        assert len(decompress(body, encoding, 10_000)) <= 10_000


COMPRESS: dict[str, Any] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
@given(body=st.binary(max_size=2000), limit=st.integers(0, 2000))
def test_compression_returns_what_went_in_or_refuses(
    encoding: str, body: bytes, limit: int
) -> None:
    packed = COMPRESS[encoding](body)
    if len(body) <= limit:
        assert decompress(packed, encoding, limit) == body
    else:
        with pytest.raises(LimitExceeded):
            decompress(packed, encoding, limit)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
@given(body=st.binary(min_size=1, max_size=500), cut=st.integers(1, 8))
def test_a_body_cut_short_is_never_taken_for_whole(encoding: str, body: bytes, cut: int) -> None:
    packed = COMPRESS[encoding](body)
    with pytest.raises((BadInput, LimitExceeded)):
        decompress(packed[: max(1, len(packed) - cut)], encoding)


PAGE = 'a{x="b c",y="q\\"\\n"} +Inf 123\n# TYPE a counter\nh{le="1"} 3 # {t="ab"} 0.5 1.5\n'
pages = st.text(max_size=100) | st.builds(
    lambda a, b, junk: PAGE[: min(a, b)] + junk + PAGE[max(a, b) :],
    st.integers(0, len(PAGE)),
    st.integers(0, len(PAGE)),
    st.text('a{}"=,# \n\\1.eN', max_size=8),
)


@given(st.lists(pages, min_size=1, max_size=3), st.booleans())
def test_metric_pages(texts: list[str], openmetrics: bool) -> None:
    parser = PageParser(lambda labels: tuple(sorted(labels.items())))
    for text in texts:
        with suppress(BadInput):
            page = parser.parse(text, openmetrics=openmetrics)
            assert len(page.series) == len(page.values) == len(page.ts_ms)


@given(pages)
def test_a_warm_cache_reads_a_page_as_a_cold_one(text: str) -> None:
    def make(labels: dict[str, str]) -> tuple[tuple[str, str], ...]:
        return tuple(sorted(labels.items()))

    warm = PageParser(make)
    try:
        first = warm.parse(text)
    except BadInput:
        return
    again = warm.parse(text)
    assert again.series == first.series
    assert again.ts_ms == first.ts_ms
    assert repr(again.values) == repr(first.values)


label_values = st.dictionaries(st.sampled_from("abc"), st.text(max_size=3), max_size=3)
rules = st.builds(
    lambda action, regex, replacement: RelabelRule(
        action, ("a", "b"), ";", compiled(regex), "c", replacement, 7
    ),
    st.sampled_from(list(Action)),
    st.sampled_from(["(.*)", "a|b", "(?P<x>.);.*", ""]),
    st.text("$1{}x9", max_size=5),
)


@given(label_values, st.lists(rules, max_size=4))
def test_relabelling(labels: dict[str, str], chain: list[RelabelRule]) -> None:
    found = relabelled(labels, chain)
    assert found is None or all(found.values())


@given(st.text(max_size=200))
def test_redaction_is_stable(text: str) -> None:
    once = redact_text(text)
    assert redact_text(once) == once


@pytest.mark.parametrize(
    "text",
    [
        "SELECT id FROM carts WHERE id = 12345",
        "order 1790000000000000",
        '{"prompt_tokens":12,"page":"/a"}',
        "https://shop.example/a@b?email=x",
        "UPDATE users SET password = %s WHERE id = ?",
    ],
)
def test_harmless_text_is_left_alone(text: str) -> None:
    assert redact_text(text) == text


def test_card_numbers_are_told_by_their_check_digit() -> None:
    assert is_card_number("5555555555554444")
    assert not is_card_number("5555555555554445")


_json_names = st.text(max_size=8) | st.sampled_from(["password", "Cookie", "a token", "card"])
_json_values = st.recursive(
    st.one_of(
        st.integers(-(2**63), 2**64 - 1),
        st.sampled_from([4111111111111111, -4111111111111111, 5500005555555559]),
        st.text(max_size=20),
        st.sampled_from(["4111 1111 1111 1111", "VALUES (1, 4111111111111111, 2)", "pwd=x"]),
        st.sampled_from(["token='x", 'Cookie: a="b\\', '{"password": [', "password: {'a': \"b\"}"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(_json_names, inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(_json_names, _json_values, max_size=4), st.booleans())
def test_a_redacted_json_text_is_still_json(document: dict[str, object], spaced: bool) -> None:
    separators = None if spaced else (",", ":")
    text = json.dumps(document, ensure_ascii=False, separators=separators)
    once = redact_json(text)
    json.loads(once)
    assert redact_json(once) == once
    assert json.loads(redact_text(text)) == json.loads(once)


# An enemy's choice of what each search looks for.
_PIECES = [
    "passw",
    "password=",
    "token:",
    "'",
    '"',
    "\\",
    "{",
    "]",
    "Cookie:",
    "://",
    "@",
    " ",
    "\n",
]
_PIECES += ["bearer ", "4111111111111111", "-", "x", "%s", "=>", '\\"']


@given(st.lists(st.sampled_from(_PIECES), max_size=12).map("".join))
def test_redaction_of_odd_texts_is_stable(text: str) -> None:
    once = redact_text(text)
    assert redact_text(once) == once


@pytest.mark.parametrize("piece", [*_PIECES, "password={", '"token":"', '"password: ', "[{"])
def test_redaction_costs_no_more_than_the_length(piece: str) -> None:
    # What is tried anew at each place of such a text takes hours.
    redact_text(piece * 50_000)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("{'password': 'x y', 'a': 1}", "{'password': '[redacted]', 'a': 1}"),
        ("api_key: x, next", "api_key: [redacted], next"),
        ("X-Api-Key: x", "X-Api-Key: [redacted]"),
        ("Cookie: sessionid=x; b=y\nHost: h", "Cookie: [redacted]\nHost: h"),
        ("Set-Cookie: a=x; Path=/", "Set-Cookie: [redacted]"),
        ("Authorization: Token x", "Authorization: [redacted]"),
        ('curl -H "Authorization: Token x" https://h', 'curl -H "Authorization: [redacted]" https://h'),
        ('got {"password":{"v":"x"}} of {"a":1}', 'got {"password":[redacted]} of {"a":1}'),
        ('{"password":{"v":"x"},"a":1}', '{"password":"[redacted]","a":1}'),
        ('{"secret":[["x"]]}', '{"secret":"[redacted]"}'),
        ('{"password":null,"has_password":true}', '{"password":null,"has_password":true}'),
        ("login?password=x", "login?password=[redacted]"),
        ("csrfmiddlewaretoken=x&b=1", "csrfmiddlewaretoken=[redacted]&b=1"),
        ('cut here: "password": "x', 'cut here: "password": "[redacted]'),
        (r'body \"password\":\"x \\\" y\",\"a\":1', r'body \"password\":\"[redacted]\",\"a\":1'),
    ],
)  # fmt: skip
def test_values_of_secret_names_are_masked_whole(text: str, masked: str) -> None:
    assert redact_text(text) == masked


def test_the_event_of_a_log_is_looked_at() -> None:
    row = {"ts_ns": 1, "severity": 9, "service": "s", "event_name": "login?password=x"}
    row["received_ms"] = 1
    batch = LogBatch(pa.Table.from_pylist([row], schema=LOG_SCHEMA))
    found = Redact()(batch).batch
    assert isinstance(found, LogBatch)
    assert found.table.column("event_name").to_pylist() == ["login?password=[redacted]"]


def test_times_are_no_card_numbers() -> None:
    times = '{"time_ns":1795384436683000008,"time_ms":1795384436683}'
    assert redact_json(times) == times
    assert "4111" not in redact_json('{"paid_with":4111111111111111,"all":[4111111111111111]}')
