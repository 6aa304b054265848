"""The live stream of a board."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse

from api.guard import GuardPolicy, judge
from api.stream import LiveBoards


def router(live: LiveBoards, policy: GuardPolicy) -> APIRouter:
    """`/live`. A stream may outlive its token by far, so each message asks `policy` again.

    Without tokens there is nothing to ask: the request's own headers do not change.
    """
    routes = APIRouter(prefix="/api/warroom/v1", tags=["boards"])

    @routes.get("/live")
    async def watch(
        request: Request,
        board: Annotated[str, Query(max_length=64)] = "war-room",
        last_event_id: Annotated[str, Header(max_length=32)] = "",
        accept_encoding: Annotated[str, Header(max_length=256)] = "",
    ) -> StreamingResponse:
        gzip = "gzip" in accept_encoding
        last_tick = int(last_event_id) if last_event_id.isdecimal() else None
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        if gzip:
            headers["Content-Encoding"] = "gzip"

        path, sent = request.url.path, request.headers

        async def allowed() -> bool:
            return not policy.tokens_required or await judge(policy, "GET", path, sent) is None

        stream = await live.watch(board, last_tick, gzip=gzip, allowed=allowed)
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)

    return routes
