"""Repeats that are no loop: parts of one batch, one question that waits, one attempt of several."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from detectors.traces.loops import Group
from detectors.traces.shape import Category, key_pattern
from detectors.traces.survey import CONTROL, ODD, SEVERAL
from detectors.traces.trace import Trace

# A pause is longer than a question, and no shorter than anybody sets a timer to.
_PAUSE, _SHORTEST_NS = 3, 100_000_000
# Pauses of a timer are alike, or each is this much longer than the one before; so exact are timers.
_GROWTH, _EXACT = (1.0, 1.5, 2.0), 0.15
_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_BATCH = re.compile(r"^batch\b", re.IGNORECASE)
_LIST_OF_ONE = re.compile(r"\bIN \(\?\)", re.IGNORECASE)
# What tells it where neither URL nor name does: POST to one URL (GraphQL, JSON-RPC), "grpc.client".
_NAMES_OF_OPERATIONS = ("graphql.operation.name", "rpc.service", "rpc.method")
_MAX_LOOKED_AT = 64
_PARAMETERS = re.compile(
    r'"db\.(?:query\.parameter|statement\.param|sql\.param|(?:postgresql|mysql)\.values)[\w.]*"'
)
# The Java agent adds these to every span, and writes each IN list as one mark.
_AGENT = ("thread.name", "thread.id")


def in_one_batch(trace: Trace, group: Group) -> int:
    """Repeats that were sent as one: below a batch's span, or queued by MULTI until EXEC."""
    if group.shape.category == Category.CACHE:
        return len(group.spans) if _in_transaction(trace, group) else 0
    if group.shape.category != Category.QUERY:
        return 0
    several = group.parent == SEVERAL
    parents = ({trace.parent[span] for span in group.spans} if several else {group.parent}) - {-1}
    batches = {
        parent
        for parent in parents
        if trace.category[parent] == Category.QUERY and _BATCH.search(trace.name(parent))
    }
    return sum(trace.parent[span] in batches for span in group.spans) if batches else 0


def _in_transaction(trace: Trace, group: Group) -> bool:
    """Did MULTI begin before all of the commands, and EXEC after them?"""
    first, last = group.spans[0], group.spans[-1]
    request = trace.entry[first]
    begin_ns = trace.controls.first_ns(request, "MULTI")
    end_ns = trace.controls.first_ns(request, "EXEC")
    if begin_ns is None or end_ns is None:
        return False
    return begin_ns <= trace.start_ns[first] and trace.start_ns[last] <= end_ns


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
    own, asked = set(spans), trace.operations  # all ascend in start
    between = range(bisect_left(asked, spans[0]), bisect_left(asked, spans[-1]))
    return not any(
        trace.entry[asked[place]] == group.entry and asked[place] not in own for place in between
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
    if group.keys is not None or not _LIST_OF_ONE.search(group.shape.text):
        return False
    attributes = trace.attributes(group.spans[0])
    return any(name in attributes for name in _AGENT)


def rolled_back(trace: Trace, group: Group) -> int:
    """Repeats in transactions that failed and were rolled back, to be tried again as a whole."""
    known = group.keys
    if not trace.traits & CONTROL or not trace.traits & ODD:
        return 0
    if group.shape.category != Category.QUERY or (known is not None and len(known) > 1):
        return 0
    request, service = trace.entry[group.spans[0]], trace.service[group.spans[0]]
    failures = trace.failures_ns.get((request, service), [])
    count = 0
    for span in group.spans:
        start_ns = trace.start_ns[span]
        end_ns = trace.controls.rolled_back_ns(request, service, start_ns)
        place = bisect_left(failures, start_ns)
        count += end_ns is not None and place < len(failures) and failures[place] <= end_ns
    return count


def of_one_operation(trace: Trace, group: Group) -> int:
    """Repeats of the operation that is asked most often, where one form stands for several."""
    keys = group.keys
    if group.shape.category != Category.CALL or (keys is not None and len(keys) > 1):
        return group.count
    if keys is not None and group.shape.operation != "POST":
        return group.count
    spans = group.spans[:_MAX_LOOKED_AT]
    words = list(zip(trace.codes("attributes", spans), trace.codes("name", spans), strict=True))
    examples = dict(zip(words, spans, strict=True))
    asked: Counter[str] = Counter()
    for word, count in Counter(words).items():
        asked[_operation_of(trace, examples[word])] += count
    return group.count if len(asked) == 1 else max(asked.values())


def _operation_of(trace: Trace, span: int) -> str:
    attributes = trace.attributes(span)
    told = [str(attributes[name]) for name in _NAMES_OF_OPERATIONS if attributes.get(name)]
    return "/".join(told) or key_pattern(trace.name(span))


def tells_one_key(trace: Trace, group: Group) -> bool:
    """Do the spans tell, beside their text, that each asks for the same?

    By `db.query.parameter.<name>`, or by what instrumentations wrote before there was that.
    """
    if group.shape.category != Category.QUERY:
        return False
    if _PARAMETERS.search(trace.text("attributes", group.spans[0])) is None:
        return False
    spans = group.spans[:_MAX_LOOKED_AT]
    distinct = dict(zip(trace.codes("attributes", spans), spans, strict=True))
    keys = {
        tuple(
            (name, str(value))
            for name, value in sorted(trace.attributes(span).items())
            if _PARAMETERS.search(f'"{name}"') is not None
        )
        for span in distinct.values()
    }
    return len(keys) == 1
