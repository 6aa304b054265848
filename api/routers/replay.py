"""A board as it stood at an earlier instant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Request, Response

from api.boards import Board
from api.errors import NotFound
from api.panels.view import PanelSources
from api.stream import LiveBoards
from api.times import parse_time
from store.errors import BadInput

_LONGEST_MS = 400 * 86_400_000
_SHORTEST_MS = 10_000


def router(
    boards: Callable[[], Mapping[str, Board]],
    live: LiveBoards,
    sources_at: Callable[[int], PanelSources],
    now: Callable[[], int],
) -> APIRouter:
    """`/replay`."""
    routes = APIRouter(prefix="/api/warroom/v1", tags=["boards"])

    @routes.get("/replay")
    async def replay(
        request: Request,
        board: Annotated[str, Query(max_length=64)] = "war-room",
        at: Annotated[str, Query(max_length=64)] = "now",
        start: Annotated[str, Query(max_length=64, alias="from")] = "",
    ) -> Response:
        """The board's snapshot, evaluated at `at`; graphs begin at `from`, else at its range."""
        found = boards().get(board)
        if found is None:
            raise NotFound(f"there is no board {board!r}", hint="GET /api/warroom/v1/boards")
        now_ms = now()
        at_ms = min(now_ms, parse_time(at, now_ms, now_ms))
        range_ms = at_ms - parse_time(start, now_ms, at_ms - found.range_ms)
        if not _SHORTEST_MS <= range_ms <= _LONGEST_MS:
            raise BadInput(
                "`from` lies at least 10 seconds and at most 400 days before `at`",
                hint="such as from=now-6h&at=now-3h",
            )
        sources = None if at_ms == now_ms else sources_at(at_ms)
        answer = await live.compute_once(
            found, at_ms, sources=sources, range_ms=range_ms, gone=request.is_disconnected
        )
        body = orjson.dumps({**answer, "as_of_then": sources is not None})
        return Response(body, media_type="application/json")

    return routes
