"""A finding's identity: service, route, shape and function, never an id."""

from __future__ import annotations

import hashlib


def fingerprint(kind: str, service: str, route: str, shape: str, function: str = "") -> str:
    """32 hex digits; each part is length-prefixed so that no two lists of parts look alike."""
    digest = hashlib.sha256()
    for part in (kind, service, route, shape, function):
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(4, "big") + data)
    return digest.hexdigest()[:32]
