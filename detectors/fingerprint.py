"""A finding's identity: service, route, shape and function, never an id."""

from __future__ import annotations

import hashlib
from functools import lru_cache


@lru_cache(maxsize=4_096)
def fingerprint(kind: str, service: str, route: str, shape: str, function: str = "") -> str:
    """32 hex digits; each part is length-prefixed so that no two lists of parts look alike."""
    data = bytearray()
    for part in (kind, service, route, shape, function):
        text = part.encode("utf-8", "surrogatepass")
        data += len(text).to_bytes(4, "big")
        data += text
    return hashlib.sha256(data).hexdigest()[:32]
