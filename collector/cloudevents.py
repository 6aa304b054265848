"""CloudEvents 1.0 with GA4 e-commerce types, checked one by one, to `EVENT_SCHEMA` rows.

Money never passes through a float: JSON numbers are read as decimals.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any, NoReturn

import orjson
import pyarrow as pa

from collector.currencies import ISO_4217
from collector.ga4 import cloud_events, is_measurement
from store.errors import BadInput, LimitExceeded
from store.model import EVENT_SCHEMA, EventBatch

EVENT_TYPES = frozenset(
    {
        "view_item",
        "add_to_cart",
        "begin_checkout",
        "add_shipping_info",
        "add_payment_info",
        "purchase",
        "payment_failed",
        "refund",
        "search",
        "view_search_results",
        "select_item",
        "out_of_stock",
    }
)
MAX_EVENTS = 10_000
MAX_TEXT = 256
MAX_EVENT_BYTES = 64 * 1024
MAX_AGE_MS = 400 * 86_400_000  # the last sale of the same name must be there to compare with
MAX_AHEAD_MS = 5 * 60_000
MAX_AMOUNT = Decimal(10) ** 13
_CENT_OF_CENT = Decimal("0.0001")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
NDJSON = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
JSON = "application/json"

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_TRACE_ID = re.compile(r"[0-9a-fA-F]{32}")
_PROMOTED = frozenset(
    {
        "session_id",
        "checkout_id",
        "order_id",
        "transaction_id",
        "value",
        "amount",
        "currency",
        "device",
        "channel",
        "country",
        "returning",
        "bot",
        "test",
        "trace_id",
    }
)


@dataclass(frozen=True, slots=True)
class Rejected:
    """One event that was not taken: its place in the request, and why."""

    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class DecodedEvents:
    """What is left of a request."""

    batch: EventBatch
    duplicates: int
    rejected: tuple[Rejected, ...]


class _Refused(Exception):
    """An event that cannot be taken; its text is the reason."""


def split_events(body: bytes, content_type: str, headers: Mapping[str, str]) -> list[Any]:
    """The events of a request as JSON values; an unreadable line stays as an exception.

    Args:
        body: The decompressed body.
        content_type: The bare media type, lower case.
        headers: The request's headers, names in lower case; `ce-*` ones make binary mode.

    Raises:
        BadInput: The body as a whole is no JSON.
        LimitExceeded: There are more than `MAX_EVENTS` (reason `too_many_events`).
    """
    if content_type in NDJSON:
        lines = [line for line in body.splitlines() if line.strip()]
        _check_count(len(lines))
        return [_line(line) for line in lines]
    if "ce-specversion" in headers:
        return [_binary_mode(body, headers)]
    document = _loads(body)
    if is_measurement(document):
        document = cloud_events(document)
    if content_type == STRUCTURED or not isinstance(document, list):
        return [document]
    _check_count(len(document))
    return document


def decode_events(events: Sequence[Any], now_ms: int) -> DecodedEvents:
    """Events as columns; each bad one is rejected with its place and reason."""
    rows: list[dict[str, Any]] = []
    rejected: list[Rejected] = []
    seen: set[tuple[str, str]] = set()
    duplicates = 0
    for index, event in enumerate(events):
        try:
            row = _row(event, now_ms)
        except _Refused as refused:
            rejected.append(Rejected(index, str(refused)))
            continue
        key = (row["source"], row["event_id"])
        if key in seen:
            duplicates += 1
            continue
        seen.add(key)
        rows.append(row)
    table = pa.Table.from_pylist(rows, schema=EVENT_SCHEMA)
    return DecodedEvents(EventBatch(table), duplicates, tuple(rejected))


def _row(event: Any, now_ms: int) -> dict[str, Any]:
    if isinstance(event, BadInput):
        raise _Refused(event.message)
    if not isinstance(event, dict):
        raise _Refused("an event must be a JSON object")
    if event.get("specversion") != "1.0":
        raise _Refused('specversion must be "1.0"')
    kind = event.get("type")
    if not isinstance(kind, str) or kind not in EVENT_TYPES:
        raise _Refused(
            f"type {_shown(kind)} is unknown; use one of {', '.join(sorted(EVENT_TYPES))}"
        )
    data = event.get("data") or _from_base64(event.get("data_base64")) or {}
    if not isinstance(data, dict):
        raise _Refused("data must be a JSON object")
    order_id = _text(data, "transaction_id") or _text(data, "order_id")
    amount, currency = _money(data, kind)
    if kind == "purchase" and (order_id is None or amount is None):
        raise _Refused("a purchase needs transaction_id, value and currency")
    return {
        "event_id": _required(event, "id"),
        "source": _required(event, "source"),
        "type": kind,
        "ts_ms": _time_ms(event.get("time"), now_ms),
        "session_id": _text(data, "session_id"),
        "checkout_id": _text(data, "checkout_id"),
        "order_id": order_id,
        "amount": amount,
        "currency": currency,
        "bot": _flag(data, "bot") or False,
        "test": _flag(data, "test") or False,
        "device": _lower(_text(data, "device")),
        "channel": _text(data, "channel"),
        "country": _text(data, "country"),
        "returning": _flag(data, "returning"),
        "trace_id": _trace_id(data.get("trace_id"), event.get("traceparent")),
        "data": _rest(data),
        "received_ms": now_ms,
    }


def _from_base64(given: Any) -> Any:
    """The data of an event whose sender takes JSON for bytes."""
    if given is None:
        return None
    try:
        return _loads(base64.b64decode(given, validate=True))
    except (BadInput, TypeError, ValueError):
        raise _Refused("data_base64 must be a JSON object in base64") from None


def _required(event: dict[str, Any], name: str) -> str:
    value = event.get(name)
    if not isinstance(value, str) or not value or len(value) > MAX_TEXT:
        raise _Refused(f"{name} must be a text of 1 to {MAX_TEXT} characters")
    return _encodable(value, name)


def _text(data: dict[str, Any], name: str) -> str | None:
    value = data.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise _Refused(f"data.{name} must be a text of at most {MAX_TEXT} characters")
    return _encodable(value, f"data.{name}")


def _encodable(value: str, name: str) -> str:
    # JSON may hold lone surrogates, which UTF-8 cannot.
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _Refused(f"{name} is not valid Unicode") from None
    return value


def _lower(value: str | None) -> str | None:
    return None if value is None else value.lower()


def _flag(data: dict[str, Any], name: str) -> bool | None:
    value = data.get(name)
    if value is None or isinstance(value, bool):
        return value
    known = {"true": True, "1": True, "false": False, "0": False}.get(str(value).lower()[:8])
    if known is None:
        raise _Refused(f"data.{name} must be true or false")
    return known


def _money(data: dict[str, Any], kind: str) -> tuple[Decimal | None, str | None]:
    given = data.get("value", data.get("amount"))
    currency = _text(data, "currency")
    if currency is not None and currency not in ISO_4217:
        raise _Refused(f"data.currency {_shown(currency)} is no ISO 4217 code")
    if given is None:
        return None, currency
    if currency is None:
        raise _Refused("data.value needs data.currency")
    if isinstance(given, bool) or not isinstance(given, (int, str, Decimal)):
        raise _Refused("data.value must be a decimal number")
    if isinstance(given, str) and len(given) > 40:
        raise _Refused("data.value must be a decimal number")
    try:
        amount = Decimal(given)
    except InvalidOperation:
        raise _Refused("data.value must be a decimal number") from None
    if kind == "refund" and amount.is_finite():
        # Some shops write what they gave back with a minus.
        amount = abs(amount)
    if not amount.is_finite() or amount < 0 or amount >= MAX_AMOUNT:
        raise _Refused("data.value must be 0 or more and less than 10^13")
    return amount.quantize(_CENT_OF_CENT, ROUND_HALF_EVEN), currency


def _time_ms(value: Any, now_ms: int) -> int:
    if value is None:
        return now_ms
    try:
        # RFC 3339 takes both letters in either case.
        at = datetime.fromisoformat(value.upper())
        ts_ms = (at - _EPOCH) // timedelta(milliseconds=1)
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise _Refused("time must be RFC 3339 with a zone, like 2026-11-27T10:00:00Z") from None
    if ts_ms > now_ms + MAX_AHEAD_MS:
        raise _Refused("time is more than 5 minutes in the future; check the sender's clock")
    if ts_ms < now_ms - MAX_AGE_MS:
        raise _Refused(f"time is more than {MAX_AGE_MS // 86_400_000} days ago")
    return ts_ms


def _trace_id(value: Any, traceparent: Any) -> bytes | None:
    if isinstance(value, str) and _TRACE_ID.fullmatch(value):
        return bytes.fromhex(value)
    found = _TRACEPARENT.fullmatch(traceparent) if isinstance(traceparent, str) else None
    return bytes.fromhex(found[1]) if found else None


def _rest(data: dict[str, Any]) -> str | None:
    rest = {key: value for key, value in data.items() if key not in _PROMOTED}
    if not rest:
        return None
    try:
        encoded = orjson.dumps(rest, default=_decimal_text)
    except (TypeError, ValueError, RecursionError):
        raise _Refused("data cannot be stored as JSON") from None
    if len(encoded) > MAX_EVENT_BYTES:
        raise _Refused(f"data is larger than {MAX_EVENT_BYTES} bytes")
    return encoded.decode()


def _decimal_text(value: object) -> str:
    if isinstance(value, (Decimal, int)):
        return str(value)
    raise TypeError(type(value).__name__)


def _shown(value: object) -> str:
    return ascii(value)[:60]


def _line(line: bytes) -> Any:
    try:
        return _loads(line)
    except BadInput as error:
        return error


def _binary_mode(body: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
    event: dict[str, Any] = {
        name.removeprefix("ce-"): value for name, value in headers.items() if name.startswith("ce-")
    }
    event["data"] = _loads(body) if body.strip() else {}
    return event


def _loads(body: bytes) -> Any:
    try:
        return json.loads(body.decode(), parse_float=Decimal, parse_constant=_not_json)
    except (ValueError, RecursionError, InvalidOperation) as error:
        raise BadInput(f"the body is not valid JSON: {str(error)[:120]}") from error


def _not_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _check_count(count: int) -> None:
    if count > MAX_EVENTS:
        raise LimitExceeded(
            f"{count} events in one request, at most {MAX_EVENTS} are taken",
            reason="too_many_events",
            hint="send smaller batches",
        )
