"""Columns of spans, business events and log records, as tables of Arrow."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

# Times are nanoseconds since the epoch; ids are raw bytes (16 and 8); a root's parent is null.
# The promoted columns hold the value of either semantic convention, old or stable; everything else
# stays in `attributes` and `resource`, JSON objects. `seq` is given by the store, in commit order.
_SPAN_FIELDS: list[pa.Field[Any]] = [
    pa.field("trace_id", pa.binary(), nullable=False),
    pa.field("span_id", pa.binary(), nullable=False),
    pa.field("parent_span_id", pa.binary()),
    pa.field("start_ns", pa.int64(), nullable=False),
    pa.field("end_ns", pa.int64(), nullable=False),
    pa.field("service", pa.string(), nullable=False),
    pa.field("name", pa.string(), nullable=False),
    pa.field("kind", pa.int8(), nullable=False),  # OTLP SpanKind: 1 internal … 5 consumer
    pa.field("status", pa.int8(), nullable=False),  # 0 unset, 1 ok, 2 error
    pa.field("status_message", pa.string()),
    pa.field("scope", pa.string()),
    pa.field("http_method", pa.string()),
    pa.field("http_route", pa.string()),
    pa.field("http_status", pa.int16()),
    pa.field("url", pa.string()),
    pa.field("server_address", pa.string()),
    pa.field("db_system", pa.string()),
    pa.field("statement", pa.string()),
    pa.field("code_file", pa.string()),
    pa.field("code_line", pa.int32()),
    pa.field("code_function", pa.string()),
    pa.field("attributes", pa.string()),  # JSON object
    pa.field("resource", pa.string()),  # JSON object
    pa.field("events", pa.string()),  # JSON array of {name, time_ns, attributes}
    pa.field("links", pa.string()),  # JSON array of {trace_id, span_id, attributes}, ids in hex
    pa.field("received_ms", pa.int64(), nullable=False),
]
SPAN_SCHEMA = pa.schema(_SPAN_FIELDS)
SPAN_READ_SCHEMA = SPAN_SCHEMA.append(pa.field("seq", pa.int64(), nullable=False))


def coded(schema: pa.Schema) -> pa.Schema:
    """The schema with each text as a dictionary: spans repeat themselves.

    A dictionary has each text once and no null; nulls are in the indices.
    """
    texts = pa.dictionary(pa.int32(), pa.string())
    return pa.schema(
        field.with_type(texts) if pa.types.is_string(field.type) else field for field in schema
    )


SPAN_CODED_SCHEMA = coded(SPAN_SCHEMA)
SPAN_CODED_READ_SCHEMA = coded(SPAN_READ_SCHEMA)

# Business events (GA4 types in CloudEvents): money is exact decimal in the store's own currency.
_EVENT_FIELDS: list[pa.Field[Any]] = [
    pa.field("event_id", pa.string(), nullable=False),  # idempotency key, unique per source
    pa.field("source", pa.string(), nullable=False),
    pa.field("type", pa.string(), nullable=False),
    pa.field("ts_ms", pa.int64(), nullable=False),
    pa.field("session_id", pa.string()),
    pa.field("checkout_id", pa.string()),
    pa.field("order_id", pa.string()),
    pa.field("amount", pa.decimal128(18, 4)),
    pa.field("currency", pa.string()),
    pa.field("bot", pa.bool_(), nullable=False),
    pa.field("test", pa.bool_(), nullable=False),
    pa.field("device", pa.string()),
    pa.field("channel", pa.string()),
    pa.field("country", pa.string()),
    pa.field("returning", pa.bool_()),
    pa.field("trace_id", pa.binary()),
    pa.field("data", pa.string()),  # JSON object: what the client sent beside these
    pa.field("received_ms", pa.int64(), nullable=False),
]
EVENT_SCHEMA = pa.schema(_EVENT_FIELDS)
EVENT_READ_SCHEMA = EVENT_SCHEMA.append(pa.field("seq", pa.int64(), nullable=False))

# Log records, and events that are no business of `EVENT_SCHEMA`. `ts_ns` is when it happened, or
# when it was observed; `body` is text, of a structured body its JSON.
_LOG_FIELDS: list[pa.Field[Any]] = [
    pa.field("ts_ns", pa.int64(), nullable=False),
    pa.field("severity", pa.int8(), nullable=False),  # OTLP SeverityNumber: 0 unknown, 1 to 24
    pa.field("severity_text", pa.string()),
    pa.field("service", pa.string(), nullable=False),
    pa.field("event_name", pa.string()),
    pa.field("body", pa.string()),
    pa.field("trace_id", pa.binary()),
    pa.field("span_id", pa.binary()),
    pa.field("scope", pa.string()),
    pa.field("attributes", pa.string()),  # JSON object
    pa.field("resource", pa.string()),  # JSON object
    pa.field("received_ms", pa.int64(), nullable=False),
]
LOG_SCHEMA = pa.schema(_LOG_FIELDS)
LOG_READ_SCHEMA = LOG_SCHEMA.append(pa.field("seq", pa.int64(), nullable=False))
