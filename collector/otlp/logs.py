"""OTLP log records to `LOG_SCHEMA` columns; what browsers measure becomes vitals instead.

The event `browser.web_vital` has two forms: fields in the body, and, since 2026, attributes of the
same names below `browser.web_vital.`. Both are taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from collector.otlp.attributes import Plain, json_object, label_text, plain, plain_dict
from collector.otlp.outcome import Decoded, Rejections, source_of
from collector.otlp.wire import parse_leaf_envelope
from collector.web_vitals import Vital, vital_of
from store.model import LOG_SCHEMA, LogBatch

# Of one record as it arrives: what is kept of it is bounded by the processors.
MAX_RECORD_BYTES = 1024 * 1024
MAX_NAME = 256
# A resource is stored with each of its records: beyond this it is left out of them.
MAX_REPEATED_BYTES = 64 * 1024 * 1024
EARLIEST_NS = 946_684_800_000_000_000
MAX_AHEAD_NS = 86_400_000_000_000
WEB_VITAL = "browser.web_vital"
_MALFORMED = "malformed_or_not_utf8"
_MAX_SEVERITY = 24
_TRACE_ID_BYTES, _SPAN_ID_BYTES = 16, 8
# Where only a text is given. The logs data model, "Displaying Severity".
_SEVERITIES = {
    "TRACE": 1,
    "DEBUG": 5,
    "INFO": 9,
    "INFORMATION": 9,
    "NOTICE": 10,
    "WARN": 13,
    "WARNING": 13,
    "ERROR": 17,
    "ERR": 17,
    "CRITICAL": 21,
    "FATAL": 21,
    "EMERGENCY": 24,
}


@dataclass(frozen=True, slots=True)
class DecodedLogs(Decoded[LogBatch]):
    """Records to store, and what browsers measured."""

    vitals: tuple[Vital, ...] = ()


@dataclass(frozen=True, slots=True)
class _Sender:
    """One resource: who sends, and what every record of it carries."""

    service: str
    source: str
    attributes: Mapping[str, Any]
    resource: str | None


class _Refused(Exception):
    """A record that cannot be taken; its text is the reason."""


class _Body:
    """What one body gives, as it is read."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.rows: list[dict[str, Any]] = []
        self.vitals: list[Vital] = []
        self.rejections = Rejections()
        self.by_source: Counter[str] = Counter()
        self.repeated_bytes = 0

    def take(self, sender: _Sender, scope: str | None, leaf: bytes) -> None:
        """One record, or the reason why not.

        Raises:
            _Refused: It is neither a record nor a vital.
        """
        record = _record(leaf)
        attributes = plain_dict(record.attributes)
        event = record.event_name or label_text(attributes.get("event.name"))
        if event == WEB_VITAL:
            vital = vital_of(_measured(attributes, plain(record.body), sender.attributes))
            if vital is None:
                raise _Refused("not_a_web_vital")
            self.vitals.append(vital)
            return
        row = _row(record, self.now_ms)
        row["attributes"] = json_object(attributes)
        row["event_name"] = event[:MAX_NAME] or None
        row["service"], row["scope"] = sender.service, scope
        row["resource"] = sender.resource
        self.repeated_bytes += len(sender.resource or "")
        self.rows.append(row)
        self.by_source[sender.source] += 1

    def decoded(self) -> DecodedLogs:
        if self.repeated_bytes > MAX_REPEATED_BYTES:
            for row in self.rows:
                row["resource"] = None
        table = pa.Table.from_pylist(self.rows, schema=LOG_SCHEMA)
        return DecodedLogs(
            LogBatch(table), dict(self.by_source), self.rejections, tuple(self.vitals)
        )


