"""The functions of Prometheus's rule templates, with Go's way of printing numbers.

Source: https://prometheus.io/docs/prometheus/latest/configuration/template_reference/
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any
from urllib.parse import quote_plus, urlsplit

import re2

from alerts.template_text import (
    TemplateError,
    duration_text,
    go_float,
    number_of,
    printf,
    text_of,
    time_of,
    time_text,
)
from store.durations import parse_duration_ms
from store.model import InstantVector

Function = Callable[..., Any]
_UP = ("k", "M", "G", "T", "P", "E", "Z", "Y")
_UP_1024 = tuple(f"{p}i" for p in _UP)
_DOWN = ("m", "u", "n", "p", "f", "a", "z", "y")


@dataclass(frozen=True, slots=True)
class TemplateContext:
    """What a template may reach beside its data.

    Attributes:
        query: Answers the `query` function; None where queries are not allowed.
        now_ms: The instant of the evaluation.
    """

    now_ms: int = 0
    query: Callable[[str], InstantVector] | None = None
    external_url: str = ""
    external_labels: Mapping[str, str] = field(default_factory=dict)


def _four(value: float) -> str:
    return go_float(value) if math.isnan(value) or math.isinf(value) else f"{value:.4g}"


def _scaled(value: float, prefixes: Sequence[str], base: float) -> str:
    prefix = ""
    for candidate in prefixes:
        if abs(value) < base:
            break
        prefix, value = candidate, value / base
    return f"{value:.4g}{prefix}"


def _shrunk(value: float) -> tuple[float, str]:
    prefix = ""
    for candidate in _DOWN:
        if abs(value) >= 1:
            break
        prefix, value = candidate, value * 1000
    return value, prefix


def humanize(value: Any) -> str:
    """A number with a metric prefix.

    >>> humanize(1234567), humanize(0.0012)
    ('1.235M', '1.2m')
    """
    number = number_of(value)
    if number == 0 or not math.isfinite(number):
        return _four(number)
    if abs(number) >= 1:
        return _scaled(number, _UP, 1000)
    small, prefix = _shrunk(number)
    return f"{small:.4g}{prefix}"


def humanize_1024(value: Any) -> str:
    """A number with a binary prefix."""
    number = number_of(value)
    if abs(number) <= 1 or not math.isfinite(number):
        return _four(number)
    return _scaled(number, _UP_1024, 1024)


def humanize_duration(value: Any) -> str:
    """Seconds as people say them.

    >>> humanize_duration(3725), humanize_duration(0.25)
    ('1h 2m 5s', '250ms')
    """
    number = number_of(value)
    if not math.isfinite(number):
        return _four(number)
    if number == 0:
        return "0s"
    if abs(number) < 1:
        small, prefix = _shrunk(number)
        return f"{small:.4g}{prefix}s"
    sign, number = ("-", -number) if number < 0 else ("", number)
    if number < 60:
        return f"{sign}{number:.4g}s"
    minutes, seconds = divmod(int(number), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s")]
    while not parts[0][0]:
        parts.pop(0)
    return sign + " ".join(f"{count}{unit}" for count, unit in parts)


def humanize_percentage(value: Any) -> str:
    """A ratio in percent.

    >>> humanize_percentage(0.1234567)
    '12.35%'
    """
    return f"{_four(number_of(value) * 100)}%"


def humanize_timestamp(value: Any) -> str:
    """Unix seconds as a date."""
    number = number_of(value)
    return time_text(time_of(number)) if math.isfinite(number) else _four(number)


def _pattern(pattern: Any) -> re2._Regexp:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(text_of(pattern), options)
    except re2.error as exc:
        raise TemplateError(f"{text_of(pattern)!r} is no regular expression: {exc}") from exc


def re_replace_all(pattern: Any, replacement: Any, text: Any) -> str:
    """Every match replaced; `$1` and `${name}` stand for groups."""
    found = _pattern(pattern)
    template = text_of(replacement)

    def one(match: Any) -> str:
        return re.sub(
            r"\$(?:(\w+)|\{(\w+)\}|(\$))",
            lambda r: "$" if r[3] else _group_text(match, r[1] or r[2]),
            template,
        )

    return str(found.sub(one, text_of(text)))


def _group_text(match: Any, name: str) -> str:
    try:
        return match.group(int(name) if name.isdigit() else name) or ""
    except (IndexError, KeyError):
        return ""


def _title(text: Any) -> str:
    return re.sub(r"(^|[^\w])(\w)", lambda m: m[1] + m[2].upper(), text_of(text))


def _strip_port(text: Any) -> str:
    host, colon, port = text_of(text).rpartition(":")
    return host.strip("[]") if colon and port.isdigit() else text_of(text)


def _strip_domain(text: Any) -> str:
    whole = text_of(text)
    host, colon, port = whole.rpartition(":")
    name = host if colon and port.isdigit() else whole
    short = name.split(".")[0] if not re.fullmatch(r"[\d.]+|.*:.*", name) else name
    return short + (colon + port if name is host else "")


def _length(value: Any) -> int:
    try:
        # Go counts bytes.
        return len(value.encode() if isinstance(value, str) else value)
    except TypeError:
        raise TemplateError("len of something that has no length") from None


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(text_of(key), "")
        elif isinstance(value, list | tuple) and isinstance(key, int) and 0 <= key < len(value):
            value = value[key]
        else:
            raise TemplateError(f"index out of range: {text_of(key)}")
    return value


def _slice(value: Any, *bounds: Any) -> Any:
    if not isinstance(value, str | list | tuple):
        raise TemplateError("slice of something that is no text and no list")
    low, high = [*bounds, *([0] if not bounds else []), len(value)][:2]
    if not all(isinstance(bound, int) for bound in bounds) or not 0 <= low <= high <= len(value):
        raise TemplateError("slice out of range")
    return value[low:high]


def _printed(*values: Any) -> str:
    """Go's Sprint: a space stands between two values when neither is a text."""
    text = ""
    for place, value in enumerate(values):
        apart = place and not isinstance(value, str) and not isinstance(values[place - 1], str)
        text += f"{' ' if apart else ''}{text_of(value)}"
    return text


