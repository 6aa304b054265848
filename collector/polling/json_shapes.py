"""Reading JSON that somebody else wrote: what has another shape than it should is simply absent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def mapping(value: Any) -> Mapping[str, Any]:
    """The object, or an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> Sequence[Any]:
    """The array, or an empty one."""
    return value if isinstance(value, list) else ()


def at(value: Any, path: str) -> Any:
    """What is below an object at `a.b.c`, or None."""
    for part in path.split("."):
        value = mapping(value).get(part)
    return value


def number(value: Any) -> float | None:
    """The finite number, or None: a boolean is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None