def decode_logs(body: bytes, now_ms: int) -> DecodedLogs:
    """An `ExportLogsServiceRequest` as columns; bad records are refused one by one.

    Raises:
        BadInput: The body as a whole is no OTLP message.
        LimitExceeded: It holds too many records.
    """
    request = parse_leaf_envelope(body)
    found = _Body(now_ms)
    for resource in request.resources:
        sender = _sender(resource.resource)
        if sender is None:
            count = sum(len(scope.leaves) for scope in resource.scopes)
            found.rejections.add(source_of("unknown_service"), _MALFORMED, count)
            continue
        found.by_source[sender.source] += 0
        for group in resource.scopes:
            scope = _scope(group.scope)
            for leaf in group.leaves:
                try:
                    found.take(sender, scope, leaf)
                except _Refused as refused:
                    found.rejections.add(sender.source, str(refused))
    return found.decoded()


def severity_of(number: int, text: str) -> int:
    """OTLP's number of a severity, from its text where no valid one is given.

    >>> severity_of(0, "warning"), severity_of(17, ""), severity_of(99, "")
    (13, 17, 0)
    """
    if 0 < number <= _MAX_SEVERITY:
        return number
    return _SEVERITIES.get(text.strip().upper(), 0)


def _record(leaf: bytes) -> Any:
    if not leaf:
        raise _Refused("empty_record")
    if len(leaf) > MAX_RECORD_BYTES:
        raise _Refused("log_too_large")
    try:
        return LogRecord.FromString(leaf)
    except (DecodeError, UnicodeDecodeError):
        raise _Refused(_MALFORMED) from None


def _row(record: Any, now_ms: int) -> dict[str, Any]:
    return {
        "ts_ns": _time_ns(record, now_ms),
        "severity": severity_of(record.severity_number, record.severity_text),
        "severity_text": record.severity_text[:MAX_NAME] or None,
        "body": body_text(plain(record.body)),
        "trace_id": _id(record.trace_id, _TRACE_ID_BYTES),
        "span_id": _id(record.span_id, _SPAN_ID_BYTES),
        "received_ms": now_ms,
    }


def _time_ns(record: Any, now_ms: int) -> int:
    """When it happened, else when it was observed, else now."""
    now_ns = now_ms * 1_000_000
    ts_ns: int = record.time_unix_nano or record.observed_time_unix_nano or now_ns
    if not EARLIEST_NS <= ts_ns <= now_ns + MAX_AHEAD_NS:
        raise _Refused("absurd_time")
    return ts_ns


def body_text(body: Plain) -> str | None:
    """A body as text; a structured one as JSON."""
    if body is None or isinstance(body, str):
        return body or None
    return orjson.dumps(body).decode()


def _id(encoded: bytes, size: int) -> bytes | None:
    """An id, or None where there is no valid one: the record tells something without it."""
    return encoded if len(encoded) == size and any(encoded) else None


def _measured(
    attributes: Mapping[str, Any], body: Plain, resource: Mapping[str, Any]
) -> dict[str, Any]:
    """The fields of a web vital, in the names of a beacon."""
    told = body if isinstance(body, dict) else {}
    mobile = attributes.get("browser.mobile", resource.get("browser.mobile"))
    return {
        **{name: attributes.get(f"{WEB_VITAL}.{name}", told.get(name)) for name in _VITAL_FIELDS},
        "page": attributes.get("url.full") or attributes.get("url.path"),
        "device": _DEVICES.get(mobile, "") if isinstance(mobile, bool) else "",
    }


_VITAL_FIELDS = ("name", "value", "id")
_DEVICES = {True: "mobile", False: "desktop"}


def _sender(encoded: bytes) -> _Sender | None:
    """Who a resource is; None where it is malformed."""
    try:
        attributes = plain_dict(Resource.FromString(encoded).attributes)
    except (DecodeError, UnicodeDecodeError):
        return None
    service = label_text(attributes.get("service.name"))[:MAX_NAME] or "unknown_service"
    return _Sender(service, source_of(service), attributes, json_object(attributes))


def _scope(encoded: bytes) -> str | None:
    try:
        return InstrumentationScope.FromString(encoded).name[:MAX_NAME] or None
    except (DecodeError, UnicodeDecodeError):
        return None
