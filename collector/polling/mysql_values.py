"""Values of SHOW statements as numbers, by the rules of mysqld_exporter."""

from __future__ import annotations

import re

_WORDS = {
    "yes": 1.0,
    "on": 1.0,
    "no": 0.0,
    "off": 0.0,
    "disabled": 0.0,
    "connecting": 0.0,
    "primary": 1.0,
    "non-primary": 0.0,
    "disconnected": 0.0,
}
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?")


def number_of(text: str | None) -> float | None:
    """The number a value stands for, or None where it is a text or NULL.

    >>> number_of("Yes"), number_of("1e3"), number_of("127.0.0.1"), number_of("ROW")
    (1.0, 1000.0, None, None)
    """
    if text is None:
        return None
    word = _WORDS.get(text.lower())
    if word is not None:
        return word
    return float(text) if _NUMBER.fullmatch(text) else None
