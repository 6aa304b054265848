"""Bodies of requests, read within a bound."""

from __future__ import annotations

from fastapi import Request

from store.errors import LimitExceeded


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body.

    Raises:
        LimitExceeded: It is larger than `limit` bytes.
    """
    received = bytearray()
    async for piece in request.stream():
        received += piece
        if len(received) > limit:
            raise LimitExceeded(f"the body is larger than {limit} bytes", reason="body_size")
    return bytes(received)
