"""Numbers as PromQL writes them."""

from __future__ import annotations

import re


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
