"""What changed: annotations in, the timeline out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from api.shapes import Json, annotation_json, is_link
from api.times import parse_time
from store.annotations.repository import Annotation, AnnotationRepository
from store.errors import BadInput

Timeline = Callable[[int, int], list[Json]]
_HOUR_MS = 3_600_000


class NewAnnotation(BaseModel):
    """Body of `POST /annotations`."""

    model_config = ConfigDict(extra="forbid")

    kind: str = Field(max_length=32)
    title: str = Field(min_length=1, max_length=512)
    at: str | float | None = None
    service: str = Field(default="", max_length=256)
    version: str = Field(default="", max_length=256)
    url: str = Field(default="", max_length=2048)


def router(
    annotations: AnnotationRepository, timeline: Timeline, now: Callable[[], int]
) -> APIRouter:
    """`/annotations` and `/timeline`."""
    routes = APIRouter(prefix="/api/warroom/v1", tags=["changes"])

    @routes.post("/annotations", status_code=201)
    async def add(body: NewAnnotation) -> Json:
        if body.url and not is_link(body.url):
            raise BadInput("url must be a web address, or a path that begins with one slash")
        now_ms = now()
        annotation = Annotation(
            at_ms=parse_time(None if body.at is None else str(body.at), now_ms, now_ms),
            kind=body.kind,
            title=body.title,
            service=body.service,
            version=body.version,
            url=body.url,
        )
        annotation_id = await run_in_threadpool(annotations.add, annotation)
        return {"id": annotation_id, **annotation_json(annotation)}

    @routes.get("/timeline")
    async def events(
        start: Annotated[str, Query(alias="from", max_length=64)] = "",
        end: Annotated[str, Query(alias="to", max_length=64)] = "",
    ) -> Json:
        now_ms = now()
        end_ms = parse_time(end, now_ms, now_ms)
        start_ms = parse_time(start, now_ms, end_ms - _HOUR_MS)
        return {"events": await run_in_threadpool(timeline, start_ms, end_ms), "next": None}

    return routes
