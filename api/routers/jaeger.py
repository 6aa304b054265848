"""Jaeger's query API over stored traces, as Grafana's Jaeger data source asks it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Annotated, Any

import orjson
import pyarrow as pa
from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from api.errors import NotFound
from api.trace_summary import service_map
from store.durations import parse_duration_ms
from store.errors import BadInput
from store.ports import SpanReader, TraceQuery

Json = dict[str, Any]
_KINDS = {0: "", 1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}
_HOUR_US = 3_600_000_000
_DAY_MS = 86_400_000
_MAX_TRACES = 1_500
# Ids that one search may name, tags that it may hold, traces of which dependencies are told.
_MAX_NAMED = 100
_MAX_TAGS = 32
_MAX_DRAWN = 2_000
# Attributes that the store keeps in columns of their own, under the names of today's conventions.
_COLUMN_TAGS = {
    "http_method": "http.request.method",
    "http_route": "http.route",
    "http_status": "http.response.status_code",
    "url": "url.full",
    "server_address": "server.address",
    "db_system": "db.system.name",
    "statement": "db.query.text",
    "code_file": "code.file.path",
    "code_line": "code.line.number",
    "code_function": "code.function.name",
    "scope": "otel.scope.name",
}
_MAX_US = 253_402_300_799_999_999  # the end of the year 9999
# Go's way to write a duration, such as 1.5s or 1m30s.
_DURATION_PART = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(ns|us|µs|ms|s|m|h)")
_UNIT_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_MAX_NS = 2**63 - 1
# What a column is shown as that is no JSON: rows may have been written by others.
_UNREADABLE = "unreadable"
_LONGEST_SHOWN = 4_096


class Search(BaseModel):
    """Parameters of a search, with Jaeger's names; times are microseconds since the epoch.

    `lookback` is what Jaeger's and Grafana's pages call it: how long before `end` to look when
    there is no `start`; `custom` says that there is one.
    """

    model_config = ConfigDict(extra="ignore")

    service: str = Field("", max_length=512)
    operation: str = Field("", max_length=1024)
    tags: str = Field("", max_length=4096)
    tag: list[Annotated[str, Field(max_length=4096)]] = Field([], max_length=_MAX_TAGS)
    trace_ids: list[Annotated[str, Field(max_length=64)]] = Field(
        [], max_length=_MAX_NAMED, alias="traceID"
    )
    min_duration: str = Field("", max_length=32, alias="minDuration")
    max_duration: str = Field("", max_length=32, alias="maxDuration")
    start: int | None = Field(None, ge=0, le=_MAX_US)
    end: int | None = Field(None, ge=0, le=_MAX_US)
    lookback: str = Field("", max_length=32)
    limit: int = Field(20, ge=1, le=_MAX_TRACES)

    def query(self, now_ms: int) -> TraceQuery:
        end_us = now_ms * 1_000 if self.end is None else self.end
        start_us = self.start
        if start_us is None:
            start_us = max(0, end_us - _lookback_us(self.lookback))
        least_ns, most_ns = _duration_ns(self.min_duration), _duration_ns(self.max_duration)
        if most_ns is not None and (least_ns or 0) > most_ns:
            raise BadInput("maxDuration is shorter than minDuration", hint="exchange them")
        return TraceQuery(
            start_ns=min(start_us * 1_000, _MAX_NS),
            end_ns=min(end_us * 1_000, _MAX_NS),
            service=self.service or None,
            operation=self.operation or None,
            attributes=(*_tags(self.tags), *map(_pair, self.tag)),
            min_duration_ns=least_ns,
            max_duration_ns=most_ns,
            limit=self.limit,
        )


def router(spans: SpanReader, now: Callable[[], int]) -> APIRouter:
    """`/jaeger/api/{services, services/{s}/operations, operations, traces, dependencies}`."""
    routes = APIRouter(prefix="/jaeger/api", tags=["jaeger"])

    @routes.get("/services")
    async def services() -> Json:
        names = await run_in_threadpool(lambda: sorted(spans.services()))
        return _answer(names)

    @routes.get("/services/{service:path}/operations")
    async def operations_of(service: str) -> Json:
        known = await run_in_threadpool(spans.services)
        return _answer(sorted(known.get(service, [])))

    @routes.get("/operations")
    async def operations(
        service: str, span_kind: Annotated[str, Query(max_length=32, alias="spanKind")] = ""
    ) -> Json:
        return _answer(await run_in_threadpool(_operations, spans, service, span_kind.lower()))

    @routes.get("/traces")
    async def search(asked: Annotated[Search, Query()]) -> Response:
        query = asked.query(now())

        def read() -> list[Json]:
            named = [raw for text in asked.trace_ids if (raw := _trace_id(text))]
            ids = named if asked.trace_ids else spans.find_traces(query)
            traces = {t["traceID"]: t for t in _traces(spans.traces(ids))}
            return [traces[i.hex()] for i in dict.fromkeys(ids) if i.hex() in traces]

        return _json(_answer(await run_in_threadpool(read)))

    @routes.get("/traces/{trace_id}")
    async def one_trace(trace_id: str) -> Response:
        raw = _trace_id(trace_id)
        found = await run_in_threadpool(lambda: list(_traces(spans.traces([raw]))) if raw else [])
        if not found:
            # Grafana reads data[0] unguarded: an unknown trace must be a 404.
            raise NotFound("trace not found")
        return _json(_answer(found))

    @routes.get("/dependencies")
    async def dependencies(
        end_ts: Annotated[int | None, Query(ge=0, le=_MAX_US // 1_000, alias="endTs")] = None,
        lookback: Annotated[int, Query(ge=0, le=_MAX_US // 1_000)] = _DAY_MS,
    ) -> Json:
        """Which service calls which, by the newest traces of the time; in milliseconds."""
        end_ms = now() if end_ts is None else end_ts

        def read() -> list[Json]:
            start_ms = max(0, end_ms - lookback)
            query = TraceQuery(
                start_ms * 1_000_000, min(end_ms * 1_000_000, _MAX_NS), limit=_MAX_DRAWN
            )
            found = spans.find_traces(query)
            return _links(service_map(spans.traces(found))) if found else []

        return _answer(await run_in_threadpool(read))

    return routes


def _operations(spans: SpanReader, service: str, span_kind: str) -> list[Json]:
    """A service's operations with their kinds, or those of one kind."""
    found = [
        {"name": name, "spanKind": text}
        for kind, text in _KINDS.items()
        if span_kind in {"", text}
        for name in spans.services(kind=kind).get(service, [])
    ]
    return sorted(found, key=itemgetter("name", "spanKind"))


