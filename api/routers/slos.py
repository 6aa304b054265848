"""SLOs as of the last tick."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import APIRouter

from api.errors import NotFound
from api.shapes import Json, slo_json
from slos.model import SloStatus


def router(statuses: Callable[[], Sequence[SloStatus]]) -> APIRouter:
    """`/slos` and `/slos/{name}`."""
    routes = APIRouter(prefix="/api/warroom/v1", tags=["slos"])

    @routes.get("/slos")
    async def list_slos() -> Json:
        return {"slos": [slo_json(status) for status in statuses()], "next": None}

    @routes.get("/slos/{name}")
    async def one_slo(name: str) -> Json:
        for status in statuses():
            if status.name == name:
                return slo_json(status)
        raise NotFound(f"there is no SLO {name!r}")

    return routes
