"""Liveness, readiness and our own metrics."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request

# None when ready, else what is still going on.
Readiness = Callable[[], str | None]


def router(readiness: Readiness, registry: CollectorRegistry) -> APIRouter:
    """`/-/healthy`, `/-/ready`, `/metrics`."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/-/healthy")
    async def healthy() -> Response:
        return Response("Warroom is healthy.\n", media_type="text/plain")

    @routes.get("/-/ready")
    async def ready() -> Response:
        waiting_for = readiness()
        if waiting_for is None:
            return Response("Warroom is ready.\n", media_type="text/plain")
        text = f"Warroom is not ready: {waiting_for}.\n"
        return Response(text, 503, {"Retry-After": "1"}, media_type="text/plain")

    @routes.get("/metrics")
    def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": content_type})

    return routes
