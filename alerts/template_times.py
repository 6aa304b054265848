"""The methods of Go's time that templates call: `{{ ($value | toTime).Format "15:04" }}`.

Source: https://pkg.go.dev/time; all times are UTC.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from alerts.template_text import TemplateError, text_of

# Go's layouts are written as its reference time, 2006-01-02 15:04:05 (a Monday), is.
_LAYOUT = re.compile(
    r"January|Jan(?![a-z])|Monday|Mon(?![a-z])|MST|2006|002|0[1-6]|15|_2(?!006)|PM|pm"
    r"|Z07:00:00|Z070000|Z07:00|Z0700|Z07|-07:00:00|-070000|-07:00|-0700|-07"
    r"|[.,](?:0+|9+)(?!\d)|[1-5]"
)
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
    *("October", "November", "December"),
)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_PARTS: dict[str, Callable[[datetime], str]] = {
    "January": lambda at: _MONTHS[at.month - 1],
    "Jan": lambda at: _MONTHS[at.month - 1][:3],
    "Monday": lambda at: _DAYS[at.weekday()],
    "Mon": lambda at: _DAYS[at.weekday()][:3],
    "2006": lambda at: f"{at.year:04d}",
    "06": lambda at: f"{at.year % 100:02d}",
    "002": lambda at: f"{at.timetuple().tm_yday:03d}",
    "01": lambda at: f"{at.month:02d}",
    "1": lambda at: f"{at.month}",
    "02": lambda at: f"{at.day:02d}",
    "_2": lambda at: f"{at.day:2d}",
    "2": lambda at: f"{at.day}",
    "15": lambda at: f"{at.hour:02d}",
    "03": lambda at: f"{at.hour % 12 or 12:02d}",
    "3": lambda at: f"{at.hour % 12 or 12}",
    "04": lambda at: f"{at.minute:02d}",
    "4": lambda at: f"{at.minute}",
    "05": lambda at: f"{at.second:02d}",
    "5": lambda at: f"{at.second}",
    "PM": lambda at: "AM" if at.hour < 12 else "PM",
    "pm": lambda at: "am" if at.hour < 12 else "pm",
}
_METHODS: dict[str, Callable[[datetime], Any]] = {
    "Year": lambda at: at.year,
    "Month": lambda at: _MONTHS[at.month - 1],
    "Day": lambda at: at.day,
    "Hour": lambda at: at.hour,
    "Minute": lambda at: at.minute,
    "Second": lambda at: at.second,
    "Weekday": lambda at: _DAYS[at.weekday()],
    "YearDay": lambda at: at.timetuple().tm_yday,
    "Unix": lambda at: int(at.timestamp() // 1),
    "UTC": lambda at: at,
    "String": text_of,
}


def call_method(value: Any, name: str, arguments: Sequence[Any]) -> Any:
    """What a method of a value answers; times have those of `_METHODS` and `Format`.

    Raises:
        TemplateError: There is no such method here, or it takes other arguments.
    """
    if not isinstance(value, datetime):
        raise TemplateError(f"can't give arguments to field {name} of {text_of(value)!r}")
    if name == "Format":
        if len(arguments) != 1 or not isinstance(arguments[0], str):
            raise TemplateError("Format takes one text, a layout such as 2006-01-02 15:04:05")
        return formatted(value, arguments[0])
    method = _METHODS.get(name)
    if method is None:
        known = ", ".join(sorted((*_METHODS, "Format")))
        raise TemplateError(f"a time has no method {name} here; it has {known}")
    if arguments:
        raise TemplateError(f"{name} of a time takes no arguments")
    return method(value)


def formatted(at: datetime, layout: str) -> str:
    """A time in UTC as Go's `Format` writes it.

    >>> formatted(datetime(2026, 11, 27, 18, 4, 5), "Mon Jan _2 15:04:05 2006, 3:04PM")
    'Fri Nov 27 18:04:05 2026, 6:04PM'
    """
    return _LAYOUT.sub(lambda match: _part(at, match[0]), layout)


def _part(at: datetime, sign: str) -> str:
    if sign in _PARTS:
        return _PARTS[sign](at)
    if sign == "MST":
        return "UTC"
    if sign[0] in ".,":
        digits = f"{at.microsecond:06d}".ljust(len(sign) - 1, "0")[: len(sign) - 1]
        digits = digits.rstrip("0") if sign[1] == "9" else digits
        return sign[0] + digits if digits else ""
    # A zone: Z stands for UTC, the others write its distance.
    return "Z" if sign[0] == "Z" else "+" + re.sub(r"\d", "0", sign[1:])
