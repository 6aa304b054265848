"""Traces: a search that answers in lines, and the map of services."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from api.shapes import Json
from api.times import parse_time
from api.trace_summary import service_map, summaries
from store.durations import parse_duration_ms
from store.errors import BadInput
from store.ports import SpanReader, TraceQuery

_HOUR_MS = 3_600_000
_MAX_TAGS = 20


class Search(BaseModel):
    """What is looked for; all holds for one span of a trace."""

    model_config = ConfigDict(extra="ignore")

    start: str = Field("", max_length=64, alias="from")
    end: str = Field("", max_length=64, alias="to")
    service: str = Field("", max_length=512)
    operation: str = Field("", max_length=1024)
    tags: str = Field("", max_length=4096)
    min_duration: str = Field("", max_length=32)
    max_duration: str = Field("", max_length=32)
    error: bool = False
    limit: int = Field(50, ge=1, le=500)

    def query(self, now_ms: int) -> TraceQuery:
        end_ms = parse_time(self.end, now_ms, now_ms)
        start_ms = parse_time(self.start, now_ms, end_ms - _HOUR_MS)
        if start_ms > end_ms:
            raise BadInput("`from` lies behind `to`")
        return TraceQuery(
            start_ns=start_ms * 1_000_000,
            end_ns=end_ms * 1_000_000,
            service=self.service or None,
            operation=self.operation or None,
            attributes=(*_tags(self.tags), *((("error", "true"),) if self.error else ())),
            min_duration_ns=_duration_ns(self.min_duration),
            max_duration_ns=_duration_ns(self.max_duration),
            limit=self.limit,
        )


def router(spans: SpanReader, now: Callable[[], int]) -> APIRouter:
    """`/traces`, `/traces/services` and `/service-map`."""
    routes = APIRouter(prefix="/api/warroom/v1", tags=["traces"])

    @routes.get("/traces")
    async def search(asked: Annotated[Search, Query()]) -> Json:
        query = asked.query(now())

        def read() -> list[Json]:
            found = spans.find_traces(query)
            return summaries(spans.traces(found), found) if found else []

        return {"traces": await run_in_threadpool(read), "next": None}

    @routes.get("/traces/services")
    async def services() -> Json:
        known = await run_in_threadpool(spans.services)
        named = [{"name": name, "operations": known[name][:500]} for name in sorted(known)]
        return {"services": named, "next": None}

    @routes.get("/service-map")
    async def the_map(
        start: Annotated[str, Query(max_length=64, alias="from")] = "",
        end: Annotated[str, Query(max_length=64, alias="to")] = "",
        limit: Annotated[int, Query(ge=1, le=2_000)] = 500,
    ) -> Json:
        """Of the newest `limit` traces of the time; `cut`: there were more, or more spans."""
        now_ms = now()
        end_ms = parse_time(end, now_ms, now_ms)
        start_ms = parse_time(start, now_ms, end_ms - _HOUR_MS)

        def read() -> dict[str, Any]:
            query = TraceQuery(start_ms * 1_000_000, end_ms * 1_000_000, limit=limit)
            found = spans.find_traces(query)
            if not found:
                return {"nodes": [], "edges": [], "traces": 0, "cut": False}
            drawn = service_map(spans.traces(found))
            cut = drawn["cut"] or len(found) >= limit
            return {**drawn, "traces": len(found), "cut": cut}

        return await run_in_threadpool(read)

    return routes


def _tags(text: str) -> tuple[tuple[str, str], ...]:
    """`http.route=/cart/ deployment.id="v 2"`: pairs with spaces between them."""
    pairs: list[tuple[str, str]] = []
    rest = text.strip()
    while rest:
        key, equals, rest = rest.partition("=")
        if not equals or not key.strip():
            raise BadInput(f"{key!r} is no tag", hint='write key=value, or key="a value"')
        if rest.startswith('"'):
            value, closing, rest = rest[1:].partition('"')
            if not closing:
                raise BadInput(f"the quotes of {key.strip()} do not end")
        else:
            value, _, rest = rest.partition(" ")
        pairs.append((key.strip(), value))
        rest = rest.strip()
    if len(pairs) > _MAX_TAGS:
        raise BadInput(f"at most {_MAX_TAGS} tags can be searched at once")
    return tuple(pairs)


def _duration_ns(text: str) -> int | None:
    if not text:
        return None
    try:
        return parse_duration_ms(text) * 1_000_000
    except ValueError as exc:
        raise BadInput(f"{text!r} is no duration", hint="write it like 100ms or 1m30s") from exc
