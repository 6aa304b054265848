"""OTLP spans to `SPAN_CODED_SCHEMA` columns, old and stable semantic conventions alike.

Spans of a busy service repeat themselves. A compiled scan finds where their parts lie; each
distinct name, status and set of attributes is decoded once, and spans refer to its texts by
number. Only what few spans have (events, links) is read span by span.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.otlp import span_scanner as scanner
from collector.otlp.attributes import json_object, plain_dict
from collector.otlp.coded import coded_columns, coded_texts
from collector.otlp.outcome import Decoded, DecodedTogether, Rejections, source_of
from collector.otlp.span_shared import (
    MAX_NAME_LENGTH,
    NUMBERS,
    TEXTS,
    Combinations,
    SharedDecoder,
)
from collector.otlp.wire import span_fields, unreadable
from collector.wire import fields, hashes
from store.errors import LimitExceeded
from store.model import SPAN_CODED_SCHEMA, BoolArray, Int64Array, SpanBatch

MAX_EVENTS = 128
# Of one request. Empty messages take two bytes each, and a row of columns hundreds.
MAX_SPANS, MAX_GROUPS, MAX_RESOURCES = 200_000, 20_000, 5_000
# A resource is stored with each of its spans: beyond this it is left out of them.
MAX_REPEATED_BYTES = 64 * 1024 * 1024
# A span from before 2000 or more than a day ahead has a broken clock; it would never be found.
EARLIEST_NS = 946_684_800_000_000_000
MAX_AHEAD_NS = 86_400_000_000_000
UNKNOWN_SERVICE = "unknown_service"
TRACE_ID_BYTES = 16
SPAN_ID_BYTES = 8
MALFORMED = "malformed_or_not_utf8"
_GOOD = 0


@dataclass(frozen=True, slots=True)
class _Service:
    """Who sent a group of spans, as it is stored; `source` is its name among the sources."""

    name: str
    resource: str | None
    source: str
    readable: bool = True


@dataclass(frozen=True, slots=True)
class _Scanned:
    """A body and where its parts lie: rows of `collector.otlp.span_scanner`."""

    body: bytes
    view: fields.Bytes
    resources: Int64Array
    groups: Int64Array
    spans: Int64Array
    times: hashes.Words

    def sizes(self, column: int) -> Int64Array:
        """Lengths of the ranges that begin in this column."""
        found: Int64Array = self.spans[:, column + 1] - self.spans[:, column]
        return found

    def zero(self, column: int) -> BoolArray:
        """Which ranges hold zero bytes only."""
        out = np.zeros(len(self.spans), dtype=np.bool_)
        scanner.all_zero(self.view, self.spans, column, out)
        return out


class TraceDecoder:
    """Decodes bodies; remembers what spans share from one body to the next, within a bound."""

    def __init__(self, *, max_known: int = 20_000) -> None:
        self.shared = SharedDecoder(max_known=max_known)
        # Nobody can prepare attributes that crowd one place of the table.
        self._key = hashes.new_key()

    def decode(self, body: bytes, now_ms: int) -> Decoded[SpanBatch]:
        """An `ExportTraceServiceRequest` as columns; bad spans are refused one by one.

        Raises:
            BadInput: The body as a whole is no OTLP message.
            LimitExceeded: It holds too many spans, scopes or resources.
        """
        found = self.decode_together((body,), now_ms)
        return Decoded(found.batch, found.by_source, found.rejections[0])

    def decode_together(self, bodies: Sequence[bytes], now_ms: int) -> DecodedTogether:
        """Several bodies as one: a call costs more than the spans of most of them.

        Raises:
            BadInput: One of them is no OTLP message.
            LimitExceeded: They are too much for one body; alone each may be fine.
        """
        scanned = _scan(b"".join(bodies))
        resources_of = _resources_of(scanned, bodies)
        services = [_service(scanned.body[start:end]) for start, end in scanned.resources.tolist()]
        seen = self.shared.seen()
        shared, index = self._distinct(scanned, seen)
        told = _Told(scanned)
        refusals = _Refusals(len(scanned.spans))
        _refuse_ids_and_times(refusals, scanned, now_ms)
        readable = np.fromiter((service.readable for service in services), np.bool_, len(services))
        owner = scanned.groups[scanned.spans[:, scanner.GROUP], scanner.RESOURCE]
        refusals.first(~readable[owner], MALFORMED)
        refusals.then((shared < 0)[index] | told.broken, MALFORMED)
        kept = np.flatnonzero(refusals.codes == _GOOD)
        rejections = [Rejections() for _ in bodies]
        for code, place, count in refusals.counts(owner):
            rejected = rejections[resources_of[place]]
            rejected.add(services[place].source, refusals.reasons[code], count)
        counts = np.bincount(owner[kept], minlength=len(services)).tolist()
        by_source: Counter[str] = Counter()
        for service, count in zip(services, counts, strict=True):
            if service.readable:
                by_source[service.source] += count
        columns = {
            **_shared_columns(seen, shared, index[kept]),
            **_own_columns(scanned, kept, told, now_ms),
            **_group_columns(scanned, services, kept, alone=len(bodies) == 1),
        }
        arrays = [columns[name] for name in SPAN_CODED_SCHEMA.names]
        table = pa.Table.from_arrays(arrays, schema=SPAN_CODED_SCHEMA)
        return DecodedTogether(SpanBatch(table), by_source, rejections)

    def _distinct(self, scanned: _Scanned, seen: Combinations) -> tuple[Int64Array, Int64Array]:
        """Rows of what spans share, each once (-1: malformed); for each span its place there."""
        into = scanner.Distinct.of(len(scanned.spans))
        found = scanner.number(scanned.view, scanned.spans, self._key, into)
        keys = list(zip(*into.hashes[:found].T.tolist(), strict=True))
        rows = list(map(seen.rows.get, keys))
        for place in [place for place, row in enumerate(rows) if row is None]:
            bounds = scanned.spans[into.firsts[place], scanner.NAME : scanner.ATTRIBUTES_END + 1]
            rows[place] = self.shared.decode(keys[place], scanned.body, bounds.tolist(), seen)
        return np.array(rows, dtype=np.int64), into.numbers


class _Told:
    """Events and links, of the few spans that have them."""

    def __init__(self, scanned: _Scanned) -> None:
        spans = scanned.spans
        self.events: dict[int, str] = {}
        self.links: dict[int, str] = {}
        self.broken = np.zeros(len(spans), dtype=np.bool_)
        counts = spans[:, scanner.EVENTS] + spans[:, scanner.LINKS]
        for row in np.flatnonzero(counts).tolist():
            begin, end = spans[row, scanner.BEGIN : scanner.END + 1].tolist()
            try:
                span = span_fields(scanned.body[begin:end])
                if span.events:
                    self.events[row] = _events(span.events)
                if span.links:
                    self.links[row] = _links(span.links)
            except (DecodeError, UnicodeDecodeError):
                self.broken[row] = True


class _Refusals:
    """Why each span is refused: the first reason that is found counts."""

    def __init__(self, spans: int) -> None:
        self.codes = np.zeros(spans, dtype=np.int8)
        self.reasons = [""]

    def then(self, bad: BoolArray, reason: str) -> None:
        """Refuse those that nothing was wrong with until here."""
        self.first(bad & (self.codes == _GOOD), reason)

    def first(self, bad: BoolArray, reason: str) -> None:
        """Refuse these, whatever was said before."""
        self.reasons.append(reason)
        self.codes[bad] = len(self.reasons) - 1

    def counts(self, owner: Int64Array) -> Iterator[tuple[int, int, int]]:
        """How many spans of each owner were refused for each reason: reason, owner, count."""
        bad = np.flatnonzero(self.codes != _GOOD)
        if not len(bad):
            return
        pairs = np.stack((self.codes[bad].astype(np.int64), owner[bad]))
        kinds, counts = np.unique(pairs, axis=1, return_counts=True)
        for (code, place), count in zip(kinds.T.tolist(), counts.tolist(), strict=True):
            yield code, place, count


def _scan(body: bytes) -> _Scanned:
    view = np.frombuffer(body, dtype=np.uint8)
    rows = scanner.Rows.of(0, 0, 0)
    _check(scanner.scan(view, rows, scanner.COUNT))
    _bound(*rows.counts.tolist())
    rows = scanner.Rows.of(*rows.counts.tolist())
    _check(scanner.scan(view, rows, scanner.FILL))
    return _Scanned(body, view, rows.resources, rows.groups, rows.spans, rows.times)


def _resources_of(scanned: _Scanned, bodies: Sequence[bytes]) -> list[int]:
    """For each resource the place of the body that it came in."""
    if len(bodies) == 1:
        return [0] * len(scanned.resources)
    ends = np.cumsum([len(body) for body in bodies], dtype=np.int64)
    counts = np.zeros(len(bodies), dtype=np.int64)
    _check(scanner.resources_of(scanned.view, ends, counts))
    found: list[int] = np.repeat(np.arange(len(bodies)), counts).tolist()
    return found


def _bound(resources: int, groups: int, spans: int) -> None:
    if resources > MAX_RESOURCES or groups > MAX_GROUPS or spans > MAX_SPANS:
        raise LimitExceeded(
            f"one request holds {spans} spans of {groups} scopes and {resources} resources",
            reason="too_many_spans",
            hint=f"send at most {MAX_SPANS}, {MAX_GROUPS} and {MAX_RESOURCES}",
        )


def _check(code: int) -> None:
    if code != fields.OK:
        raise unreadable()


def _refuse_ids_and_times(refusals: _Refusals, scanned: _Scanned, now_ms: int) -> None:
    trace, span = scanned.sizes(scanner.TRACE), scanned.sizes(scanner.ID)
    start, end = scanned.times[:, scanner.START_NS], scanned.times[:, scanner.END_NS]
    latest = np.uint64(now_ms * 1_000_000 + MAX_AHEAD_NS)
    refusals.then(trace != TRACE_ID_BYTES, "bad_trace_id")
    refusals.then(span != SPAN_ID_BYTES, "bad_span_id")
    refusals.then(end < start, "end_before_start")
    refusals.then((start < np.uint64(EARLIEST_NS)) | (end > latest), "absurd_time")
    refusals.then(scanned.zero(scanner.TRACE), "bad_trace_id")
    refusals.then(scanned.zero(scanner.ID), "bad_span_id")
    parent = scanned.sizes(scanner.PARENT)
    refusals.then((parent != 0) & (parent != SPAN_ID_BYTES), "bad_parent_span_id")


def _own_columns(
    scanned: _Scanned, kept: Int64Array, told: _Told, now_ms: int
) -> dict[str, pa.Array[Any]]:
    """Columns of what each span has for itself."""
    rows = kept.tolist() if told.events or told.links else []
    times = scanned.times[kept].view(np.int64)
    return {
        "trace_id": _ids(scanned, kept, scanner.TRACE, TRACE_ID_BYTES),
        "span_id": _ids(scanned, kept, scanner.ID, SPAN_ID_BYTES),
        "parent_span_id": _ids(scanned, kept, scanner.PARENT, SPAN_ID_BYTES),
        "start_ns": _plain(np.ascontiguousarray(times[:, scanner.START_NS]), pa.int64()),
        "end_ns": _plain(np.ascontiguousarray(times[:, scanner.END_NS]), pa.int64()),
        "kind": _plain(scanned.spans[kept, scanner.KIND].astype(np.int8), pa.int8()),
        "events": _few(told.events, rows, len(kept)),
        "links": _few(told.links, rows, len(kept)),
        "received_ms": _plain(np.full(len(kept), now_ms, dtype=np.int64), pa.int64()),
    }


def _plain(values: Any, kind: pa.DataType) -> pa.Array[Any]:
    """Numbers without nulls, from their buffer: `pa.array` looks for pandas each time."""
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def _shared_columns(
    seen: Combinations, rows: Int64Array, index: Int64Array
) -> dict[str, pa.Array[Any]]:
    """Columns of what spans share, repeated for each span."""
    into = scanner.Codes.of(len(TEXTS), len(rows))
    scanner.renumber(seen.codes, rows, into)
    texts = seen.texts
    held = [
        [texts[code] for code in codes[:count].tolist()]
        for codes, count in zip(into.codes, into.counts.tolist(), strict=True)
    ]
    columns = coded_columns(TEXTS, into.places, held, index)
    numbers = np.take(seen.numbers, rows[index], axis=0)
    for place, name in enumerate(NUMBERS):
        columns[name] = _numbers(numbers[:, place], SPAN_CODED_SCHEMA.field(name).type)
    return columns


def _numbers(values: npt.NDArray[np.int32], kind: Any) -> pa.Array[Any]:
    """Numbers from 0 as a column; what is below is null."""
    present = values >= 0
    if not present.any():
        nothing: pa.Array[Any] = pa.nulls(len(values), kind)
        return nothing
    bits: Any = None if present.all() else np.packbits(present, bitorder="little")
    plain: Any = values.astype(kind.to_pandas_dtype())
    buffers = [None if bits is None else pa.py_buffer(bits), pa.py_buffer(plain)]
    return pa.Array.from_buffers(kind, len(values), buffers)


def _group_columns(
    scanned: _Scanned, services: list[_Service], kept: Int64Array, *, alone: bool
) -> dict[str, pa.Array[Any]]:
    """Columns of who sent the spans, repeated for each span."""
    group = scanned.spans[kept, scanner.GROUP]
    rows = scanned.groups.tolist()
    owners = [services[row[scanner.RESOURCE]] for row in rows]
    spans_of = np.bincount(group, minlength=len(rows)).tolist()
    repeated = sum(
        len(owner.resource or "") * count for owner, count in zip(owners, spans_of, strict=True)
    )
    if repeated > MAX_REPEATED_BYTES:
        if not alone:  # what is too much of one sender is left out of its own spans only
            raise LimitExceeded("resources are too large together", reason="resource_size")
        owners = [replace(owner, resource=None) for owner in owners]
    lists: dict[str, Sequence[str | None]] = {
        "service": [owner.name for owner in owners],
        "resource": [owner.resource for owner in owners],
        "scope": [
            _scope(scanned.body[row[scanner.SCOPE] : row[scanner.SCOPE_END]]) for row in rows
        ],
    }
    return coded_texts(lists, group)


def _ids(scanned: _Scanned, kept: Int64Array, column: int, width: int) -> pa.Array[Any]:
    """Ids of one width; an empty one is null."""
    data = np.empty(len(kept) * width, dtype=np.uint8)
    copied = scanner.gather(scanned.view, scanned.spans, kept, column, width, data)
    bits: Any = None
    offsets: Any = np.arange(0, len(data) + 1, width, dtype=np.int32)
    if copied < len(data):
        present = scanned.spans[kept, column + 1] > scanned.spans[kept, column]
        np.cumsum(present * width, out=offsets[1:])
        bits = np.packbits(present, bitorder="little")
    ids: Any = data[:copied]
    valid = None if bits is None else pa.py_buffer(bits)
    return pa.Array.from_buffers(
        pa.binary(), len(kept), [valid, pa.py_buffer(offsets), pa.py_buffer(ids)]
    )


def _few(texts: dict[int, str], rows: list[int], count: int) -> pa.Array[Any]:
    if not texts:
        nothing: pa.Array[Any] = pa.nulls(count, SPAN_CODED_SCHEMA.field("events").type)
        return nothing
    return coded_texts({"few": [texts.get(row) for row in rows]}, np.arange(count))["few"]


def _service(encoded: bytes) -> _Service:
    try:
        attributes = plain_dict(Resource.FromString(encoded).attributes)
    except (DecodeError, UnicodeDecodeError):
        return _Service(UNKNOWN_SERVICE, None, source_of(UNKNOWN_SERVICE), readable=False)
    name = str(attributes.get("service.name") or UNKNOWN_SERVICE)[:MAX_NAME_LENGTH]
    return _Service(name, json_object(attributes), source_of(name))


def _scope(encoded: bytes) -> str | None:
    try:
        return InstrumentationScope.FromString(encoded).name[:MAX_NAME_LENGTH] or None
    except DecodeError:
        return None


def _events(encoded: Any) -> str:
    events = [Span.Event.FromString(part) for part in encoded[:MAX_EVENTS]]
    return orjson.dumps(
        [
            {
                "name": event.name[:MAX_NAME_LENGTH],
                "time_ns": event.time_unix_nano,
                "attributes": plain_dict(event.attributes),
            }
            for event in events
        ]
    ).decode()


def _links(encoded: Any) -> str:
    links = [Span.Link.FromString(part) for part in encoded[:MAX_EVENTS]]
    return orjson.dumps(
        [
            {
                "trace_id": link.trace_id[:16].hex(),
                "span_id": link.span_id[:8].hex(),
                "attributes": plain_dict(link.attributes),
            }
            for link in links
        ]
    ).decode()
