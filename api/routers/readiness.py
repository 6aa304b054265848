"""Readiness for a sale: load tests against SLOs, headroom, a checklist."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool

from api.readiness.checklist import Facts, State, checklist
from api.readiness.resources import capacity_json
from api.readiness.stages import load_tests_json
from api.shapes import Json
from store.ports import Querier
from store.timestamps import rfc3339

_HOUR_MS = 3_600_000
FactsOf = Callable[[int, float, list[Json]], Facts]


def router(
    querier: Querier,
    load_tests: Callable[[], list[Json]],
    slos: Callable[[], list[Json]],
    facts: FactsOf,
    now: Callable[[], int],
) -> APIRouter:
    """`/readiness`."""
    routes = APIRouter(prefix="/api/warroom/v1", tags=["readiness"])

    @routes.get("/readiness")
    async def readiness(
        multiple: Annotated[float, Query(ge=1, le=1000)] = 15.0,
        hours: Annotated[int, Query(ge=1, le=168)] = 24,
    ) -> Json:
        """`multiple` is what the sale is expected to bring; `hours` are looked back on."""

        def tell() -> Json:
            now_ms = now()
            judged = load_tests_json(querier, load_tests(), slos())
            items = checklist(facts(now_ms, multiple, judged))
            return {
                "as_of": rfc3339(now_ms),
                "target_multiple": multiple,
                "ready": all(item.state is State.OK for item in items),
                "load_tests": judged,
                "capacity": capacity_json(querier, now_ms, hours * _HOUR_MS),
                "checklist": [dataclasses.asdict(item) for item in items],
            }

        return await run_in_threadpool(tell)

    return routes
