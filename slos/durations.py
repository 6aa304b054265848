"""Durations as Prometheus and OpenSLO write them, and as people read them."""

from __future__ import annotations

import re

from store.durations import parse_duration_ms

# OpenSLO's months, quarters and years.
_NO_FIXED_LENGTH = re.compile(r"\d+[MQY]")
_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
_WORDS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def parse_duration_s(text: str) -> int:
    """Whole seconds of a duration such as `2h24m`, `30d` or `4w`.

    >>> parse_duration_s("2h24m"), parse_duration_s("4w")
    (8640, 2419200)

    Raises:
        ValueError: It is none, or counts in months, quarters or years, which have no fixed length.
    """
    if _NO_FIXED_LENGTH.fullmatch(text):
        raise ValueError(f"{text!r} has no fixed length; write it in days or weeks, like 30d or 4w")
    try:
        seconds, rest_ms = divmod(parse_duration_ms(text), 1_000)
    except ValueError as exc:
        raise ValueError(f"{text!r} is no duration; write it like 10s, 2h24m or 30d") from exc
    if rest_ms:
        raise ValueError(f"{text!r} is not whole seconds; write it like 10s, 2h24m or 30d")
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
