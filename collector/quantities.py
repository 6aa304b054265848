"""Durations and sizes as Prometheus's configuration writes them."""

from __future__ import annotations

import re

from store.durations import parse_duration_ms

_SIZE = re.compile(r"(\d+)([KMGTPE]?i?B)?")
_POWERS = "BKMGTPE"


def duration_s(text: str) -> float:
    """Seconds of a duration.

    >>> duration_s("1m30s"), duration_s("500ms")
    (90.0, 0.5)

    Raises:
        ValueError: It is none.
    """
    return parse_duration_ms(text) / 1000


def size_bytes(text: str) -> int:
    """Bytes of a size; as in Prometheus, KB is 1024.

    >>> size_bytes("10MB")
    10485760

    Raises:
        ValueError: It is none.
    """
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a size such as 10MB")
    unit = match[2] or "B"
    return int(match[1]) * int(1024 ** _POWERS.index(unit[0]))
