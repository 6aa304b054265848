"""Freshness of everything that arrives."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter

from api.shapes import Json


def router(sources: Callable[[int], list[Json]], now: Callable[[], int]) -> APIRouter:
    """`/sources`."""
    routes = APIRouter(prefix="/api/warroom/v1", tags=["sources"])

    @routes.get("/sources")
    async def list_sources() -> Json:
        return {"sources": sources(now()), "next": None}

    return routes
