"""How long a server asks to be left alone."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def retry_after_s(text: str, now_ms: int, most_s: float) -> float | None:
    """Seconds of a Retry-After header (RFC 9110, 10.2.3): a number, or a date; at most `most_s`.

    >>> retry_after_s("120", 0, 60.0)
    60.0
    >>> retry_after_s("soon", 0, 60.0) is None
    True
    """
    text = text.strip()[:64]
    if text.isascii() and text.isdigit():
        return min(float(text), most_s)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    wait_s = (at - datetime.fromtimestamp(now_ms / 1000, UTC)).total_seconds()
    return min(max(0.0, wait_s), most_s)
