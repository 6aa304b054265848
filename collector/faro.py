"""Grafana Faro payloads: web vitals and page loads, errors, logs, events and spans of browsers.

What names a person is left out here, before anything is stored: see `collector.browser_privacy`.
The shape is that of the Faro web SDK 1 and 2: `{meta, measurements, exceptions, logs, events,
traces}`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import orjson
import pyarrow as pa

from collector.browser_privacy import MAX_TEXT, plain_attributes, plain_spans, plain_text
from collector.vital_kinds import FARO_NAVIGATION, VITALS
from collector.web_vitals import DEVICES, Vital, kept, page_template, vital_of
from store.errors import BadInput, LimitExceeded
from store.model import LOG_SCHEMA, LogBatch

MAX_ITEMS = 500  # of one kind; the SDK sends 50
MAX_FRAMES = 50
MAX_CONTEXT = 50
# A browser's clock may be anything: what is further off happened now.
MAX_OFF_MS = 3_600_000
_NAVIGATION = "faro.performance.navigation"
_RESOURCE = "faro.performance.resource"
_INFO, _ERROR = 9, 17
_LEVELS = {"trace": 1, "debug": 5, "info": 9, "log": 9, "warn": 13, "error": 17}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class FaroPayload:
    """What a payload gives.

    Attributes:
        vitals: Web vitals and parts of page loads.
        logs: Logs, events and errors.
        errors: How many of the logs are errors of JavaScript.
        page: The page's template; `device` its class of device.
        traces: An OTLP/JSON body of spans, or None.
        not_kept: Items that are not stored, by reason.
    """

    vitals: tuple[Vital, ...]
    logs: LogBatch
    errors: int
    page: str
    device: str
    traces: bytes | None
    not_kept: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Browser:
    """What `meta` tells, and nothing of it that names a person."""

    service: str
    page: str
    device: str
    resource: str
    attributes: Mapping[str, str]
    now_ms: int


def decode_faro(body: bytes, now_ms: int) -> FaroPayload:
    """The parts of a payload; an item that is not of its shape is left out and counted.

    Raises:
        BadInput: It is no JSON of that shape.
        LimitExceeded: There are more than `MAX_ITEMS` of a kind (reason `too_many_items`).
    """
    document = _document(body)
    not_kept: Counter[str] = Counter()
    lists = {name: _items(document, name, not_kept) for name in _KINDS}
    browser = _browser(_mapping(document.get("meta")), now_ms)
    base = {"page": browser.page, "device": browser.device}
    values = chain(_web_vitals(lists["measurements"]), _page_loads(lists["events"]))
    vitals, unbelievable = kept(
        vital_of({**base, "name": name, "value": value, "id": report_id})
        for name, value, report_id in values
    )
    not_kept["not_a_web_vital"] += unbelievable
    not_kept["custom_measurement"] += sum(
        1 for item in lists["measurements"] if item.get("type") != "web-vitals"
    )
    rows = [_error(item, browser) for item in lists["exceptions"]]
    rows += [_log(item, browser) for item in lists["logs"]]
    rows += list(_events(lists["events"], browser, not_kept))
    return FaroPayload(
        vitals=tuple(vitals),
        logs=LogBatch(pa.Table.from_pylist(rows, schema=LOG_SCHEMA)),
        errors=len(lists["exceptions"]),
        page=browser.page,
        device=browser.device,
        traces=_traces(document.get("traces"), browser.service, not_kept),
        not_kept=+not_kept,
    )


_KINDS = ("measurements", "exceptions", "logs", "events")


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"the payload is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise BadInput("a Faro payload is a JSON object")
    return document


def _items(document: Mapping[str, Any], name: str, not_kept: Counter[str]) -> list[dict[str, Any]]:
    found = document.get(name) or []
    if not isinstance(found, list):
        raise BadInput(f"{name} must be a list")
    if len(found) > MAX_ITEMS:
        raise LimitExceeded(
            f"{len(found)} {name} in one payload, at most {MAX_ITEMS} are taken",
            reason="too_many_items",
        )
    items = [item for item in found if isinstance(item, dict)]
    not_kept["malformed_item"] += len(found) - len(items)
    return items


def _browser(meta: Mapping[str, Any], now_ms: int) -> _Browser:
    app = _mapping(meta.get("app"))
    browser = _mapping(meta.get("browser"))
    service = _plain(app.get("name"), 200) or "browser"
    url = _mapping(meta.get("page")).get("url")
    resource = {
        "service.name": service,
        "service.version": _plain(app.get("version"), 100),
        "deployment.environment.name": _plain(app.get("environment"), 100),
    }
    page = page_template(url) if isinstance(url, str) and url else "/"
    device = _device(browser)
    attributes = {
        "url.template": page,
        "device": device,
        "browser": _plain(browser.get("name"), 50),
    }
    return _Browser(
        service=service,
        page=page,
        device=device,
        resource=orjson.dumps({name: value for name, value in resource.items() if value}).decode(),
        attributes={name: value for name, value in attributes.items() if value},
        now_ms=now_ms,
    )


def _device(browser: Mapping[str, Any]) -> str:
    """The SDK tells whether it is mobile; its attribute `device` is taken where a shop sets one."""
    told = browser.get("device")
    if isinstance(told, str) and told in DEVICES:
        return told
    mobile = browser.get("mobile")
    if not isinstance(mobile, bool):
        return "unknown"
    return "mobile" if mobile else "desktop"


def _web_vitals(measurements: Iterable[dict[str, Any]]) -> Iterator[tuple[str, Any, Any]]:
    for measurement in measurements:
        if measurement.get("type") != "web-vitals":
            continue
        context = _mapping(measurement.get("context"))
        for name, value in _mapping(measurement.get("values")).items():
            if name.upper() in VITALS:
                yield name, value, context.get("id")


def _page_loads(events: Iterable[dict[str, Any]]) -> Iterator[tuple[str, Any, Any]]:
    """Each figure of a page load comes as a text."""
    for event in events:
        if event.get("name") != _NAVIGATION:
            continue
        attributes = _mapping(event.get("attributes"))
        for key, name in FARO_NAVIGATION.items():
            if key in attributes:
                yield name, _number(attributes[key]), attributes.get("faroNavigationId")


def _number(value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) and len(value) <= 40 else value
    except ValueError:
        return None


def _events(
    events: Iterable[dict[str, Any]], browser: _Browser, not_kept: Counter[str]
) -> Iterator[dict[str, Any]]:
    for event in events:
        name = _plain(event.get("name"), 200)
        if name == _RESOURCE:
            not_kept["resource_timing"] += 1
        elif not name:
            not_kept["malformed_item"] += 1
        elif name != _NAVIGATION:
            told = _mapping(event.get("attributes"))
            row = _row(event, browser, told)
            yield {**row, "event_name": name, "severity": _INFO}


def _log(item: dict[str, Any], browser: _Browser) -> dict[str, Any]:
    level = _text(item.get("level"), 20).lower()
    return {
        **_row(item, browser, _mapping(item.get("context"))),
        "severity": _LEVELS.get(level, _INFO),
        "severity_text": level or None,
        "body": _plain(item.get("message")) or None,
    }


def _error(item: dict[str, Any], browser: _Browser) -> dict[str, Any]:
    kind = _plain(item.get("type"), 200) or "Error"
    message = _plain(item.get("value"))
    told = {
        "exception.type": kind,
        "exception.message": message,
        "exception.stacktrace": _stack(_mapping(item.get("stacktrace"))),
    }
    row = _row(item, browser, _mapping(item.get("context")), told)
    return {
        **row,
        "event_name": "exception",
        "severity": _ERROR,
        "severity_text": "error",
        "body": f"{kind}: {message}" if message else kind,
    }


def _stack(stacktrace: Mapping[str, Any]) -> str:
    frames = stacktrace.get("frames")
    lines = []
    for frame in map(_mapping, frames[:MAX_FRAMES] if isinstance(frames, list) else ()):
        place = _plain(frame.get("filename"), 300)
        name = _plain(frame.get("function"), 200) or "?"
        lines.append(
            f"at {name} ({place}:{_place(frame, 'lineno')}:{_place(frame, 'colno')})"[:600]
        )
    return "\n".join(lines)


def _place(frame: Mapping[str, Any], name: str) -> int:
    value = frame.get(name)
    return value if isinstance(value, int) else 0


def _row(
    item: Mapping[str, Any],
    browser: _Browser,
    context: Mapping[str, Any],
    told: Mapping[str, str] = {},  # only read
) -> dict[str, Any]:
    """What every row has; `told` are attributes that are plain already."""
    trace = _mapping(item.get("trace"))
    attributes = {
        **plain_attributes(context, most=MAX_CONTEXT, longest=MAX_TEXT),
        **{name: value for name, value in told.items() if value},
        **browser.attributes,
    }
    return {
        "ts_ns": _time_ms(item.get("timestamp"), browser.now_ms) * 1_000_000,
        "service": browser.service,
        "trace_id": _hex(trace.get("trace_id"), 16),
        "span_id": _hex(trace.get("span_id"), 8),
        "attributes": orjson.dumps(attributes).decode(),
        "resource": browser.resource,
        "received_ms": browser.now_ms,
    }


def _time_ms(value: Any, now_ms: int) -> int:
    try:
        told = (datetime.fromisoformat(value) - _EPOCH) // timedelta(milliseconds=1)
    except (TypeError, ValueError, OverflowError):
        return now_ms
    return told if abs(told - now_ms) <= MAX_OFF_MS else now_ms


def _hex(value: Any, size: int) -> bytes | None:
    try:
        found = bytes.fromhex(value)
    except (TypeError, ValueError):
        return None
    return found if len(found) == size and any(found) else None


def _traces(value: Any, service: str, not_kept: Counter[str]) -> bytes | None:
    if not isinstance(value, dict) or not value.get("resourceSpans"):
        return None
    try:
        return orjson.dumps(plain_spans(value, service))
    except (ValueError, TypeError, RecursionError):
        not_kept["malformed_traces"] += 1
        return None


def _text(value: Any, longest: int) -> str:
    """A text, cut. JSON cannot bring lone surrogates in: orjson refuses them."""
    return value[:longest] if isinstance(value, str) else ""


def _plain(value: Any, longest: int = MAX_TEXT) -> str:
    """A text without what may name a person, cut."""
    return plain_text(value, longest) if isinstance(value, str) else ""


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