def _links(drawn: Json) -> list[Json]:
    """The service map's calls between services, as Jaeger tells them."""
    services = {node["name"] for node in drawn["nodes"] if node["kind"] == "service"}
    return [
        {"parent": edge["from"], "child": edge["to"], "callCount": edge["calls"]}
        for edge in drawn["edges"]
        if edge["to"] in services
    ]


def _trace_id(text: str) -> bytes:
    """A trace id, of which leading zeros may be left out; empty for what is none."""
    try:
        return bytes.fromhex(text.zfill(32))
    except ValueError:
        return b""


def _lookback_us(text: str) -> int:
    """How long to look back; days too, which Go's durations don't know."""
    if text in {"", "custom"}:
        return _HOUR_US
    try:
        return min(parse_duration_ms(text) * 1_000, _MAX_US)
    except ValueError:
        raise BadInput(f"lookback {text!r} is no duration", hint="write it like 2h or 2d") from None


def _pair(text: str) -> tuple[str, str]:
    """`key:value`, as Jaeger's own page sends it."""
    key, colon, value = text.partition(":")
    if not colon or not key:
        raise BadInput(f"tag {text[:64]!r} is no key:value", hint="write tag=http.route:/cart")
    return key, value


def _answer(data: list[Any]) -> Json:
    return {"data": data, "total": len(data), "limit": 0, "offset": 0, "errors": None}


def _json(body: Json) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")


def _tags(text: str) -> tuple[tuple[str, str], ...]:
    if not text:
        return ()
    try:
        tags = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise BadInput("tags is no JSON object") from exc
    if not isinstance(tags, dict):
        raise BadInput("tags is no JSON object")
    return tuple(
        (key, value if isinstance(value, str) else orjson.dumps(value).decode())
        for key, value in tags.items()
    )


