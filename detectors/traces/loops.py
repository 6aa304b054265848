"""Repeats of one shape within one request: the mechanism under every N+1 shape.

Spans are grouped by shape within the request that one service serves. Order does not matter:
connect, BEGIN and wrapper spans between the repeats are transparent, parallel repeats count like
sequential ones, and several statements a turn (M x N) are one loop.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from detectors.traces.shape import Category, Shape
from detectors.traces.trace import Trace

_LOOPABLE = frozenset({Category.QUERY, Category.CACHE, Category.CALL})
_DIGITS = re.compile(r"\d+")
_SERVER = 2
_UNKNOWN_SCOPE = -2
_CLIENT_NS = 500_000
# Where one span says how many operations it stands for: compressed by Elastic's agents …
_COMPOSITE = ("composite.count", "span.composite.count", "elastic.span.composite.count")
# … or sent as one batch by the client, which is what a loop should be turned into.
_BATCH = ("db.operation.batch.size", "db.redis.pipeline_length")
_NAMESPACE = ("db.namespace", "db.name")


@dataclass(frozen=True, slots=True)
class Group:
    """Spans of one form under one entry span.

    Attributes:
        spans: The repeats, ascending in start; failures that were tried again are left out.
        count: How many operations they stand for (a composite span stands for several).
        retries: Repeats left out because an equal one before them had failed.
        batched: Spans left out because each is a batch already.
    """

    entry: int
    spans: tuple[int, ...]
    count: int
    shape: Shape
    anchor: int
    retries: int = 0
    batched: int = 0
    followers: tuple[Group, ...] = field(default=())


def groups(trace: Trace) -> list[Group]:
    """Every form that occurs at least twice under one entry, in order of its first start."""
    members: dict[tuple[int, int, int | str], list[int]] = {}
    for span in range(trace.n):
        form = _countable_form(trace, span)
        if form is not None:
            key = (_scope(trace, span), trace.service[span], form)
            members.setdefault(key, []).append(span)
    found = []
    for (scope, _, _), spans in members.items():
        group = _group(trace, max(scope, -1), spans)
        if group is not None:
            found.append(group)
    return sorted(found, key=lambda group: (trace.start_ns[group.spans[0]], group.shape.text))


def _countable_form(trace: Trace, span: int) -> int | str | None:
    category = trace.category[span]
    if category in _LOOPABLE:
        return None if _inner_duplicate(trace, span) else trace.form[span]
    if trace.kind[span] == _SERVER and trace.parent_key[span] >= 0:
        return _served_form(trace, span)
    return None


def _served_form(trace: Trace, span: int) -> str | None:
    """The route of a request served for a caller whose own client span is not in the trace."""
    parent = trace.parent[span]
    if parent >= 0 and trace.category[parent] == Category.CALL:
        return None
    if parent >= 0 and trace.service[parent] == trace.service[span]:
        return None
    return trace.text("http_route", span) or trace.name(span)


def _scope(trace: Trace, span: int) -> int:
    """The request in which a span repeats: its entry span, or a negative number where unknown."""
    caller = span if trace.category[span] in _LOOPABLE else trace.parent[span]
    if caller < 0:
        return -3 - trace.parent_key[span]
    entry = trace.entry[caller]
    return entry if entry >= 0 else _UNKNOWN_SCOPE


def _inner_duplicate(trace: Trace, span: int) -> bool:
    """A driver's span inside the span of an ORM or a client that says the same."""
    above = trace.parent[span]
    for _ in range(4):
        if above < 0 or trace.service[above] != trace.service[span]:
            return False
        if trace.category[above] == trace.category[span]:
            return True
        if trace.category[above] != Category.OTHER or trace.entry[above] == above:
            return False
        above = trace.parent[above]
    return False


def _group(trace: Trace, entry: int, spans: list[int]) -> Group | None:
    weights = {span: _weight(trace, span) for span in spans}
    single = [span for span in spans if weights[span] > 0]
    kept = _without_retries(trace, single)
    count = sum(weights[span] for span in kept)
    if len(spans) < 2 and count < 2:
        return None
    return Group(
        entry=entry,
        spans=tuple(kept or spans),
        count=count,
        shape=shape_of(trace, spans[0]),
        anchor=_anchor(trace, kept or spans),
        retries=len(single) - len(kept),
        batched=len(spans) - len(single),
    )


def shape_of(trace: Trace, span: int) -> Shape:
    """The shape of a member; a request served without its client span gets one by its route."""
    if trace.category[span] in _LOOPABLE:
        return trace.shape(span)
    method = trace.text("http_method", span)
    route = trace.text("http_route", span) or trace.name(span)
    name = f"{method} {trace.service_name(span)}/{route.lstrip('/')}".strip()
    return Shape(name, Category.CALL, method or "CALL")


def _weight(trace: Trace, span: int) -> int:
    """How many operations a span stands for; 0 for a batch."""
    if trace.category[span] in _LOOPABLE and _is_pipeline(trace.shape(span)):
        return 0
    if not trace.multiple[span]:
        return 1
    attributes = trace.attributes(span)
    composite = _number(attributes, _COMPOSITE)
    if composite > 1:
        return composite
    return 0 if _number(attributes, _BATCH) > 1 else 1


