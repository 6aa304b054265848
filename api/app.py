"""The FastAPI application, made of ports; nothing here exists at module level but the function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute

from api import errors
from api.guard import Guard, GuardPolicy


@dataclass(frozen=True, slots=True)
class Parts:
    """What the application is made of.

    Attributes:
        routers: The routers of `api.routers`, made by the composition root.
        first: Plain ASGI routes tried before them: receivers, whose path is hot, and `/mcp`.
        last: Routes tried after them: the pages of the front end.
    """

    routers: Sequence[APIRouter]
    first: Sequence[BaseRoute]
    last: Sequence[BaseRoute]
    policy: GuardPolicy
    version: str


def create_app(parts: Parts) -> FastAPI:
    """Warroom's main port."""
    app = FastAPI(
        title="Warroom",
        version=parts.version,
        openapi_url="/api/openapi.json",
        # Their pages load scripts from elsewhere; the document is enough.
        docs_url=None,
        redoc_url=None,
    )
    app.router.routes[0:0] = parts.first
    for router in parts.routers:
        app.include_router(router)
    app.router.routes.extend(parts.last)
    app.router.redirect_slashes = False
    errors.install(app)
    app.add_middleware(Guard, policy=parts.policy)
    return app
