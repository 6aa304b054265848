"""Durations, sizes and names as people write them in configuration files."""

from __future__ import annotations

import re

from store.durations import parse_duration_ms

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?i?B)", re.IGNORECASE)
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_BYTES |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}

_LABEL = re.compile(r"[a-zA-Z][a-zA-Z0-9_]*|_[a-zA-Z0-9][a-zA-Z0-9_]*|_")


def duration_s(text: str | float) -> float:
    """Seconds of a Prometheus duration such as `1h30m`, or of a plain number of seconds.

    >>> duration_s("1h30m"), duration_s("500ms"), duration_s(5)
    (5400.0, 0.5, 5.0)

    Raises:
        ValueError: It is neither.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text)
    try:
        return parse_duration_ms(str(text)) / 1000
    except ValueError as exc:
        raise ValueError(f"{text!r} is no duration; write it like 5s, 1h30m or 15d") from exc


def size_bytes(text: str | int) -> int:
    """Bytes of a size such as `50GB` or `512MiB`, or of a plain number.

    >>> size_bytes("50GB"), size_bytes("1KiB"), size_bytes(7)
    (50000000000, 1024, 7)

    Raises:
        ValueError: It is neither.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    match = _SIZE.fullmatch(str(text).strip())
    if match is None:
        raise ValueError(f"{text!r} is no size; write it like 50GB or 512MiB")
    return int(float(match[1]) * _BYTES[match[2].lower()])


def label_name(text: str) -> str:
    """The name of a label that a person may set: not one that begins with two underscores.

    Raises:
        ValueError: It is none.
    """
    if _LABEL.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no label name; it has letters, digits and _, like site_2")
    return text
