"""Boards and their live stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse

from api.boards import Board
from api.errors import NotFound
from api.shapes import Json
from api.stream import LiveBoards


def router(boards: Callable[[], Mapping[str, Board]], live: LiveBoards) -> APIRouter:
    """`/boards`, `/boards/{name}`, `/boards/{name}/snapshot` and `/live`."""
    routes = APIRouter(prefix="/api/warroom/v1", tags=["boards"])

    @routes.get("/boards")
    async def list_boards() -> Json:
        entries = [{"name": b.name, "title": b.title} for b in boards().values()]
        return {"boards": entries, "next": None}

    @routes.get("/boards/{name}")
    async def one_board(name: str) -> Json:
        board = boards().get(name)
        if board is None:
            raise NotFound(f"there is no board {name!r}")
        return board.model_dump(mode="json")

    @routes.get("/boards/{name}/snapshot")
    async def board_snapshot(name: str) -> Response:
        return Response(await live.snapshot(name), media_type="application/json")

    @routes.get("/live")
    async def watch(
        board: Annotated[str, Query(max_length=64)] = "war-room",
        last_event_id: Annotated[str, Header(max_length=32)] = "",
        accept_encoding: Annotated[str, Header(max_length=256)] = "",
    ) -> StreamingResponse:
        gzip = "gzip" in accept_encoding
        last_tick = int(last_event_id) if last_event_id.isdecimal() else None
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        if gzip:
            headers["Content-Encoding"] = "gzip"
        stream = await live.watch(board, last_tick, gzip=gzip)
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)

    return routes
