"""OTLP metric and attribute names as Prometheus names.

Rules: prometheus/otlptranslator 1.0, strategy UnderscoreEscapingWithSuffixes (the default).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_UNITS = {
    "d": "days",
    "h": "hours",
    "min": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "By": "bytes",
    "KiBy": "kibibytes",
    "MiBy": "mebibytes",
    "GiBy": "gibibytes",
    "TiBy": "tebibytes",
    "KBy": "kilobytes",
    "MBy": "megabytes",
    "GBy": "gigabytes",
    "TBy": "terabytes",
    "m": "meters",
    "V": "volts",
    "A": "amperes",
    "J": "joules",
    "W": "watts",
    "g": "grams",
    "Cel": "celsius",
    "Hz": "hertz",
    "1": "",
    "%": "percent",
}
_PER = {
    "s": "second",
    "m": "minute",
    "h": "hour",
    "d": "day",
    "w": "week",
    "mo": "month",
    "y": "year",
}
_NOT_NAME = re.compile(r"[^A-Za-z0-9:]+")
_NOT_UNIT = re.compile(r"[^A-Za-z0-9]+")
_NOT_LABEL = re.compile(r"[^A-Za-z0-9_]")
_UNDERSCORES = re.compile(r"_{2,}")


def metric_name(name: str, unit: str, *, counter: bool = False, gauge: bool = False) -> str:
    """The Prometheus name of an OTLP metric; empty when nothing of the name is left.

    >>> metric_name("http.server.request.duration", "s")
    'http_server_request_duration_seconds'
    >>> metric_name("requests.total.count", "{request}", counter=True)
    'requests_count_total'
    """
    tokens = [token for token in _NOT_NAME.split(name) if token]
    if not tokens:
        return ""
    for suffix in unit_suffixes(unit):
        if suffix and suffix not in tokens:
            tokens.append(suffix)
    if counter:
        tokens = [token for token in tokens if token != "total"] + ["total"]  # noqa: S105
    elif gauge and unit == "1":
        tokens = [token for token in tokens if token != "ratio"] + ["ratio"]  # noqa: S105
    joined = "_".join(tokens)
    return f"_{joined}" if joined[0].isdigit() else joined


def unit_suffixes(unit: str) -> tuple[str, str]:
    """The words for a UCUM unit and for what it is divided by.

    >>> unit_suffixes("By/s")
    ('bytes', 'per_second')
    """
    main, _, per = unit.partition("/")
    per_word = _word(per, _PER)
    return _word(main, _UNITS), f"per_{per_word}" if per_word else ""


def _word(unit: str, known: dict[str, str]) -> str:
    stripped = unit.strip()
    if not stripped or "{" in stripped or "}" in stripped:
        return ""
    return known[stripped] if stripped in known else _NOT_UNIT.sub("_", stripped).strip("_")


def label_name(name: str) -> str:
    """An attribute's key as a label name; empty stays empty.

    >>> label_name("http.request.method"), label_name("2xx")
    ('http_request_method', 'key_2xx')
    """
    cleaned = _NOT_LABEL.sub("_", name)
    if not (cleaned.startswith("__") and cleaned.endswith("__")):
        cleaned = _UNDERSCORES.sub("_", cleaned)
    return f"key_{cleaned}" if cleaned[:1].isdigit() else cleaned


def labels_of(attributes: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Label pairs; values of keys that become one name are joined with `;`, in key order."""
    found: dict[str, str] = {}
    for key, value in sorted(attributes):
        name = label_name(key)
        if name:
            found[name] = f"{found[name]};{value}" if name in found else value
    return found
