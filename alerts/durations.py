"""Durations as Prometheus and Alertmanager write them: `1h30m`, `15s`, `100ms`, `0`."""

from __future__ import annotations

import re

_UNITS_MS = {
    "y": 365 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
}
_DURATION = re.compile(
    r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?"
)
MAX_DURATION_MS = 100 * _UNITS_MS["y"]


def parse_duration_ms(text: str) -> int:
    """Milliseconds of a duration.

    >>> parse_duration_ms("1h30m")
    5400000

    Raises:
        ValueError: The text is no duration.
    """
    if text == "0":
        return 0
    match = _DURATION.fullmatch(text) if 0 < len(text) <= 64 else None
    if match is None:
        raise ValueError(f"{text!r} is not a duration")
    total = sum(
        int(count) * unit
        for count, unit in zip(match.groups(), _UNITS_MS.values(), strict=True)
        if count
    )
    if total > MAX_DURATION_MS:
        raise ValueError(f"{text!r} is longer than 100 years")
    return total


def format_duration(duration_ms: int) -> str:
    """The shortest exact form, as Prometheus prints it.

    >>> format_duration(5_400_000)
    '1h30m'
    """
    if duration_ms == 0:
        return "0s"
    rest, parts = duration_ms, []
    for unit, size in _UNITS_MS.items():
        # Prometheus prints years, weeks and days only where nothing remains.
        if unit in {"y", "w", "d"} and rest % size:
            continue
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
