"""Grafana's variables in a query, replaced by the values that the dashboard was saved with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from api.grafana.reading import listed, mapping, text_of

# $name, ${name}, ${name:format}, [[name]], [[name:format]]
_USE = re.compile(
    r"\$\{(?P<braced>\w+)(?:[.:][^}]*)?\}|\$(?P<plain>\w+)|\[\[(?P<old>\w+)(?::[^\]]*)?\]\]"
)
_REGEX_MATCH = re.compile(r'(=~|!~)\s*"[^"]*$')
_IN_QUOTES = re.compile(r'"(?:[^"\\]|\\.)*"')
_ALL = "$__all"
# What Grafana works out from the width of a graph; here a window that holds for usual scrapes.
_RATE_WINDOW = "5m"
_SPECIAL = re.compile(r"[\\.+*?()|{}\[\]^$]")


class Unresolved(Exception):
    """A variable of which no value is known, or several where one is needed."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def built_in(range_text: str, range_s: int) -> dict[str, str]:
    """The variables that Grafana itself sets."""
    return {
        "__rate_interval": _RATE_WINDOW,
        "__interval": "1m",
        "__interval_ms": "60000",
        "__range": range_text,
        "__range_s": str(range_s),
        "__range_ms": str(range_s * 1000),
    }


def saved_values(dashboard: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Each variable's values as they were chosen when the dashboard was saved.

    All values is the empty tuple. Variables that choose a data source are left out.
    """
    values: dict[str, tuple[str, ...]] = {}
    for entry in map(mapping, listed(mapping(dashboard.get("templating")).get("list"))):
        name, kind = text_of(entry.get("name")), text_of(entry.get("type"))
        if not name or kind == "datasource":
            continue
        chosen = _chosen(entry, kind)
        if chosen is not None:
            values[name] = chosen
    return values


def _chosen(entry: Mapping[str, Any], kind: str) -> tuple[str, ...] | None:
    current = mapping(entry.get("current")).get("value")
    found = [text_of(value) for value in (current if isinstance(current, list) else [current])]
    found = [value for value in found if value]
    if not found and kind in {"constant", "textbox", "custom", "interval"}:
        first = text_of(entry.get("query")).split(",")[0].strip()
        found = [first] if first else []
    if _ALL in found or "All" in found:
        every = text_of(entry.get("allValue"))
        return (every,) if every else ()
    if not found:
        return () if entry.get("includeAll") is True else None
    return tuple(found)


def replaced(expr: str, values: Mapping[str, tuple[str, ...]], fixed: Mapping[str, str]) -> str:
    """The query with every variable replaced.

    Raises:
        Unresolved: A variable has no value, or several where one is needed.
    """
    out, last = [], 0
    for use in _USE.finditer(expr):
        name = use["braced"] or use["plain"] or use["old"]
        out.append(expr[last : use.start()])
        last = use.end()
        if name in fixed:
            out.append(fixed[name])
            continue
        if name not in values:
            raise Unresolved(name)
        out.append(_value(values[name], name, before="".join(out)))
    return "".join([*out, expr[last:]])


def _value(chosen: tuple[str, ...], name: str, *, before: str) -> str:
    matching = _REGEX_MATCH.search(_IN_QUOTES.sub("", before)) is not None
    if len(chosen) == 1 and not matching:
        return chosen[0]
    if not matching:
        raise Unresolved(name)
    if not chosen:
        return ".*"
    if len(chosen) == 1:
        # One value may be a pattern itself, such as an own "all value".
        return chosen[0]
    return "(" + "|".join(_SPECIAL.sub(r"\\\\\g<0>", value) for value in chosen) + ")"