def _is_pipeline(shape: Shape) -> bool:
    return shape.category == Category.CACHE and shape.list_size > 1


def _number(attributes: Any, names: Iterable[str]) -> int:
    for name in names:
        value = attributes.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return min(int(value), 1_000_000)
    return 0


def _without_retries(trace: Trace, spans: list[int]) -> list[int]:
    """Drops each failure that the next repeat tried again: same key, or a key nobody knows."""
    kept = []
    for place, span in enumerate(spans):
        following = spans[place + 1] if place + 1 < len(spans) else None
        if trace.failed[span] and following is not None:
            before, after = shape_of(trace, span), shape_of(trace, following)
            if before.key is None or before.key == after.key:
                continue
        kept.append(span)
    return kept


def _anchor(trace: Trace, spans: Iterable[int]) -> int:
    """The lowest span above all of these; -1 where it is not in the trace."""
    paths = [_path_up(trace, trace.parent[span]) for span in spans]
    shared = set(paths[0])
    for path in paths[1:]:
        shared.intersection_update(path)
    return next((span for span in paths[0] if span in shared), -1)


def _path_up(trace: Trace, span: int) -> list[int]:
    path: list[int] = []
    while span >= 0 and len(path) < 256 and span not in path[-1:]:
        path.append(span)
        span = trace.parent[span]
    return path


def scattered_names(trace: Trace, group: Group) -> int:
    """Distinct names of the spans directly under the anchor that hold one repeat each.

    Repeats in differently named functions are no loop. Names that differ only in digits are equal.
    """
    names: Counter[str] = Counter()
    for span in group.spans:
        below = span
        while trace.parent[below] >= 0 and trace.parent[below] != group.anchor:
            below = trace.parent[below]
        if below == span:
            return 0
        names[_DIGITS.sub("*", trace.name(below))] += 1
    return len(names) if max(names.values()) == 1 else 0


def namespaces(trace: Trace, group: Group) -> int:
    """Distinct databases that the repeats went to; a database a tenant is a legitimate loop."""
    found: set[str] = set()
    for span in group.spans[:64]:
        attributes = trace.attributes(span)
        name = next((attributes[key] for key in _NAMESPACE if attributes.get(key)), None)
        if name is not None:
            found.add(str(name))
    return len(found)


def distinct_keys(trace: Trace, group: Group) -> int | None:
    """How many keys the repeats read; None where the texts do not tell."""
    shapes = [shape_of(trace, span) for span in group.spans]
    keys = {shape.key for shape in shapes}
    return None if None in keys else len(keys)


def median_list_size(trace: Trace, group: Group) -> float:
    """Values in the IN list of a typical repeat; long ones are batches already."""
    return float(median(shape_of(trace, span).list_size for span in group.spans))


def client_ns(trace: Trace, group: Group) -> int:
    """The client's own time between the repeats, which one batch would save as well.

    A span of a query in SQLite takes 0.03 ms; the ORM and the driver take 0.3 ms more each time.
    Of a gap between two repeats at most 0.5 ms is counted. Cache commands have next to none.
    """
    if group.shape.category == Category.CACHE:
        return 0
    total = 0
    until = trace.end_ns[group.spans[0]]
    for span in group.spans[1:]:
        total += min(max(trace.start_ns[span] - until, 0), _CLIENT_NS)
        until = max(until, trace.end_ns[span])
    return total


def merge_turns(trace: Trace, found: list[Group]) -> list[Group]:
    """Loops whose repeats alternate are the statements of one loop (M x N); the first one leads.

    A call leads a query and a query leads a cache command, since it explains more of the turn.
    """
    rank = {Category.CALL: 0, Category.QUERY: 1, Category.CACHE: 2}
    ordered = sorted(
        found, key=lambda group: (rank[group.shape.category], trace.start_ns[group.spans[0]])
    )
    leaders: list[tuple[Group, list[Group]]] = []
    for group in ordered:
        for leader, followers in leaders:
            if _alternate(trace, leader, group):
                followers.append(group)
                break
        else:
            leaders.append((group, []))
    return [
        Group(
            entry=leader.entry,
            spans=leader.spans,
            count=leader.count,
            shape=leader.shape,
            anchor=leader.anchor,
            retries=leader.retries,
            batched=leader.batched,
            followers=tuple(followers),
        )
        for leader, followers in leaders
    ]


def _alternate(trace: Trace, one: Group, other: Group) -> bool:
    """Do most of the smaller group's repeats start between two repeats of the larger one?"""
    if one.entry != other.entry or trace.service[one.spans[0]] != trace.service[other.spans[0]]:
        return False
    few, many = sorted((one, other), key=lambda group: len(group.spans))
    low = trace.start_ns[many.spans[0]]
    high = trace.start_ns[many.spans[-1]]
    starts = [trace.start_ns[span] for span in few.spans]
    inside = sum(low <= start <= high for start in starts)
    spread = max(starts) - min(starts)
    return inside >= 0.6 * len(starts) and spread >= 0.5 * (high - low)
