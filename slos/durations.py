"""Durations as Prometheus and OpenSLO write them, and as people read them."""

from __future__ import annotations

import re

_PART = re.compile(r"(\d+)([smhdwMQY])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
_WORDS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def parse_duration_s(text: str) -> int:
    """Whole seconds of a duration such as `2h24m`, `30d` or `4w`.

    >>> parse_duration_s("2h24m"), parse_duration_s("4w")
    (8640, 2419200)

    Raises:
        ValueError: It is none, or counts in months, quarters or years, which have no fixed length.
    """
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is no duration; write it like 10s, 2h24m or 30d")
    if any(unit not in _SECONDS for _, unit in parts):
        raise ValueError(f"{text!r} has no fixed length; write it in days or weeks, like 30d or 4w")
    seconds = sum(int(number) * _SECONDS[unit] for number, unit in parts)
    if not 0 < seconds <= 366 * 86_400:
        raise ValueError(f"{text!r} must be longer than nothing and at most 366 days")
    return seconds


def format_duration(seconds: int) -> str:
    """The shortest Prometheus duration.

    >>> format_duration(8640), format_duration(2592000), format_duration(10)
    ('2h24m', '30d', '10s')
    """
    left, text = seconds, ""
    for unit, length in _UNITS:
        count, left = divmod(left, length)
        if count:
            text += f"{count}{unit}"
    return text or "0s"


def say_duration(seconds: float) -> str:
    """For people, in at most two units.

    >>> say_duration(3900), say_duration(120), say_duration(8640)
    ('1 h 5 min', '2 min', '2 h 24 min')
    """
    left, words = round(seconds), list[str]()
    for unit, length in _WORDS:
        count, left = divmod(left, length)
        if count:
            words.append(f"{count} {unit}")
        elif words:
            break
    return " ".join(words[:2]) or "0 s"
