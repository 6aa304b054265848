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
_EQUALS = re.compile(r'(!=|=)(\s*")$')
_IN_QUOTES = re.compile(r'"(?:[^"\\]|\\.)*"')
_ALL = "$__all"
_AUTO = "$__auto"
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

    All values is the empty tuple, and so is a variable that a query tells and that was saved
    without one, as in dashboards made to be shared. Those that choose a data source are left out.
    """
    values: dict[str, tuple[str, ...]] = {}
    for entry in _variables(dashboard):
        kind = text_of(entry.get("type"))
        chosen = None if kind == "datasource" else _chosen(entry, kind)
        if chosen is not None:
            values[text_of(entry.get("name"))] = chosen
    return values


def saved_without_value(dashboard: Mapping[str, Any]) -> list[str]:
    """The variables of which nobody chose a value, or all of them, when it was saved."""
    return [
        text_of(entry.get("name"))
        for entry in _variables(dashboard)
        if entry.get("type") == "query" and mapping(entry.get("current")).get("value") is None
    ]


def _variables(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    entries = map(mapping, listed(mapping(dashboard.get("templating")).get("list")))
    return [entry for entry in entries if text_of(entry.get("name"))]


def _chosen(entry: Mapping[str, Any], kind: str) -> tuple[str, ...] | None:
    current = mapping(entry.get("current")).get("value")
    if current == "" and kind == "query":
        return ("",)  # matches series without the label
    found = [text_of(value) for value in (current if isinstance(current, list) else [current])]
    found = [_RATE_WINDOW if value.startswith(_AUTO) else value for value in found if value]
    if not found and kind in {"constant", "textbox", "custom", "interval"}:
        first = text_of(entry.get("query")).split(",")[0].strip()
        found = [first] if first else []
    if _ALL in found or "All" in found:
        every = text_of(entry.get("allValue"))
        return (every,) if every else ()
    if not found and kind == "textbox":
        return ("",)  # an empty search finds all
    if not found:
        return () if kind == "query" or entry.get("includeAll") is True else None
    return tuple(found)


def replaced(expr: str, values: Mapping[str, tuple[str, ...]], fixed: Mapping[str, str]) -> str:
    """The query with every variable replaced.

    Raises:
        Unresolved: A variable has no value, or several where one is needed.
    """
    out, last = "", 0
    for use in _USE.finditer(expr):
        name = _name(use)
        out += expr[last : use.start()]
        last = use.end()
        if name in fixed:
            out += fixed[name]
        elif name in values:
            out = _with_value(out, values[name], name, after=expr[last:])
        else:
            raise Unresolved(name)
    return out + expr[last:]


def in_words(text: str, values: Mapping[str, tuple[str, ...]]) -> str:
    """A title or a legend with what was chosen; unknown names stay as they are."""

    def told(use: re.Match[str]) -> str:
        chosen = values.get(_name(use))
        return use[0] if chosen is None else " + ".join(chosen) or "all"

    return _USE.sub(told, text)


def _name(use: re.Match[str]) -> str:
    return str(use["braced"] or use["plain"] or use["old"])


def _with_value(before: str, chosen: tuple[str, ...], name: str, *, after: str) -> str:
    """The text so far with the value behind it; several values make `=` a match by pattern."""
    unquoted = _IN_QUOTES.sub("", before)
    if _REGEX_MATCH.search(unquoted):
        return before + _pattern(chosen)
    if len(chosen) == 1:
        return before + chosen[0]
    equals = _EQUALS.search(before) if _EQUALS.search(unquoted) else None
    if equals is None or not after.startswith('"'):
        raise Unresolved(name)
    operator = "=~" if equals[1] == "=" else "!~"
    return before[: equals.start()] + operator + equals[2] + _pattern(chosen)


def _pattern(chosen: tuple[str, ...]) -> str:
    if not chosen:
        return ".*"
    if len(chosen) == 1:
        # One value may be a pattern itself, such as an own "all value".
        return chosen[0]
    return "(" + "|".join(_SPECIAL.sub(r"\\\\\g<0>", value) for value in chosen) + ")"
