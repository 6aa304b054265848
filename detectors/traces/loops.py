"""Repeats of one shape within one request: the mechanism under every N+1 shape.

Spans are grouped by shape within the request that one service serves. Order does not matter:
connect, BEGIN and wrapper spans between the repeats are transparent, parallel repeats count like
sequential ones, and several statements a turn (M x N) are one loop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from statistics import median
from typing import Any

from detectors.traces.families import Form, Joined, joined
from detectors.traces.served import add_served, served_shape
from detectors.traces.shape import Category, Shape
from detectors.traces.survey import ADRIFT, ODD, SERVED, SEVERAL, Repeats
from detectors.traces.trace import OPERATIONS, Trace

# Where one span says how many operations it stands for: compressed by Elastic's agents …
_COMPOSITE = ("composite.count", "span.composite.count", "elastic.span.composite.count")
# … or sent as one batch by the client, which is what a loop should be turned into.
_BATCH = ("db.operation.batch.size", "db.redis.pipeline_length")
_RETRY = ("http.request.resend_count", "http.resend_count")
_MAX_COUNT = 1_000_000
# What explains more of a turn comes first.
_EXPLAINS = (Category.CALL, Category.QUERY, Category.CACHE)


@dataclass(frozen=True)
class Group:
    """Spans of one form under one entry span.

    Attributes:
        spans: The repeats, ascending in start; failures that were tried again are left out.
        count: How many operations they stand for (a composite span stands for several).
        shapes: The shape of each of `spans`.
        retries: Repeats left out because an equal one before them had failed.
        batched: Spans left out because each is a batch already.
        parent: The parent of all repeats, where that is known; else `SEVERAL`.
        one_server: All are known to tell the same of the server that they ask.
        small: By itself it costs too little to be told; with the rest of its turn it may not.
    """

    entry: int
    spans: tuple[int, ...]
    count: int
    shape: Shape
    shapes: tuple[Shape, ...]
    anchor: int
    retries: int = 0
    batched: int = 0
    followers: tuple[Group, ...] = field(default=())
    parent: int = SEVERAL
    one_server: bool = False
    small: bool = False

    @cached_property
    def distinct(self) -> tuple[Shape, ...]:
        """The shapes without repeats: the same text has the same one."""
        return tuple({id(shape): shape for shape in self.shapes}.values())

    @cached_property
    def keys(self) -> set[tuple[str, str]] | None:
        """What the repeats ask for; None where the texts do not tell."""
        found: set[tuple[str, str]] = set()
        for shape in self.distinct:
            if shape.key is None:
                return None
            found.add((shape.text, shape.key))
        return found

    @cached_property
    def list_sizes(self) -> list[int]:
        """Values in the IN list of each repeat, in order."""
        return [shape.list_size for shape in self.shapes]


def groups(trace: Trace, at_least: int = 2) -> list[Group]:
    """Every form that occurs at least twice under one entry, in order of its first start.

    Of a trace that is looked at in brief only those that occur `at_least` so often.
    """
    found = _counted_groups(trace, at_least) if trace.brief else None
    if found is None:
        found = _gathered_groups(trace, at_least if trace.brief else 2)
    if len(found) < 2:
        return found
    return sorted(found, key=lambda group: (trace.start_ns[group.spans[0]], group.shape.text))


def _counted_groups(trace: Trace, at_least: int) -> list[Group] | None:
    """Those that were counted in all traces at once; None of a trace that needs a closer look."""
    census = trace.frame.census(at_least)
    if census.aside[trace.index]:
        return None
    told = (_counted_group(trace, repeats) for repeats in census.of(trace.index))
    return [group for group in told if group is not None]


def _counted_group(trace: Trace, repeats: Repeats) -> Group | None:
    frame, spans = trace.frame, repeats.spans
    row = trace.first + spans[0]
    entry, first = int(frame.entry_in_trace[row]), frame.shapes[frame.shape[row]]
    one_shape, one_server = repeats.alike
    shapes = (first,) * len(spans)
    if not one_shape:
        index = trace.shape_index
        shapes = tuple([frame.shapes[index[span]] for span in spans])
    if first.category == Category.CACHE and any(shape.list_size > 1 for shape in shapes):
        return _group(trace, Joined(entry, list(spans)))
    parent = repeats.parent
    anchor = parent if parent != SEVERAL else _anchor(trace, spans)
    trace.know(repeats)
    return Group(
        entry, spans, len(spans), first, shapes, anchor, parent=parent, one_server=one_server
    )


def _gathered_groups(trace: Trace, at_least: int) -> list[Group]:
    forms = _forms(trace)
    lost = add_served(trace, forms) if trace.traits & SERVED else Counter[Form]()
    odd = trace.traits & ODD
    found = []
    for loop in joined(trace, forms, lost):
        if len(loop.spans) + loop.lost >= at_least or odd:
            group = _group(trace, loop)
            if group is not None:
                found.append(group)
    return found


def _forms(trace: Trace) -> dict[Form, list[int]]:
    """Operations by request, service and form."""
    members: dict[int, list[int]] = {}
    told = _adopted(trace) if trace.traits & ADRIFT else trace.repeated
    for span in trace.operations:
        group = members.get(told[span])
        if group is None:
            members[told[span]] = [span]
        else:
            group.append(span)
    entry, service, form = trace.entry, trace.service, trace.form
    return {
        Form(entry[spans[0]], service[spans[0]], form[spans[0]]): spans
        for spans in members.values()
    }


def _adopted(trace: Trace) -> list[int]:
    """`Trace.repeated` where spans were given to the request around them."""
    numbers: dict[tuple[int, int, int], int] = {}
    told = zip(trace.entry, trace.service, trace.form, strict=True)
    return [numbers.setdefault(key, len(numbers)) for key in told]


def _group(trace: Trace, loop: Joined) -> Group | None:
    odd, spans = trace.traits & ODD, loop.spans
    several = len(spans) + loop.lost > 1
    if not several and not (odd and trace.telling(spans[0], trace.multiple) >= 0):
        return None
    plain = _plain_group(trace, loop)
    if plain is not None:
        return plain
    weights = [_weight(trace, span) for span in spans]
    single = [span for span, weight in zip(spans, weights, strict=True) if weight > 0]
    shapes = {span: shape_of(trace, span) for span in (single or spans)}
    kept = _without_retries(trace, single, shapes)
    count = sum(
        weight for span, weight in zip(spans, weights, strict=True) if weight and span in kept
    )
    if not several and count < 2:
        return None
    chosen = [span for span in single if span in kept] or spans
    first = shapes[chosen[0]]
    return Group(
        entry=loop.scope,
        spans=tuple(chosen),
        count=count + loop.lost,
        shape=_retold(first, loop.text),
        shapes=tuple(shapes[span] for span in chosen),
        anchor=_anchor(trace, chosen),
        retries=len(single) - len(kept),
        batched=len(spans) - len(single),
    )


def _plain_group(trace: Trace, loop: Joined) -> Group | None:
    """Most groups: every span is one operation, and none has failed."""
    spans = loop.spans
    if trace.traits & ODD and _holds_odd(trace, spans):
        return None
    if trace.category[spans[0]] in OPERATIONS:
        index, shape_at = trace.shape_index, trace.frame.shapes
        shapes = tuple([shape_at[index[span]] for span in spans])
    else:
        shapes = tuple([shape_of(trace, span) for span in spans])
    first = shapes[0]
    if first.category == Category.CACHE and any(shape.list_size > 1 for shape in shapes):
        return None
    anchor = _anchor(trace, spans)
    count = len(spans) + loop.lost
    return Group(loop.scope, tuple(spans), count, _retold(first, loop.text), shapes, anchor)


def _holds_odd(trace: Trace, spans: Iterable[int]) -> bool:
    """Has one failed, or may it stand for more or less than one operation?"""
    return any(
        trace.telling(span, marks) >= 0
        for marks in (trace.multiple, trace.failed)
        for span in spans
    )


def _retold(shape: Shape, text: str) -> Shape:
    """The shape under the common text of its family, where there is one."""
    if not text:
        return shape
    table = text.partition(" ")[2] if shape.category == Category.CACHE else shape.table
    return replace(shape, text=text, table=table)


def shape_of(trace: Trace, span: int) -> Shape:
    """The shape of a member; a request served without its client span gets one by its route."""
    asked = trace.category[span] in OPERATIONS
    return trace.shape(span) if asked else served_shape(trace, span)


def _weight(trace: Trace, span: int) -> int:
    """How many operations a span stands for; 0 for a batch."""
    if trace.category[span] == Category.CACHE and trace.shape(span).list_size > 1:
        return 0
    told = trace.telling(span, trace.multiple)
    if told < 0:
        return 1
    attributes = trace.attributes(told)
    composite = _number(attributes, _COMPOSITE)
    if composite > 1:
        return composite
    return 0 if _number(attributes, _BATCH) > 1 else 1


def _number(attributes: Any, names: Iterable[str]) -> int:
    for name in names:
        value = attributes.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return min(int(value), _MAX_COUNT) if value == value else 0  # NaN is no number
    return 0


def _without_retries(trace: Trace, spans: list[int], shapes: dict[int, Shape]) -> set[int]:
    """Without each failure that a later repeat tried again: same key, or a key nobody knows."""
    kept = set(spans)
    later: set[tuple[str | None, str]] = set()
    for span in reversed(spans):
        asked = (shapes[span].key, shapes[span].text)
        tried_again = asked in later if asked[0] is not None else bool(later)
        told = trace.telling(span, trace.multiple)
        resent = told >= 0 and _number(trace.attributes(told), _RETRY) > 0
        if resent or (trace.telling(span, trace.failed) >= 0 and tried_again):
            kept.discard(span)
        later.add(asked)
    return kept


def _anchor(trace: Trace, spans: Sequence[int]) -> int:
    """The lowest span above all of these; -1 where it is not in the trace."""
    parents = {trace.parent[span] for span in spans}
    if len(parents) == 1:
        return parents.pop()
    paths = [_path_up(trace, parent) for parent in parents]
    shared = set(paths[0]).intersection(*paths[1:])
    return next((span for span in paths[0] if span in shared), -1)


def _path_up(trace: Trace, span: int) -> list[int]:
    path: list[int] = []
    while span >= 0 and len(path) < 256 and span not in path[-1:]:
        path.append(span)
        span = trace.parent[span]
    return path


def median_list_size(group: Group) -> float:
    """Values in the IN list of a typical repeat; long ones are batches already."""
    if len(group.distinct) == 1:
        return float(group.shape.list_size)
    return float(median(group.list_sizes))


def grows(group: Group) -> bool:
    """Does no IN list hold fewer values than the one before it, and the last one more?"""
    if len(group.distinct) == 1:
        return False
    sizes = group.list_sizes
    return sizes[0] < sizes[-1] and all(a <= b for a, b in pairwise(sizes))


def client_ns(trace: Trace, group: Group) -> int:
    """The client's own time between the repeats, which one batch would save as well.

    A span of a query in SQLite takes 0.03 ms; the ORM and the driver take 0.3 ms more each time.
    Of a gap between two repeats at most 0.5 ms is counted. Cache commands have next to none.
    """
    if group.shape.category == Category.CACHE:
        return 0
    return trace.timing(group.spans).between_ns


def merge_turns(trace: Trace, found: list[Group]) -> list[Group]:
    """Loops whose repeats alternate are the statements of one loop (M x N).

    A call leads a query and a query leads a cache command, since it explains more of the turn. Of
    equals the first by its text leads: parallel turns begin in any order, a fingerprint must not.
    A small loop leads none of another category that is not: a quick look at a flag explains no
    query.
    """
    if len(found) < 2:
        return found
    enough = {group.shape.category for group in found if not group.small}

    def rank(group: Group) -> tuple[bool, int, str]:
        category = group.shape.category
        return (category not in enough, _EXPLAINS.index(category), group.shape.text)

    ordered = sorted(found, key=rank)
    leaders: list[tuple[Group, list[Group]]] = []
    for group in ordered:
        for leader, followers in leaders:
            if _alternate(trace, leader, group):
                followers.append(group)
                break
        else:
            leaders.append((group, []))
    return [replace(leader, followers=tuple(followers)) for leader, followers in leaders]


def _alternate(trace: Trace, one: Group, other: Group) -> bool:
    """Do most of the smaller group's repeats run while those of the larger one go on?

    And over most of that time: repeats at the same time begin in any order, so what counts is how
    long both go on.
    """
    if one.entry != other.entry or trace.service[one.spans[0]] != trace.service[other.spans[0]]:
        return False
    few, many = sorted((one, other), key=lambda group: len(group.spans))
    begin, end = _extent(trace, many)
    inside = sum(trace.start_ns[span] < end and trace.end_ns[span] > begin for span in few.spans)
    first, last = _extent(trace, few)
    return inside >= 0.6 * len(few.spans) and last - first >= 0.5 * (end - begin)


def _extent(trace: Trace, group: Group) -> tuple[int, int]:
    """When the first repeat starts, and the last one ends."""
    return trace.start_ns[group.spans[0]], max(trace.end_ns[span] for span in group.spans)
