"""OTLP spans to `SPAN_SCHEMA` columns, old and stable semantic conventions alike.

Spans of a busy service repeat themselves. Each distinct set of attributes, name, status and
resource is decoded once a body and repeated by Arrow; only ids and times are read for every span.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import orjson
import pyarrow as pa
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from collector.otlp.attributes import (
    MAX_ATTRIBUTES,
    MAX_KEY_LENGTH,
    json_object,
    plain,
    plain_dict,
)
from collector.otlp.outcome import Decoded, Rejections, source_of
from collector.otlp.wire import parse_trace_envelope
from store.model import SPAN_SCHEMA, Int64Array, SpanBatch

MAX_EVENTS = 128
MAX_NAME_LENGTH = 1024
# A span from before 2000 or more than a day ahead has a broken clock; it would never be found.
EARLIEST_NS = 946_684_800_000_000_000
MAX_AHEAD_NS = 86_400_000_000_000
UNKNOWN_SERVICE = "unknown_service"
MAX_KIND = 5
MAX_STATUS = 2
TRACE_ID_BYTES = 16
SPAN_ID_BYTES = 8
_NO_TRACE = bytes(TRACE_ID_BYTES)
_NO_SPAN = bytes(SPAN_ID_BYTES)

_TEXT_COLUMNS = (
    "http_method",
    "http_route",
    "url",
    "server_address",
    "db_system",
    "statement",
    "code_file",
    "code_function",
)
_NUMBER_COLUMNS = ("http_status", "code_line")
_COLUMNS = _TEXT_COLUMNS + _NUMBER_COLUMNS
_NUMBER_BOUND = {"http_status": 2**15 - 1, "code_line": 2**31 - 1}

# Attribute → column, best source first. A loser stays in `attributes`.
_SOURCES: dict[str, tuple[str, ...]] = {
    "http_method": ("http.request.method", "http.method"),
    "http_route": ("http.route",),
    "http_status": ("http.response.status_code", "http.status_code"),
    "url": ("url.full", "http.url", "url.path", "http.target"),
    "server_address": ("server.address", "net.peer.name", "http.host", "net.peer.ip"),
    "db_system": ("db.system.name", "db.system"),
    "statement": ("db.query.text", "db.statement"),
    "code_file": ("code.file.path", "code.filepath"),
    "code_line": ("code.line.number", "code.lineno"),
    "code_function": ("code.function.name", "code.function"),
}
_PROMOTED: dict[str, tuple[int, int]] = {
    key: (_COLUMNS.index(column), rank)
    for column, keys in _SOURCES.items()
    for rank, key in enumerate(keys)
}

Key = TypeVar("Key", bytes, tuple[bytes, ...])
Value = TypeVar("Value")
# One attribute: its key, its value, and its promoted column and rank, if any.
Attribute = tuple[str, Any, tuple[int, int] | None]

MALFORMED = "malformed_or_not_utf8"


@dataclass(frozen=True, slots=True)
class _AttributeSet:
    row: tuple[Any, ...]  # one cell for each of _COLUMNS
    rest: str | None


class _Distinct(Generic[Key, Value]):
    """Each distinct value of a body once, and for each span the place of its own."""

    def __init__(self, decode: Callable[[Key], Value]) -> None:
        self._decode: Callable[[Key], Value] = decode
        self._places: dict[Key, int] = {}
        self.values: list[Value] = []
        self.index: list[int] = []

    def place(self, key: Key) -> int:
        place = self._places.get(key)
        if place is None:
            value = self._decode(key)
            place = self._places[key] = len(self.values)
            self.values.append(value)
        return place

    def repeated(self, kind: pa.DataType, cells: list[Any]) -> pa.Array[Any]:
        return pa.array(cells, kind).take(pa.array(self.index, pa.int32()))


class TraceDecoder:
    """Decodes bodies; remembers parsed attributes from one body to the next, within a bound."""

    def __init__(self, *, max_known: int = 20_000, max_known_bytes: int = 512) -> None:
        self._known: dict[bytes, Attribute] = {}
        self._max_known = max_known
        self._max_known_bytes = max_known_bytes

    def decode(self, body: bytes, now_ms: int) -> Decoded[SpanBatch]:
        """An `ExportTraceServiceRequest` as columns; bad spans are refused one by one.

        Raises:
            BadInput: The body as a whole is no OTLP message.
        """
        request = parse_trace_envelope(body)
        columns = _Columns(self.attributes)
        rejections = Rejections()
        services: Counter[str] = Counter()
        latest_ns = now_ms * 1_000_000 + MAX_AHEAD_NS
        for resource_spans in request.resources:
            try:
                service, resource = _resource(resource_spans.resource)
            except (DecodeError, UnicodeDecodeError):
                lost = sum(len(scope.spans) for scope in resource_spans.scopes)
                rejections.add(source_of(UNKNOWN_SERVICE), MALFORMED, lost)
                continue
            source = source_of(service)
            for scope_spans in resource_spans.scopes:
                before = len(columns.trace_id)
                for span in scope_spans.spans:
                    reason = columns.add(span, latest_ns)
                    if reason:
                        rejections.add(source, reason)
                added = len(columns.trace_id) - before
                services[source] += added
                columns.groups.append((service, resource, _scope(scope_spans.scope)))
                columns.group_sizes.append(added)
        return Decoded(SpanBatch(columns.table(now_ms)), dict(services), rejections)

    def attributes(self, encoded: tuple[bytes, ...]) -> _AttributeSet:
        rest: dict[str, Any] = {}
        row: list[Any] = [None] * len(_COLUMNS)
        held: dict[int, tuple[int, str]] = {}
        for part in encoded:
            key, value, promoted = self._known.get(part) or self._parse(part)
            if promoted is None:
                if len(rest) < MAX_ATTRIBUTES:
                    rest[key] = value
                continue
            place, rank = promoted
            holder = held.get(place)
            if holder is not None and holder[0] <= rank:
                rest[key] = value
                continue
            if holder is not None:
                rest[holder[1]] = row[place]
            held[place] = (rank, key)
            row[place] = value
        return _AttributeSet(tuple(row), json_object(rest))

    def _parse(self, part: bytes) -> Attribute:
        message = KeyValue.FromString(part)
        key, value = message.key, plain(message.value)
        promoted = _PROMOTED.get(key)
        if promoted is not None and not _fits(promoted[0], value):
            promoted = None
        found = (key[:MAX_KEY_LENGTH], value, promoted)
        if len(part) <= self._max_known_bytes:
            # Another thread may be decoding too: replacing the dict is safe, clearing it is not.
            if len(self._known) >= self._max_known:
                self._known = {}
            self._known[part] = found
        return found


class _Columns:
    """Growing lists, one a column, for the spans of one body."""

    def __init__(self, attributes: Callable[[tuple[bytes, ...]], _AttributeSet]) -> None:
        self.trace_id: list[bytes] = []
        self.span_id: list[bytes] = []
        self.parent: list[bytes | None] = []
        self.start: list[int] = []
        self.end: list[int] = []
        self.kind: list[int] = []
        self.events: list[str | None] = []
        self.links: list[str | None] = []
        self.name: _Distinct[bytes, str] = _Distinct(_name)
        self.status: _Distinct[bytes, tuple[int, str | None]] = _Distinct(_status)
        self.attributes: _Distinct[tuple[bytes, ...], _AttributeSet] = _Distinct(attributes)
        self.groups: list[tuple[str, str | None, str | None]] = []
        self.group_sizes: list[int] = []

    def add(self, span: Any, latest_ns: int) -> str:
        """Add a span, or say why not; all its parts are decoded before the first is added."""
        trace_id, span_id, parent = span.trace_id, span.span_id, span.parent_span_id
        start, end = span.start_time_unix_nano, span.end_time_unix_nano
        if len(trace_id) != TRACE_ID_BYTES or len(span_id) != SPAN_ID_BYTES:
            return "bad_trace_id" if len(trace_id) != TRACE_ID_BYTES else "bad_span_id"
        if not EARLIEST_NS <= start <= end <= latest_ns:
            return "end_before_start" if end < start else "absurd_time"
        reason = _refusal(trace_id, span_id, parent)
        if reason:
            return reason
        try:
            name = self.name.place(span.name)
            status = self.status.place(span.status)
            attributes = self.attributes.place(tuple(span.attributes))
            events, links = span.events, span.links
            events_json = _events(events) if events else None
            links_json = _links(links) if links else None
        except (DecodeError, UnicodeDecodeError):
            return MALFORMED
        self.name.index.append(name)
        self.status.index.append(status)
        self.attributes.index.append(attributes)
        self.events.append(events_json)
        self.links.append(links_json)
        self.trace_id.append(trace_id)
        self.span_id.append(span_id)
        self.parent.append(parent or None)
        self.start.append(start)
        self.end.append(end)
        kind = span.kind
        self.kind.append(kind if kind <= MAX_KIND else 0)
        return ""

    def table(self, now_ms: int) -> pa.Table:
        group = np.repeat(np.arange(len(self.groups)), self.group_sizes)
        sets = self.attributes
        arrays: dict[str, Any] = {
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "parent_span_id": self.parent,
            "start_ns": np.asarray(self.start, dtype=np.int64),
            "end_ns": np.asarray(self.end, dtype=np.int64),
            "service": _grouped(self.groups, 0, group),
            "name": self.name.repeated(pa.string(), self.name.values),
            "kind": np.asarray(self.kind, dtype=np.int8),
            "status": self.status.repeated(pa.int8(), [code for code, _ in self.status.values]),
            "status_message": self.status.repeated(
                pa.string(), [message for _, message in self.status.values]
            ),
            "scope": _grouped(self.groups, 2, group),
            "attributes": sets.repeated(pa.string(), [entry.rest for entry in sets.values]),
            "resource": _grouped(self.groups, 1, group),
            "events": self.events,
            "links": self.links,
            "received_ms": np.full(len(self.trace_id), now_ms, dtype=np.int64),
        }
        for place, column in enumerate(_COLUMNS):
            cells = [entry.row[place] for entry in sets.values]
            arrays[column] = sets.repeated(SPAN_SCHEMA.field(column).type, cells)
        return pa.Table.from_arrays(
            [_array(arrays[column.name], column.type) for column in SPAN_SCHEMA],
            schema=SPAN_SCHEMA,
        )


def _refusal(trace_id: bytes, span_id: bytes, parent: bytes) -> str:
    if trace_id == _NO_TRACE:
        return "bad_trace_id"
    if span_id == _NO_SPAN:
        return "bad_span_id"
    return "bad_parent_span_id" if parent and len(parent) != SPAN_ID_BYTES else ""


def _resource(encoded: bytes) -> tuple[str, str | None]:
    attributes = plain_dict(Resource.FromString(encoded).attributes)
    service = str(attributes.get("service.name") or UNKNOWN_SERVICE)[:MAX_NAME_LENGTH]
    return service, json_object(attributes)


def _scope(encoded: bytes) -> str | None:
    try:
        return InstrumentationScope.FromString(encoded).name[:MAX_NAME_LENGTH] or None
    except DecodeError:
        return None


def _name(encoded: bytes) -> str:
    return encoded.decode()[:MAX_NAME_LENGTH]


def _status(encoded: bytes) -> tuple[int, str | None]:
    status = Status.FromString(encoded)
    code = status.code
    return code if 0 <= code <= MAX_STATUS else 0, status.message[:MAX_NAME_LENGTH] or None


def _fits(place: int, value: object) -> bool:
    if place < len(_TEXT_COLUMNS):
        return isinstance(value, str)
    bound = _NUMBER_BOUND[_COLUMNS[place]]
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= bound


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


def _grouped(
    groups: list[tuple[str, str | None, str | None]], place: int, group: Int64Array
) -> pa.Array[Any]:
    return pa.array([entry[place] for entry in groups], pa.string()).take(
        pa.array(group, pa.int64())
    )


def _array(values: Any, kind: pa.DataType) -> pa.Array[Any]:
    return values if isinstance(values, pa.Array) else pa.array(values, kind)
