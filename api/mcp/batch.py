"""Several messages in one request: JSON-RPC's batches.

Revision 2025-03-26 of the Model Context Protocol wants servers to take them; later ones do not know
them. A client that names no revision is taken for one of that.
"""

from __future__ import annotations

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_REVISION = "2025-03-26"
_MAX_MESSAGES = 20
_INVALID_REQUEST = -32600


class Batches:
    """Answers batches too, by an app that answers one message.

    A request of more than `max_bytes` is left to that app, which refuses it.
    """

    def __init__(self, one: ASGIApp, max_bytes: int) -> None:
        self._one = one
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        revision = Request(scope).headers.get("mcp-protocol-version", _REVISION)
        if revision != _REVISION:
            await self._one(scope, receive, send)
            return
        body, whole = await _read(receive, self._max_bytes)
        if whole and body.lstrip()[:1] == b"[":
            response = await _answer(self._one, scope, body)
            await response(scope, receive, send)
        else:
            await self._one(scope, _again(body, receive, whole=whole), send)


async def _read(receive: Receive, max_bytes: int) -> tuple[bytes, bool]:
    """What came of the body, and whether that is all."""
    body = b""
    while len(body) <= max_bytes:
        message = await receive()
        if message["type"] != "http.request":
            return body, False
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return body, len(body) <= max_bytes
    return body, False


def _again(body: bytes, receive: Receive, *, whole: bool) -> Receive:
    """The same request once more, from its beginning."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": not whole}]

    async def replay() -> Message:
        return first.pop() if first else await receive()

    return replay


async def _answer(one: ASGIApp, scope: Scope, body: bytes) -> Response:
    try:
        messages = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _refusal("the batch is no JSON")
    if not 0 < len(messages) <= _MAX_MESSAGES:
        return _refusal(f"a batch holds 1 to {_MAX_MESSAGES} messages, not {len(messages)}")
    answers = [await _ask(one, scope, orjson.dumps(message)) for message in messages]
    told = [orjson.loads(answer) for answer in answers if answer]
    # Of notifications alone there is nothing to tell.
    return JSONResponse(told) if told else Response(status_code=202)


def _refusal(sentence: str) -> Response:
    error = {"code": _INVALID_REQUEST, "message": sentence}
    return JSONResponse({"jsonrpc": "2.0", "id": None, "error": error}, 400)


async def _ask(one: ASGIApp, scope: Scope, message: bytes) -> bytes:
    """The body of the answer to one message; empty where it wants none."""
    parts: list[bytes] = []

    async def send(part: Message) -> None:
        parts.append(part.get("body", b""))

    await one(scope, _again(message, _gone, whole=True), send)
    return b"".join(parts)


async def _gone() -> Message:
    return {"type": "http.disconnect"}
