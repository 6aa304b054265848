"""Freshness of everything that arrives, and who uses up the series."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool

from api.shapes import Json
from store.ports import TsdbReader, TsdbStatus


def router(
    sources: Callable[[int], list[Json]],
    now: Callable[[], int],
    series: TsdbReader,
    max_series: int,
) -> APIRouter:
    """`/sources` and `/sources/series`; no more than `max_series` are taken."""
    routes = APIRouter(prefix="/api/warroom/v1", tags=["sources"])

    @routes.get("/sources")
    async def list_sources() -> Json:
        return {"sources": sources(now()), "next": None}

    @routes.get("/sources/series")
    async def offenders(limit: Annotated[int, Query(ge=1, le=100)] = 10) -> Json:
        return _offenders(await run_in_threadpool(series.tsdb_status, limit), max_series)

    return routes


def _offenders(status: TsdbStatus, max_series: int) -> Json:
    """A flood of series has a metric whose number grows and a label whose values do."""
    return {
        "series": status.series,
        "max_series": max_series,
        "by_metric": [{"metric": name, "series": count} for name, count in status.by_metric],
        "by_label": [{"label": name, "values": count} for name, count in status.values_by_label],
        "by_pair": [{"pair": pair, "series": count} for pair, count in status.by_pair],
    }
