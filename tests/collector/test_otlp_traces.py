"""The compiled scan reads what protobuf's own parser reads, and never a byte more."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.otlp import span_scanner
from collector.otlp.traces import TraceDecoder
from collector.processors.redact import Redact
from store.errors import BadInput, LimitExceeded
from store.model import SPAN_CODED_SCHEMA, SpanBatch
from tests.collector.otlp_bodies import NOW_NS, trace_request

NOW_MS = NOW_NS // 1_000_000
TEXT = st.text(max_size=12)
IDS = st.binary(min_size=8, max_size=8).filter(any)
ATTRIBUTES = st.dictionaries(
    st.sampled_from(["http.route", "db.query.text", "db.statement", "code.lineno", "x"]),
    TEXT | st.integers(0, 1000),
    max_size=4,
)
SPANS = st.fixed_dictionaries(
    {
        "span_id": IDS,
        "parent": st.just(b"") | IDS,
        "name": TEXT,
        "kind": st.integers(0, 5),
        "took_ns": st.integers(0, 10**12),
        "status": st.integers(0, 2),
        "attributes": ATTRIBUTES,
        "events": st.lists(TEXT, max_size=2),
        "links": st.lists(IDS, max_size=2),
    }
)
GROUPS = st.lists(st.lists(st.lists(SPANS, max_size=4), max_size=3), max_size=3)


def message_of(resources: list[list[list[dict[str, Any]]]]) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    for number, scopes in enumerate(resources):
        resource = request.resource_spans.add()
        _attribute(resource.resource, "service.name", f"service-{number}")
        for place, spans in enumerate(scopes):
            scope = resource.scope_spans.add()
            scope.scope.name = f"scope-{place}"
            for fields in spans:
                _add(scope, fields)
    return request


def _add(scope: Any, fields: dict[str, Any]) -> None:
    span = scope.spans.add(
        trace_id=b"t" * 16,
        span_id=fields["span_id"],
        parent_span_id=fields["parent"],
        name=fields["name"],
        kind=fields["kind"],
        start_time_unix_nano=NOW_NS,
        end_time_unix_nano=NOW_NS + fields["took_ns"],
    )
    span.status.code = fields["status"]
    for key, value in fields["attributes"].items():
        _attribute(span, key, value)
    for name in fields["events"]:
        span.events.add(name=name, time_unix_nano=NOW_NS)
    for span_id in fields["links"]:
        span.links.add(trace_id=b"l" * 16, span_id=span_id)


def _attribute(holder: Any, key: str, value: str | int) -> None:
    attribute = holder.attributes.add(key=key)
    if isinstance(value, str):
        attribute.value.string_value = value
    else:
        attribute.value.int_value = value


@given(GROUPS)
def test_every_span_is_read_as_protobuf_reads_it(resources: list[Any]) -> None:
    request = message_of(resources)
    decoded = TraceDecoder().decode(request.SerializeToString(), NOW_MS)
    rows = decoded.batch.table.to_pylist()
    sent = [
        (resource, scope, span)
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert decoded.rejections.total == 0
    assert sum(decoded.by_source.values()) == len(rows) == len(sent)
    for row, (resource, scope, span) in zip(rows, sent, strict=True):
        assert row["service"] == resource.resource.attributes[0].value.string_value
        assert row["scope"] == scope.scope.name
        assert (row["trace_id"], row["span_id"]) == (span.trace_id, span.span_id)
        assert (row["parent_span_id"] or b"") == span.parent_span_id
        assert (row["name"], row["kind"], row["status"]) == (span.name, span.kind, span.status.code)
        assert (row["start_ns"], row["end_ns"]) == (
            span.start_time_unix_nano,
            span.end_time_unix_nano,
        )
        assert _all_values(row) == _sent_values(span)
        assert [event["name"] for event in json.loads(row["events"] or "[]")] == [
            event.name for event in span.events
        ]
        assert [link["span_id"] for link in json.loads(row["links"] or "[]")] == [
            link.span_id.hex() for link in span.links
        ]


def _all_values(row: dict[str, Any]) -> list[str]:
    promoted = [row[name] for name in ("http_route", "statement", "code_line")]
    kept = [value for value in promoted if value is not None]
    return sorted(str(value) for value in [*kept, *json.loads(row["attributes"] or "{}").values()])


def _sent_values(span: Any) -> list[str]:
    kinds = ((item.value, item.value.WhichOneof("value")) for item in span.attributes)
    return sorted(str(getattr(value, kind)) for value, kind in kinds)


def mutated(body: bytes) -> st.SearchStrategy[bytes]:
    place = st.integers(0, len(body))
    return st.builds(
        lambda a, b, junk: body[: min(a, b)] + junk + body[max(a, b) :],
        place,
        place,
        st.binary(max_size=12),
    )


@settings(max_examples=60)
@given(st.binary(max_size=120) | mutated(trace_request(2).SerializeToString()))
def test_no_byte_beyond_the_end_is_read(body: bytes) -> None:
    """The scan as plain Python: an index out of bounds would raise."""
    interpreted = {
        name: getattr(span_scanner, name).py_func
        for name in ("scan", "_resource", "_scope", "_span", "_fixed64")
    }
    view = np.frombuffer(body, dtype=np.uint8)
    ends, counts = np.array([len(body) // 2, len(body)]), np.zeros(2, dtype=np.int64)
    span_scanner.resources_of.py_func(view, ends, counts)
    with pytest.MonkeyPatch.context() as patch:
        for name, function in interpreted.items():
            patch.setattr(span_scanner, name, function)
        rows = span_scanner.Rows.of(0, 0, 0)
        counted = interpreted["scan"](view, rows, span_scanner.COUNT)
        if counted == 0:
            rows = span_scanner.Rows.of(*rows.counts.tolist())
            interpreted["scan"](view, rows, span_scanner.FILL)
            assert (rows.spans >= 0).all()
            assert (rows.spans[:, : span_scanner.KIND] <= len(body)).all()


@given(st.binary(max_size=200) | mutated(trace_request(3).SerializeToString()))
def test_what_is_left_of_a_damaged_body_is_counted(body: bytes) -> None:
    with suppress(BadInput):
        decoded = TraceDecoder().decode(body, NOW_MS)
        assert decoded.batch.table.schema == SPAN_CODED_SCHEMA
        assert sum(decoded.by_source.values()) == len(decoded.batch)


@settings(max_examples=40)
@given(
    st.lists(
        GROUPS.map(lambda groups: message_of(groups).SerializeToString())
        | mutated(trace_request(3).SerializeToString()),
        min_size=2,
        max_size=4,
    )
)
def test_bodies_are_decoded_together_as_each_alone(bodies: list[bytes]) -> None:
    decoder = TraceDecoder()
    try:
        alone = [decoder.decode(body, NOW_MS) for body in bodies]
    except BadInput:
        with pytest.raises(BadInput):
            decoder.decode_together(bodies, NOW_MS)
        return
    found = decoder.decode_together(bodies, NOW_MS)
    rows = [row for one in alone for row in one.batch.table.to_pylist()]
    assert found.batch.table.to_pylist() == rows
    assert [one.counts for one in found.rejections] == [one.rejections.counts for one in alone]
    by_source: Counter[str] = Counter()
    for one in alone:
        by_source.update(one.by_source)
    assert found.by_source == by_source


def test_a_body_that_is_cut_short_does_not_take_in_the_next_one() -> None:
    one = trace_request().SerializeToString()
    for cut in range(1, len(one)):
        with pytest.raises(BadInput):
            TraceDecoder().decode_together([one[:-cut], one], NOW_MS)


def test_resources_that_are_too_large_together_are_refused_together() -> None:
    request = trace_request(1_200)
    request.resource_spans[0].resource.attributes.add(key="big").value.string_value = "x" * 30_000
    body = request.SerializeToString()
    assert not TraceDecoder().decode(body, NOW_MS).batch.table.column("resource").null_count
    with pytest.raises(LimitExceeded, match="together"):
        TraceDecoder().decode_together([body] * 2, NOW_MS)


def test_spans_that_share_everything_are_told_apart_by_their_ids() -> None:
    decoded = TraceDecoder().decode(trace_request(500).SerializeToString(), NOW_MS)
    table = decoded.batch.table
    assert len(set(table.column("span_id").to_pylist())) == 500
    assert set(table.column("name").to_pylist()) == {"GET"}


def test_one_malformed_attribute_costs_its_spans_and_no_other() -> None:
    request = trace_request(3)
    body = request.SerializeToString()
    bad = ExportTraceServiceRequest()
    span = bad.resource_spans.add().scope_spans.add().spans.add()
    span.CopyFrom(request.resource_spans[0].scope_spans[0].spans[0])
    span.attributes.add(key="broken").value.string_value = "@@"
    damaged = bad.SerializeToString().replace(b"@@", b"\xff\xfe")
    decoded = TraceDecoder().decode(body + damaged, NOW_MS)
    assert len(decoded.batch) == 3
    assert sum(decoded.rejections.counts.values()) == 1


def test_memory_of_what_was_seen_is_bounded() -> None:
    decoder = TraceDecoder(max_known=10)
    for number in range(50):
        request = trace_request(1, name=f"n{number}")
        table = decoder.decode(request.SerializeToString(), NOW_MS).batch.table
        assert table.column("name").to_pylist() == [f"n{number}"]
    assert len(decoder.shared) <= 10


def test_a_few_long_texts_are_not_remembered_for_long() -> None:
    decoder = TraceDecoder(max_known=10)
    long = "x" * 20_000
    for number in range(5):
        request = trace_request(1, name="GET")
        request.resource_spans[0].scope_spans[0].spans[0].attributes.add(
            key="big"
        ).value.string_value = f"{long}{number}"
        table = decoder.decode(request.SerializeToString(), NOW_MS).batch.table
        assert f"{long}{number}" in str(table.column("attributes").to_pylist()[0])
        assert decoder.shared.seen().characters <= 10 * 1_024


def test_bodies_decoded_side_by_side_do_not_mix_up_their_texts() -> None:
    decoder = TraceDecoder(max_known=7)

    def names(worker: int) -> list[list[str | None]]:
        got: list[list[str | None]] = []
        for number in range(60):
            name = f"n{(worker + number) % 12}"
            body = trace_request(3, name=name).SerializeToString()
            names = decoder.decode(body, NOW_MS).batch.table.column("name").to_pylist()
            got.append([name, *names])
        return got

    with ThreadPoolExecutor(8) as pool:
        told = [one for got in pool.map(names, range(8)) for one in got]
    assert [one for one in told if len(set(one)) != 1] == []


_TABLE = arrays(np.int32, array_shapes(min_dims=2, max_dims=2), elements=st.integers(-1, 40))


@given(_TABLE, st.data())
def test_numbers_given_anew_lead_back_to_the_old_ones(table: Any, data: st.DataObject) -> None:
    places = st.lists(st.integers(-1, len(table) - 1), max_size=12)
    rows = np.array(data.draw(places), dtype=np.int64)
    for renumber in (span_scanner.renumber, cast("Any", span_scanner.renumber).py_func):
        into = span_scanner.Codes.of(table.shape[1], len(rows))
        renumber(table, rows, into)
        for column in range(table.shape[1]):
            codes = into.codes[column][: into.counts[column]].tolist()
            assert len(set(codes)) == len(codes)
            old = [int(table[row, column]) if row >= 0 else -1 for row in rows]
            new = into.places[column].tolist()
            assert [codes[one] if one >= 0 else -1 for one in new] == old


@pytest.mark.parametrize(
    "body",
    [
        bytes.fromhex("0a00") * 10_000,
        bytes([0x0A, 0x82, 0x9A, 0x0C]) + b"\x12\x00" * ((0x0C << 14 | 0x1A << 7 | 0x02) // 2),
    ],
    ids=["resources", "scopes"],
)
def test_masses_of_empty_messages_are_refused(body: bytes) -> None:
    with pytest.raises(LimitExceeded, match="one request holds"):
        TraceDecoder().decode(body, NOW_MS)


def test_a_huge_resource_is_not_repeated_with_each_span() -> None:
    request = trace_request(2_000)
    request.resource_spans[0].resource.attributes.add(key="big").value.string_value = "x" * 32_000
    for number in range(20):
        request.resource_spans[0].resource.attributes.add(key=f"big{number}").value.string_value = (
            "x" * 32_000
        )
    table = TraceDecoder().decode(request.SerializeToString(), NOW_MS).batch.table
    assert len(table) == 2_000
    assert table.column("resource").null_count == 2_000
    assert set(table.column("service").to_pylist()) == {"shop"}


def test_refusals_are_counted_by_service_and_reason() -> None:
    request = trace_request(4)
    spans = request.resource_spans[0].scope_spans[0].spans
    spans[0].trace_id = b"short"
    spans[1].span_id = bytes(8)
    spans[2].span_id = bytes(8)
    decoded = TraceDecoder().decode(request.SerializeToString(), NOW_MS)
    assert decoded.rejections.counts == {
        ("otlp:shop", "bad_trace_id"): 1,
        ("otlp:shop", "bad_span_id"): 2,
    }
    assert decoded.by_source == {"otlp:shop": 1}


@pytest.mark.parametrize(
    ("attributes", "url", "rest"),
    [
        (
            {"url.path": "/items", "url.query": "page=2&api_key=s3cr3t"},
            "/items?page=2&api_key=[redacted]",
            None,
        ),
        (
            {"url.query": "ids=1,2&token=abcdef", "url.path": "/items"},
            "/items?ids=1,2&token=[redacted]",
            None,
        ),
        ({"url.path": "/items", "url.query": "?page=2"}, "/items?page=2", None),
        ({"url.path": "/items", "url.query": ""}, "/items", {"url.query": ""}),
        ({"url.path": "/items", "url.query": 7}, "/items", {"url.query": 7}),
        ({"url.path": "/a?b", "url.query": "c=1"}, "/a?b", {"url.query": "c=1"}),
        ({"url.query": "page=2"}, None, {"url.query": "page=2"}),
        (
            {"url.full": "http://stock/items?page=2", "url.path": "/items", "url.query": "page=2"},
            "http://stock/items?page=2",
            {"url.path": "/items", "url.query": "page=2"},
        ),
    ],
)
def test_a_path_and_its_query_are_one_url_without_its_secrets(
    attributes: dict[str, str | int], url: str | None, rest: dict[str, str | int] | None
) -> None:
    span = {
        "span_id": b"s" * 8, "parent": b"", "name": "GET", "kind": 3, "took_ns": 1, "status": 0,
        "attributes": attributes, "events": [], "links": [],
    }  # fmt: skip
    body = message_of([[[span]]]).SerializeToString()
    batch = Redact()(TraceDecoder().decode(body, NOW_MS).batch).batch
    assert isinstance(batch, SpanBatch)
    (row,) = batch.table.to_pylist()
    assert row["url"] == url
    assert (json.loads(row["attributes"]) if row["attributes"] else None) == rest
