"""Loops that are legitimate: one query for each tenant, shard or database; different functions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection

from detectors.traces.loops import Group
from detectors.traces.shape import KEY_SEPARATOR, Category, identifies, is_primary, key_pattern
from detectors.traces.survey import CONTROL
from detectors.traces.trace import Trace

_NAMESPACE = ("db.namespace", "db.name", "db.instance", "db.mongodb.collection")
_MAX_LOOKED_AT = 64
_MAX_DEPTH = 512
# The names of GraphQL operations stand behind their kind.
_FIRST_WORD = re.compile(r"(?:\b(?:query|mutation|subscription)\s+)?([A-Za-z]+)")


def by_partition_column(group: Group, columns: Collection[str]) -> bool:
    """Does only a tenant or shard vary? A tenant beside another key is no loop over tenants."""
    compared = group.shape.columns
    if not any(column in columns for column in compared):
        return False
    varying = _varying_columns(group)
    if varying is None:
        others = [column for column in compared if column not in columns]
        return not any(identifies(column) or is_primary(column) for column in others)
    return bool(varying) and all(column in columns for column in varying)


def _varying_columns(group: Group) -> set[str] | None:
    """Columns whose values differ between the repeats; None where the texts do not tell."""
    rows = [shape.key.split(KEY_SEPARATOR) for shape in group.shapes if shape.key is not None]
    columns = group.shape.columns
    if len(rows) < len(group.shapes) or any(len(row) != len(columns) for row in rows):
        return None
    values = [set(column) for column in zip(*rows, strict=True)]
    return {name for name, found in zip(columns, values, strict=True) if len(found) > 1}


def databases(trace: Trace, group: Group) -> int:
    """Distinct databases that the repeats went to; a database a tenant is a legitimate loop.

    Of calls the distinct addresses that were asked the same.
    """
    if group.shape.category == Category.CALL:
        same = group.shape.table.startswith("*") and len(group.keys or ()) == 1
        spans = group.spans[:_MAX_LOOKED_AT] if same else ()
        return len({_address(trace, span) for span in spans})
    if group.one_server:
        return 1
    spans = group.spans[:_MAX_LOOKED_AT]
    # The same words say the same: only one of each is read.
    server = trace.server
    distinct = {server[span]: span for span in spans}
    if len(distinct) == 1:
        return 1
    found: set[tuple[str, str]] = set()
    for span in distinct.values():
        attributes = trace.attributes(span)
        name = next((str(attributes[key]) for key in _NAMESPACE if attributes.get(key)), "")
        port = attributes.get("server.port") or attributes.get("net.peer.port") or ""
        found.add((name, f"{trace.text('server_address', span)}:{port}"))
    return len(found)


def _address(trace: Trace, span: int) -> str:
    url = trace.text("url", span)
    host = url.partition("://")[2].partition("/")[0]
    return host or trace.text("server_address", span)


def switches(trace: Trace, group: Group) -> int:
    """Times that the schema, the database or the tenant was changed between the repeats."""
    if not trace.traits & CONTROL:
        return 0
    low, high = trace.start_ns[group.spans[0]], trace.start_ns[group.spans[-1]]
    service = trace.service[group.spans[0]]
    return trace.controls.switches(service, low - (high - low), high)


def scattered_names(trace: Trace, group: Group) -> int:
    """Distinct names of the spans directly under the anchor that hold one repeat each.

    Repeats in differently named functions are no loop. Names that differ in ids are equal, and so
    are names that begin with the same word: "render red-shirt" is one function, not a function for
    each shirt.
    """
    if group.parent == group.anchor:
        return 0
    names: Counter[str] = Counter()
    for span in group.spans:
        below = span
        for _ in range(_MAX_DEPTH):  # parents of hostile spans run in circles
            if trace.parent[below] < 0 or trace.parent[below] == group.anchor:
                break
            below = trace.parent[below]
        if below == span:
            return 0
        names[key_pattern(trace.name(below))] += 1
    words = {word.group(1).lower() for name in names if (word := _FIRST_WORD.search(name))}
    return len(names) if max(names.values()) == 1 and len(words) > 1 else 0
