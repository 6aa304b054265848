"""How Go prints the values of a template: `%v`, `printf`, times; and the error of templates.

Source: https://pkg.go.dev/fmt, and promtool, which the tests ask.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

_VERB = re.compile(r"%([-+# 0]*)(\d{0,3})(?:\.(\d{1,2}))?([a-zA-Z%])")
# What 64 bits of nanoseconds hold.
_LONGEST_S = 2**63 / 1e9
_BELOW_A_SECOND = (("ms", 10**6), ("µs", 10**3), ("ns", 1))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TemplateError(ValueError):
    """A template cannot be parsed or rendered; the message says why."""


class FieldList(tuple[Any, ...]):
    """A list that has named fields too, such as `.Alerts.Firing`."""

    fields: Mapping[str, Any]

    def get(self, name: str, default: Any = "") -> Any:
        return self.fields.get(name, default)


def go_float(value: float) -> str:
    """A float as Go's `%v` prints it.

    >>> go_float(5.0), go_float(1234567.0), go_float(0.00001)
    ('5', '1.234567e+06', '1e-05')
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value and value.is_integer() and abs(value) < 1e6:
        return str(int(value))
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    power = len(digits) + int(exponent) - 1
    if value == 0 or -4 <= power < 6:
        return f"{Decimal(repr(value)).normalize():f}"
    point = ".".join("".join(map(str, part)) for part in (digits[:1], digits[1:]) if part)
    return f"{'-' if sign else ''}{point}e{'-' if power < 0 else '+'}{abs(power):02d}"


def text_of(value: Any) -> str:
    """Any template value as text."""
    match value:
        case None:
            text = "<no value>"
        case bool():
            text = "true" if value else "false"
        case float():
            text = go_float(value)
        case datetime():
            text = time_text(value)
        case Mapping():
            inner = " ".join(f"{key}:{text_of(item)}" for key, item in sorted(value.items()))
            text = f"map[{inner}]"
        case list() | tuple():
            text = "[" + " ".join(text_of(item) for item in value) + "]"
        case _:
            text = str(value)
    return text


def number_of(value: Any) -> float:
    """A number, or a text that is one."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TemplateError(f"can't convert {text_of(value)!r} to a number") from None


def time_of(seconds: float) -> datetime:
    """The instant of unix seconds."""
    try:
        return _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        raise TemplateError(f"{go_float(seconds)} is no time that can be shown") from None


def time_text(at: datetime) -> str:
    """A time as Go prints it."""
    fraction = f"{at.microsecond:06d}".rstrip("0")
    return f"{at:%Y-%m-%d %H:%M:%S}{'.' + fraction if fraction else ''} +0000 UTC"


def duration_text(seconds: float) -> str:
    """Seconds as Go prints a duration.

    >>> duration_text(3725.5), duration_text(0.25), duration_text(60), duration_text(0)
    ('1h2m5.5s', '250ms', '1m0s', '0s')
    """
    if not math.isfinite(seconds) or abs(seconds) > _LONGEST_S:
        raise TemplateError(f"{go_float(seconds)} s is no duration")
    sign, left = "-" if seconds < 0 else "", round(abs(seconds) * 1e9)
    if left < 10**9:
        unit, size = next((u, s) for u, s in _BELOW_A_SECOND if left >= s or u == "ns")
        return f"{sign}{_decimal(left, size)}{unit}" if left else "0s"
    minutes, rest = divmod(left, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    ahead = (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "")
    return f"{sign}{ahead}{_decimal(rest, 10**9)}s"


def _decimal(count: int, size: int) -> str:
    whole, part = divmod(count, size)
    digits = f"{part:0{len(str(size)) - 1}d}".rstrip("0") if size > 1 else ""
    return f"{whole}.{digits}" if digits else str(whole)


def printf(pattern: Any, *values: Any) -> str:
    """Go's Sprintf for the verbs that rule files use."""
    left = list(values)

    def one(match: re.Match[str]) -> str:
        flags, width, precision, verb = match.groups()
        if verb == "%":
            return "%"
        if not left:
            return f"%!{verb}(MISSING)"
        return _formatted(left.pop(0), flags, width, precision, verb)

    return _VERB.sub(one, text_of(pattern))


def _formatted(value: Any, flags: str, width: str, precision: str | None, verb: str) -> str:
    if verb in "feEgG" and isinstance(value, int | float) and not isinstance(value, bool):
        if (verb in "gG" and precision is None) or not math.isfinite(value):
            text = go_float(float(value))
            text = text.upper() if verb == "G" and math.isfinite(value) else text
        else:
            return f"%{flags}{width}.{precision or 6}{verb}" % float(value)
    elif verb in "dxXob" and isinstance(value, int) and not isinstance(value, bool):
        return f"%{flags}{width}{verb}" % value if verb != "b" else f"{value:b}"
    elif verb == "c" and isinstance(value, int) and 0 <= value < 0x110000:
        text = chr(value)
    elif verb in "svtq":
        text = text_of(value)
        text = text[: int(precision)] if precision else text
        text = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' if verb == "q" else text
    else:
        return f"%!{verb}({type(value).__name__}={text_of(value)})"
    size = int(width or 0)
    return text.ljust(size) if "-" in flags else text.rjust(size)
