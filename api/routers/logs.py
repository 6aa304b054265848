"""Logs: searched by time, service, severity, trace and text, the latest first."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from api.shapes import Json
from api.times import parse_time
from store.errors import BadInput
from store.ports import LogQuery, LogReader
from store.timestamps import rfc3339

MAX_LIMIT = 500
# Of one page: rows may be large, and a page ends before it becomes too large to show.
MAX_PAGE_BYTES = 4 * 1024 * 1024
_HOUR_MS = 3_600_000
_NS_A_MS = 1_000_000
# The first number of each band of OTLP's severities.
_BANDS = {"trace": 1, "debug": 5, "info": 9, "warn": 13, "error": 17, "fatal": 21}
_NAMES = tuple(_BANDS)
_TRACE_ID = re.compile(r"[0-9a-fA-F]{32}")
_AFTER = re.compile(r"(\d{1,19})-(\d{1,18})")


class LogSearch(BaseModel):
    """Filters of `GET /logs`."""

    model_config = ConfigDict(extra="ignore")

    start: str = Field("", max_length=64, alias="from")
    end: str = Field("", max_length=64, alias="to")
    service: str = Field("", max_length=256)
    severity: str = Field("", max_length=16)
    trace_id: str = Field("", max_length=64)
    q: str = Field("", max_length=256)
    limit: int = Field(100, ge=1, le=MAX_LIMIT)
    after: str = Field("", max_length=64)


def router(logs: LogReader, now: Callable[[], int]) -> APIRouter:
    """`/logs`."""
    routes = APIRouter(prefix="/api/warroom/v1", tags=["logs"])

    @routes.get("/logs")
    async def search(asked: Annotated[LogSearch, Query()]) -> Json:
        query = _query(asked, now())

        def read() -> Json:
            return _page(logs.logs(query).to_pylist(), asked.limit)

        return await run_in_threadpool(read)

    return routes


def _query(asked: LogSearch, now_ms: int) -> LogQuery:
    end_ms = parse_time(asked.end, now_ms, now_ms)
    # The logs of a trace are wanted whenever it was.
    start_ms = parse_time(asked.start, now_ms, 0 if asked.trace_id else end_ms - _HOUR_MS)
    return LogQuery(
        start_ns=start_ms * _NS_A_MS,
        end_ns=end_ms * _NS_A_MS + _NS_A_MS - 1,
        service=asked.service or None,
        min_severity=_severity(asked.severity),
        trace_id=_trace_id(asked.trace_id),
        text=asked.q or None,
        before=_before(asked.after),
        limit=asked.limit + 1,
    )


def _severity(text: str) -> int:
    """The lowest severity that is wanted: a band's name, or OTLP's number."""
    number = _BANDS.get(text.lower()) if text else 0
    if number is None and text.isdecimal() and int(text) <= 24:
        number = int(text)
    if number is None:
        raise BadInput(
            f"{text!r} is no severity", hint=f"one of {', '.join(_BANDS)}, or a number up to 24"
        )
    return number


def _trace_id(text: str) -> bytes | None:
    if text and not _TRACE_ID.fullmatch(text):
        raise BadInput(f"{text!r} is no trace id", hint="32 hexadecimal digits")
    return bytes.fromhex(text) if text else None


def _before(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    found = _AFTER.fullmatch(text)
    if found is None:
        raise BadInput(f"{text!r} is no page", hint="pass `next` of the page before as `after`")
    return int(found[1]), int(found[2])


def _page(rows: list[dict[str, Any]], limit: int) -> Json:
    """The rows that fit into a page, and what to ask for next."""
    shown: list[dict[str, Any]] = []
    size = 0
    for row in rows[:limit]:
        size += sum(len(row[name] or "") for name in ("body", "attributes", "resource"))
        if shown and size > MAX_PAGE_BYTES:
            break
        shown.append(row)
    more = len(shown) < len(rows)
    return {
        "logs": [_log_json(row) for row in shown],
        "next": f"{shown[-1]['ts_ns']}-{shown[-1]['seq']}" if more else None,
    }


def _log_json(row: dict[str, Any]) -> Json:
    severity = int(row["severity"])
    return {
        "at": rfc3339(row["ts_ns"] // _NS_A_MS),
        "time_ns": str(row["ts_ns"]),  # JSON's numbers are too coarse in a browser
        "severity": _NAMES[(severity - 1) // 4] if severity else "",
        "severity_number": severity,
        "severity_text": row["severity_text"] or "",
        "service": row["service"],
        "event": row["event_name"] or "",
        "body": row["body"] or "",
        "trace_id": row["trace_id"].hex() if row["trace_id"] else "",
        "span_id": row["span_id"].hex() if row["span_id"] else "",
        "scope": row["scope"] or "",
        "attributes": _object(row["attributes"]),
        "resource": _object(row["resource"]),
    }


def _object(text: str | None) -> Json:
    """The object; a row that is no JSON is shown as it is and does not hide the others."""
    try:
        found = orjson.loads(text) if text else {}
    except orjson.JSONDecodeError:
        found = None
    return found if isinstance(found, dict) else {"unreadable": text}
