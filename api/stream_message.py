"""Messages of the live stream: server-sent events, plain and deflated, made once for all."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import orjson

from api.panels.view import Json

# RFC 1952: a gzip member's header, with no time and no name. Raw deflate blocks may follow it.
GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


@dataclass(frozen=True, slots=True)
class Message:
    """One event of the stream, as bytes and as a deflate block that may follow any other."""

    tick: int
    plain: bytes
    deflated: bytes

    @classmethod
    def of(cls, event: str, tick: int, data: Json) -> Message:
        plain = b"id: %d\nevent: %s\ndata: %s\n\n" % (tick, event.encode(), orjson.dumps(data))
        return cls(tick, plain, _deflate(plain))


def _deflate(plain: bytes) -> bytes:
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    return compressor.compress(plain) + compressor.flush(zlib.Z_FULL_FLUSH)


PING = Message(0, b": ping\n\n", _deflate(b": ping\n\n"))
RETRY = Message(0, b"retry: 1000\n\n", _deflate(b"retry: 1000\n\n"))