def _duration_ns(text: str) -> int | None:
    if not text:
        return None
    parts = _DURATION_PART.findall(text)
    if "".join(number + unit for number, unit in parts) != text:
        raise BadInput(f"{text!r} is no duration", hint="write it like 100ms or 1m30s")
    return min(_MAX_NS, sum(int(float(number) * _UNIT_NS[unit]) for number, unit in parts))


def _traces(table: pa.Table) -> Iterator[Json]:
    rows: dict[bytes, list[Json]] = {}
    for row in table.to_pylist():
        rows.setdefault(row["trace_id"], []).append(row)
    for trace_id, spans in rows.items():
        processes: dict[str, Json] = {}
        places: dict[tuple[str, str], str] = {}
        shaped = []
        for span in spans:
            key = (span["service"], span["resource"] or "{}")
            process = places.setdefault(key, f"p{len(places) + 1}")
            if process not in processes:
                tags = _tag_list(_object(key[1]))
                processes[process] = {"serviceName": key[0], "tags": tags}
            shaped.append(_span(span, process))
        yield {
            "traceID": trace_id.hex(),
            "spans": shaped,
            "processes": processes,
            "warnings": None,
        }


def _span(row: Json, process: str) -> Json:
    references = []
    if row["parent_span_id"]:
        references.append(
            _reference("CHILD_OF", row["trace_id"].hex(), row["parent_span_id"].hex())
        )
    references.extend(
        _reference("FOLLOWS_FROM", link["trace_id"], link["span_id"])
        for link in _objects(row["links"])
        if "trace_id" in link and "span_id" in link
    )
    promoted = {name: row[column] for column, name in _COLUMN_TAGS.items() if row[column]}
    tags = _tag_list({**promoted, **_object(row["attributes"])})
    if _KINDS.get(row["kind"]):
        tags.append({"key": "span.kind", "type": "string", "value": _KINDS[row["kind"]]})
    if row["status"] == 2:  # OTLP: error
        tags.append({"key": "error", "type": "bool", "value": True})
        message = row["status_message"] or ""
        tags.append({"key": "otel.status_description", "type": "string", "value": message})
    return {
        "traceID": row["trace_id"].hex(),
        "spanID": row["span_id"].hex(),
        "operationName": row["name"],
        "references": references,
        "startTime": row["start_ns"] // 1_000,
        "duration": max(0, row["end_ns"] - row["start_ns"]) // 1_000,
        "tags": tags,
        "logs": [_log(event) for event in _objects(row["events"])],
        "processID": process,
        "warnings": None,
    }


def _object(text: str | None) -> Json:
    """A column that holds an object; one that is not readable is shown as it is."""
    found = _read(text or "{}")
    return found if isinstance(found, dict) else {_UNREADABLE: str(text)[:_LONGEST_SHOWN]}


def _objects(text: str | None) -> list[Json]:
    """The objects of a column that holds a list; what is none is left out."""
    found = _read(text or "[]")
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _read(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _reference(kind: str, trace_id: str, span_id: str) -> Json:
    return {"refType": kind, "traceID": trace_id, "spanID": span_id}


def _log(event: Json) -> Json:
    told = event.get("attributes")
    attributes = told if isinstance(told, dict) else {}
    at = event.get("time_ns")
    at_ns = int(at) if isinstance(at, (int, str)) and str(at).lstrip("-").isdecimal() else 0
    fields = _tag_list({"event": event.get("name", ""), **attributes})
    return {"timestamp": at_ns // 1_000, "fields": fields}


def _tag_list(attributes: Json) -> list[Json]:
    return [_tag(key, value) for key, value in attributes.items()]


def _tag(key: str, value: Any) -> Json:
    if isinstance(value, bool):
        return {"key": key, "type": "bool", "value": value}
    if isinstance(value, int):
        return {"key": key, "type": "int64", "value": value}
    if isinstance(value, float):
        return {"key": key, "type": "float64", "value": value}
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return {"key": key, "type": "string", "value": text}
