"""Repeats that are no loop: one batch of which each part has a span, or one question that waits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from detectors.traces.loops import Group
from detectors.traces.shape import Category
from detectors.traces.trace import Trace

# A pause is longer than a question, and no shorter than anybody sets a timer to.
_PAUSE, _SHORTEST_NS = 3, 100_000_000
# Pauses of a timer are alike, or each is this much longer than the one before; so exact are timers.
_GROWTH, _EXACT = (1.0, 1.5, 2.0), 0.15
_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_BATCH = re.compile(r"^batch\b", re.IGNORECASE)
_LIST_OF_ONE = re.compile(r"\bIN \(\?\)", re.IGNORECASE)
# The Java agent adds these to every span, and writes each IN list as one mark.
_AGENT = ("thread.name", "thread.id")


def in_one_batch(trace: Trace, group: Group) -> int:
    """Repeats that were sent as one: below a batch's span, or queued by MULTI until EXEC."""
    if group.shape.category == Category.CACHE:
        return len(group.spans) if _in_transaction(trace, group) else 0
    if group.shape.category != Category.QUERY:
        return 0
    parents = {trace.parent[span] for span in group.spans} - {-1}
    batches = {
        parent
        for parent in parents
        if trace.category[parent] == Category.QUERY and _BATCH.search(trace.name(parent))
    }
    return sum(trace.parent[span] in batches for span in group.spans) if batches else 0


def _in_transaction(trace: Trace, group: Group) -> bool:
    """Did MULTI begin before all of the commands, and EXEC after them?"""
    first, last = group.spans[0], group.spans[-1]
    words: dict[str, int] = {}
    for span in range(trace.n):
        control = trace.category[span] == Category.CONTROL
        if control and trace.entry[span] == trace.entry[first]:
            words.setdefault(trace.shape(span).text.partition(" ")[0].upper(), span)
    begin, end = words.get("MULTI"), words.get("EXEC")
    if begin is None or end is None:
        return False
    starts = trace.start_ns
    return starts[begin] <= starts[first] and starts[last] <= starts[end]


def polls(trace: Trace, group: Group) -> bool:
    """Is one question asked again by a timer, while nothing else is asked?"""
    shape, keys = group.shape, group.keys
    if shape.category != Category.CALL or shape.operation in _WRITES:
        return False
    if keys is None or len(keys) > 1:
        return False
    spans = group.spans
    pauses = [trace.start_ns[later] - trace.end_ns[span] for span, later in pairwise(spans)]
    longest = max(trace.duration_ns(span) for span in spans)
    if len(pauses) < 2 or min(pauses) < max(_PAUSE * longest, _SHORTEST_NS):
        return False
    turns = [trace.start_ns[later] - trace.start_ns[span] for span, later in pairwise(spans)]
    if not _of_a_timer(pauses) and not _of_a_timer(turns):
        return False
    first, last = trace.start_ns[spans[0]], trace.start_ns[spans[-1]]
    return not any(
        first <= trace.start_ns[span] <= last and trace.entry[span] == group.entry
        for span in set(trace.operations) - set(spans)
    )


def _of_a_timer(pauses: Sequence[int]) -> bool:
    """Is each as long as the one before it, or longer by a step of a back-off?"""
    return all(
        any(abs(later - step * pause) <= _EXACT * step * pause for step in _GROWTH)
        for pause, later in pairwise(pauses)
    )


def hidden_lists(trace: Trace, group: Group) -> bool:
    """Were lists of any length written as `IN (?)`? So does the Java agent.

    A list of one in a loop cannot be told from chunks there; chunks are what ORMs write.
    """
    if not _LIST_OF_ONE.search(group.shape.text) or group.keys is not None:
        return False
    attributes = trace.attributes(group.spans[0])
    return any(name in attributes for name in _AGENT)
