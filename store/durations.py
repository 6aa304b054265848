"""Durations as Prometheus and Alertmanager write them: `1h30m`, `15s`, `100ms`."""

from __future__ import annotations

import re

UNITS_MS = {
    "y": 365 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
}
MAX_DURATION_MS = (2**63 - 1) // 1_000_000  # Go's time.Duration counts nanoseconds in an int64

_DURATION = re.compile(
    r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)s)?(?:(\d+)ms)?"
)


def parse_duration_ms(text: str) -> int:
    """Milliseconds of a duration; `0` needs no unit.

    >>> parse_duration_ms("1h30m")
    5400000

    Raises:
        ValueError: It is no duration, or longer than 292 years.
    """
    if text == "0":
        return 0
    found = _DURATION.fullmatch(text) if len(text) < 100 else None
    if not text or found is None:
        raise ValueError(f'not a valid duration string: "{text[:100]}"')
    total = sum(
        int(count) * unit
        for count, unit in zip(found.groups(), UNITS_MS.values(), strict=True)
        if count
    )
    if total > MAX_DURATION_MS:
        raise ValueError("duration out of range")
    return total


def format_duration(milliseconds: int) -> str:
    """The shortest Prometheus spelling: weeks and years only where they divide the whole."""
    if milliseconds == 0:
        return "0s"
    sign, rest = ("-", -milliseconds) if milliseconds < 0 else ("", milliseconds)
    out = ""
    for unit, size in UNITS_MS.items():
        if rest >= size and (unit not in ("y", "w") or rest % size == 0):
            out += f"{rest // size}{unit}"
            rest %= size
    return sign + out
