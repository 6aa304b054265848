"""Durations and numbers as PromQL writes them."""

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
    """Milliseconds of `1h30m`.

    Raises:
        ValueError: It is no duration, or longer than 292 years.
    """
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


def parse_number(text: str) -> float:
    """A PromQL number: decimal, hexadecimal, octal, exponent, Inf, NaN, with underscores.

    Raises:
        ValueError: It is no number, or too large for a float.
    """
    plain = text.replace("_", "")
    lower = plain.lower()
    if lower.startswith("0x"):
        return float(int(lower, 16))
    if re.fullmatch(r"0[0-7]+", plain):
        return float(int(plain, 8))
    value = float(plain)
    if value in (float("inf"), float("-inf")) and "inf" not in lower:
        raise ValueError(f'error parsing number: "{text[:100]}" is out of range')
    return value