_JS_SPECIAL = re.compile(r"[\x00-\x1f\\'\"<>&=]|[^\x00-\x7f]")


def _js_escaped(text: str) -> str:
    """Go's JSEscapeString."""

    def one(match: re.Match[str]) -> str:
        sign = match[0]
        if sign in "\\'\"":
            return f"\\{sign}"
        # Of other alphabets what can be printed stays.
        return sign if sign > "\x7f" and sign.isprintable() else f"\\u{ord(sign):04X}"

    return _JS_SPECIAL.sub(one, text)


def truth(value: Any) -> bool:
    """Go's truth: not false, not zero, not empty."""
    return bool(value)


def _compare(one: Any, other: Any) -> int:
    numbers = (int, float)
    if isinstance(one, numbers) and isinstance(other, numbers):
        return (one > other) - (one < other)
    if isinstance(one, str) and isinstance(other, str):
        return (one > other) - (one < other)
    raise TemplateError("incompatible types for comparison")


def _equal(one: Any, *others: Any) -> bool:
    return any(_compare(one, other) == 0 for other in others)


def _first(samples: Any) -> Any:
    if not samples:
        raise TemplateError("first() called on vector with no elements")
    return samples[0]


def _sample_label(name: Any, sample: Any) -> str:
    return str(sample["Labels"].get(text_of(name), ""))


def _sorted_by(name: Any, samples: Any) -> list[Any]:
    return sorted(samples, key=lambda s: _sample_label(name, s))


def _last_of(values: Sequence[Any], *, until: bool) -> Any:
    for value in values[:-1]:
        if truth(value) is until:
            return value
    return values[-1]


def functions(context: TemplateContext) -> dict[str, Function]:
    """Every function a template may call, by its name in Go."""

    def query(expr: Any) -> list[dict[str, Any]]:
        if context.query is None:
            raise TemplateError("queries are not possible here")
        found = context.query(text_of(expr))
        return [{"Labels": s.to_dict(), "Value": v} for s, v in found.items()]

    link = "/graph?g0.expr={}&g0.tab={}"
    return {
        **_PURE,
        "query": query,
        "now": lambda: context.now_ms / 1000,
        "externalURL": lambda: context.external_url,
        "pathPrefix": lambda: urlsplit(context.external_url).path,
        "graphLink": lambda expr: link.format(quote_plus(text_of(expr)), 0),
        "tableLink": lambda expr: link.format(quote_plus(text_of(expr)), 1),
    }


_PURE: dict[str, Function] = {
    "humanize": humanize,
    "humanize1024": humanize_1024,
    "humanizeDuration": humanize_duration,
    "humanizePercentage": humanize_percentage,
    "humanizeTimestamp": humanize_timestamp,
    "toTime": lambda value: time_of(number_of(value)),
    "toDuration": lambda value: duration_text(number_of(value)),
    "title": _title,
    "toUpper": lambda text: text_of(text).upper(),
    "toLower": lambda text: text_of(text).lower(),
    "stripPort": _strip_port,
    "stripDomain": _strip_domain,
    "match": lambda pattern, text: _pattern(pattern).search(text_of(text)) is not None,
    "reReplaceAll": re_replace_all,
    "parseDuration": lambda text: parse_duration_ms(text_of(text)) / 1000,
    "urlQueryEscape": lambda text: quote_plus(text_of(text)),
    "urlquery": lambda text: quote_plus(text_of(text)),
    "first": _first,
    "value": lambda sample: sample["Value"],
    "label": _sample_label,
    "strvalue": lambda sample: _sample_label("__value__", sample),
    "sortByLabel": _sorted_by,
    "args": lambda *values: {f"arg{i}": value for i, value in enumerate(values)},
    "safeHtml": text_of,
    "printf": printf,
    "print": _printed,
    "html": lambda value: (
        escape(text_of(value)).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")
    ),
    "js": lambda *values: _js_escaped(_printed(*values)),
    "slice": _slice,
    "join": lambda separator, values: text_of(separator).join(text_of(value) for value in values),
    "stringSlice": lambda *values: list(values),
    "println": lambda *values: " ".join(text_of(value) for value in values) + "\n",
    "len": _length,
    "index": _index,
    "not": lambda value: not truth(value),
    "and": lambda *values: _last_of(values, until=False),
    "or": lambda *values: _last_of(values, until=True),
    "eq": _equal,
    "ne": lambda one, other: not _equal(one, other),
    "lt": lambda one, other: _compare(one, other) < 0,
    "le": lambda one, other: _compare(one, other) <= 0,
    "gt": lambda one, other: _compare(one, other) > 0,
    "ge": lambda one, other: _compare(one, other) >= 0,
}
