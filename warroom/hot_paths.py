"""Receivers whose path is hot, answered before the middleware of the rest of the service."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import ASGIApp, Receive, Scope, Send


class HotPaths:
    """An ASGI application: exact paths to applications, everything else to another one.

    Nothing is checked here: whoever mounts it puts its guard around each of them.
    """

    def __init__(self, hot: Mapping[str, ASGIApp], others: ASGIApp) -> None:
        self._hot = dict(hot)
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hot = self._hot.get(scope["path"]) if scope["type"] == "http" else None
        await (hot or self._others)(scope, receive, send)
