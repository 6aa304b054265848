"""Reads values of a document that anybody may have written: what has another type is empty."""

from __future__ import annotations

from typing import Any


def mapping(value: Any) -> dict[str, Any]:
    """The object, or an empty one."""
    return value if isinstance(value, dict) else {}


def listed(value: Any) -> list[Any]:
    """The list, or an empty one."""
    return value if isinstance(value, list) else []


def text_of(value: Any) -> str:
    """Text, and numbers as text."""
    if isinstance(value, bool):
        return ""
    return str(value) if isinstance(value, str | int | float) else ""


def whole(value: Any, otherwise: int) -> int:
    """A whole number of a sane size."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return otherwise
    return int(value) if -1e6 < value < 1e6 else otherwise
