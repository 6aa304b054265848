"""`POST /-/reload`: read the configuration again, as Prometheus and Alertmanager do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Response

from store.errors import WarroomError

# Answers with what was read.
Reload = Callable[[], Awaitable[str]]


def router(reload: Reload) -> APIRouter:
    """The route. A failed reload answers 500 with file and line, as Prometheus."""
    routes = APIRouter(include_in_schema=False)

    @routes.post("/-/reload")
    @routes.put("/-/reload")
    async def reload_now() -> Response:
        try:
            told = await reload()
        except WarroomError as exc:
            text = f"failed to reload config: {exc}\n"
            return Response(text, 500, media_type="text/plain")
        return Response(f"{told}\n", media_type="text/plain")

    return routes
