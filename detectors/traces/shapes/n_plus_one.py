"""Loops of queries, calls and cache commands: the N+1 family."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from detectors.finding import Evidence, Finding, Impact, Priority
from detectors.fingerprint import fingerprint
from detectors.impact import batched_seconds
from detectors.settings import LoopSettings
from detectors.traces import batches, loops, partitions
from detectors.traces.advice import loop_fix, loop_title
from detectors.traces.detector import DetectorResult
from detectors.traces.frame import SERVER, SpanFrame
from detectors.traces.gates import Gate, GateName, NotReported, first_closed, refuse
from detectors.traces.loops import Group
from detectors.traces.report import inferred_route, users_of
from detectors.traces.shape import Category
from detectors.traces.trace import NANOSECONDS, Trace
from store.model import BoolArray

_KIND_OF = {
    Category.QUERY: "n_plus_one_query",
    Category.CALL: "n_plus_one_call",
    Category.CACHE: "n_plus_one_cache",
}
_COSTS = frozenset({GateName.MIN_UNION_TIME, GateName.MIN_SHARE})
_MAX_SPAN_IDS = 50
_MAX_STATEMENTS = 10


@dataclass(frozen=True, slots=True)
class NPlusOneSettings:
    """The loop settings of each kind of the family; `fewest` repeats are asked for by any."""

    n_plus_one_query: LoopSettings = field(default_factory=lambda: LoopSettings(min_union_ms=0.5))
    n_plus_one_call: LoopSettings = field(default_factory=lambda: LoopSettings(min_union_ms=5.0))
    n_plus_one_cache: LoopSettings = field(default_factory=lambda: LoopSettings(min_union_ms=2.0))
    repeated_query: LoopSettings = field(default_factory=LoopSettings)
    paginated_loop: LoopSettings = field(default_factory=lambda: LoopSettings(min_union_ms=20.0))

    fewest: int = field(init=False)

    def of(self, kind: str) -> LoopSettings:
        settings: LoopSettings = getattr(self, kind)
        return settings

    def __post_init__(self) -> None:
        least = min(self.of(kind).min_repetitions for kind in NPlusOne.kinds)
        object.__setattr__(self, "fewest", max(2, least))


@dataclass(frozen=True)
class NPlusOne:
    """One shape again and again within one request.

    Maths: N repeats of one shape; `path` is the time that they cover on the critical path, plus
    the client's own time between two queries or calls (at most 0.5 ms each), `batched = turn *
    (1 + 0.05 (N - 1))` the cost of one batch, `wasted = path - batched`. Same key: `batched` is
    one repeat.

    Parameters: `LoopSettings` of each kind.

    Example: `SELECT … FROM category WHERE id = %s` 24 times under `GET products/` gives one
    `n_plus_one_query`; the same text 24 times with `id = 7` gives one `repeated_query`; with a
    moving OFFSET one `paginated_loop`; a call of the stock service per cart item one
    `n_plus_one_call` whose evidence lists the callee's queries.

    Reference: Sentry's N+1 detectors (its bar: 5 repeats, 50 ms); here order, wrapper spans,
    parallelism and service boundaries do not matter.
    """

    settings: NPlusOneSettings = field(default_factory=NPlusOneSettings)

    kinds: ClassVar[tuple[str, ...]] = (
        "n_plus_one_query",
        "n_plus_one_call",
        "n_plus_one_cache",
        "repeated_query",
        "paginated_loop",
    )

    def candidates(self, frame: SpanFrame) -> BoolArray:
        fewest = self.settings.fewest
        census = frame.census(fewest)
        if not census.aside.any():
            return census.found
        loopable = (frame.category >= Category.QUERY) & (frame.category <= Category.CALL)
        served = (frame.kind == SERVER) & (frame.parent_key >= 0)
        compressed = (loopable | served) & frame.multiple
        # The client span of a served request may be lost: it counts to the calls that are here.
        alone = served & ~np.append(loopable, False)[frame.parent]
        lost = np.bincount(frame.trace_of_row[alone], minlength=len(frame))
        seen = np.logical_or.reduce(
            [
                frame.traces_repeating(loopable, np.maximum(fewest - lost, 1)),
                frame.traces_with(served, fewest),
                frame.traces_with(compressed),
            ]
        )
        found: BoolArray = np.where(census.aside, seen, census.found)
        return found

    def detect(self, trace: Trace) -> DetectorResult:
        groups = loops.groups(trace, self.settings.fewest)
        told: list[Group] = []
        refused: list[NotReported] = []
        for group in groups:
            kind = _kind(trace, group)
            gates = self._gates(trace, group, kind)
            closed = first_closed(gates)
            if closed is None:
                told.append(group)
                continue
            if closed.name in _COSTS and len(groups) > 1:
                others = first_closed(gate for gate in gates if gate.name not in _COSTS)
                if others is None:
                    told.append(replace(group, small=True))
                    continue
            refused.append(refuse(kind, group.shape.text, closed))
        findings: list[Finding] = []
        for turn in loops.merge_turns(trace, told):
            closed = self._too_cheap(trace, turn)
            if closed is None:
                findings.append(_finding(trace, turn, _kind(trace, turn)))
            else:
                refused += [
                    refuse(_kind(trace, group), group.shape.text, closed)
                    for group in (turn, *turn.followers)
                ]
        return DetectorResult(tuple(findings), tuple(refused))

    def _too_cheap(self, trace: Trace, turn: Group) -> Gate | None:
        """The gate that closes where the statements of a turn cost too little even together."""
        members = (turn, *turn.followers)
        if not all(group.small for group in members):
            return None
        spans = tuple(sorted(span for group in members for span in group.spans))
        return first_closed(self._costs(trace, replace(turn, spans=spans), _kind(trace, turn)))

    def _costs(self, trace: Trace, group: Group, kind: str) -> Iterator[Gate]:
        settings = self.settings.of(kind)
        union_s = trace.timing(group.spans).union_ns / NANOSECONDS
        yield Gate(GateName.MIN_UNION_TIME, union_s * 1_000, settings.min_union_ms)
        request_s = _request_s(trace, group)
        if request_s > 0:
            cost_s = union_s + loops.client_ns(trace, group) / NANOSECONDS
            yield Gate(GateName.MIN_SHARE, cost_s / request_s, settings.min_share)

    def _gates(self, trace: Trace, group: Group, kind: str) -> Iterator[Gate]:
        settings = self.settings.of(kind)
        chunk = settings.chunk_min_size
        least = settings.min_repetitions
        if group.retries:
            yield Gate(GateName.RETRIES, group.count, least)
        if group.batched and group.count < least:
            yield Gate(GateName.ALREADY_BATCHED, group.batched, 1, below=True)
        yield Gate(GateName.MIN_REPETITIONS, group.count, least)
        waits = float(group.shape.queue or group.shape.waits or batches.polls(trace, group))
        yield Gate(GateName.DELIBERATE_WAIT, waits, 1, below=True)
        yield Gate(GateName.VAGUE, float(group.shape.vague), 1, below=True)
        yield Gate(GateName.ALREADY_BATCHED, self._list_size(group), chunk, below=True)
        yield Gate(GateName.ALREADY_BATCHED, batches.in_one_batch(trace, group), 2, below=True)
        hidden = float(batches.hidden_lists(trace, group))
        yield Gate(GateName.ALREADY_BATCHED, hidden, 1, below=True)
        yield from self._costs(trace, group, kind)
        if group.shape.category == Category.CACHE:
            each_us = trace.timing(group.spans).union_ns / 1_000 / group.count
            yield Gate(GateName.MIN_EACH, each_us, settings.min_each_us)
        yield Gate(GateName.MIN_REPETITIONS, batches.of_one_operation(trace, group), least)
        yield Gate(GateName.RETRIES, group.count - batches.rolled_back(trace, group), least)
        partitioned = partitions.by_partition_column(group, settings.partition_columns)
        yield Gate(GateName.PARTITION_LOOP, float(partitioned), 1, below=True)
        most = max(2.0, 0.8 * len(group.spans))
        yield Gate(GateName.PARTITION_LOOP, partitions.databases(trace, group), most, below=True)
        if group.shape.category == Category.QUERY:
            yield Gate(GateName.PARTITION_LOOP, partitions.switches(trace, group), most, below=True)
        if kind != "repeated_query":  # one answer, kept, serves all functions of the request
            scattered = partitions.scattered_names(trace, group)
            yield Gate(GateName.SCATTERED, scattered, 2, below=True)

    def _list_size(self, group: Group) -> float:
        """Values in the list of a typical repeat; of lists that only grow, in the last."""
        return group.list_sizes[-1] if loops.grows(group) else loops.median_list_size(group)


def _kind(trace: Trace, group: Group) -> str:
    shape = group.shape
    keys = group.keys
    if any(item.paginated for item in group.distinct):
        by_key = (
            not any(item.offset for item in group.distinct) and "OFFSET" not in shape.text.upper()
        )
        if keys is None or len(keys) == 1 or by_key or _seeks(shape.text):
            return "paginated_loop"
    one_key = len(keys) == 1 if keys is not None else batches.tells_one_key(trace, group)
    same = one_key and group.count == len(group.spans)
    asks = same and shape.category != Category.CALL and shape.reads
    if asks and "NEXTVAL" not in shape.text.upper():
        return "repeated_query"
    return _KIND_OF[shape.category]


def _seeks(text: str) -> bool:
    upper = text.upper()
    return "OFFSET" not in upper and ("LIMIT" in upper or "FETCH" in upper or "TOP" in upper)


def _request_s(trace: Trace, group: Group) -> float:
    if group.entry < 0:
        # It took at least as long as what is known of it.
        return trace.known_ns[trace.service[group.spans[0]]] / NANOSECONDS
    return trace.duration_ns(group.entry) / NANOSECONDS


def _wasted_s(trace: Trace, group: Group, kind: str) -> float:
    spans = group.spans
    took = trace.timing(spans)
    path = trace.on_critical_path_ns(spans) if trace.complete else took.union_ns
    between = loops.client_ns(trace, group)
    cost_s = (path + between) / NANOSECONDS
    turn_s = between / NANOSECONDS / max(len(spans) - 1, 1)
    if kind == "repeated_query":
        return max(0.0, cost_s - took.longest_ns / NANOSECONDS - turn_s)
    typical_s = sum(one / NANOSECONDS for one in took.middle_ns) / 2
    single = (typical_s + turn_s) * len(spans) / max(group.count, len(spans))
    return max(0.0, cost_s - batched_seconds(single, group.count))


def _finding(trace: Trace, group: Group, kind: str) -> Finding:
    spans = group.spans
    caller = spans[0] if trace.category[spans[0]] != Category.OTHER else trace.parent[spans[0]]
    owner = caller if caller >= 0 else spans[0]
    service, route = trace.service_name(owner), trace.route(owner)
    code = trace.code(spans[0])
    function = code.function if code is not None and not code.inferred else ""
    complete = trace.complete and group.entry >= 0
    wasted_s = _wasted_s(trace, group, kind)
    wasted_s += sum(
        _wasted_s(trace, item, _KIND_OF[item.shape.category]) for item in group.followers
    )
    request_s = _request_s(trace, group)
    took = trace.timing(spans)
    detail: dict[str, float | str] = {
        "request_seconds": round(request_s, 6),
        "wasted_share": round(min(1.0, wasted_s / request_s), 4) if request_s > 0 else 0.0,
        "union_seconds": round(took.union_ns / NANOSECONDS, 6),
        **inferred_route(trace, owner),
    }
    parent = trace.span_id(group.anchor) if group.anchor >= 0 else trace.parent_span_id(spans[0])
    return Finding(
        fingerprint=fingerprint(kind, service, route, group.shape.text, function),
        kind=kind,
        priority=Priority.P2,
        title=loop_title(kind, group.count, group.shape, route, complete=complete),
        service=service,
        route=route,
        first_seen_ms=trace.start_ns[spans[0]] // 1_000_000,
        last_seen_ms=took.last_ns // 1_000_000,
        evidence=Evidence(
            trace_id=trace.trace_id,
            parent_span_id=parent,
            span_ids=tuple(trace.span_ids(spans[:_MAX_SPAN_IDS])),
            statement=group.shape.text,
            statements=_statements(trace, group),
            repetitions=group.count,
            code=code,
            users=users_of(trace, owner),
            detail=detail,
        ),
        impact=Impact(
            wasted_seconds_per_request=wasted_s,
            worst_wasted_seconds=wasted_s,
            worst_repetitions=group.count,
        ),
        fix=loop_fix(kind, group.shape, count=group.count),
        confidence=0.95 if complete else 0.6,
        complete=complete,
    )


def _statements(trace: Trace, group: Group) -> tuple[str, ...]:
    """The loop's own statement, those of the same turn, and what the callee ran for each turn."""
    texts = [group.shape.text, *(item.shape.text for item in group.followers)]
    if group.shape.category == Category.CALL:
        below: dict[str, int] = {}
        work = [child for span in group.spans for child in trace.children[span]]
        if trace.category[group.spans[0]] == Category.OTHER:
            work = list(group.spans)
        seen: set[int] = set()  # parents of hostile spans run in circles
        while work:
            span = work.pop()
            if span in seen:
                continue
            seen.add(span)
            work.extend(trace.children[span])
            if trace.category[span] in {Category.QUERY, Category.CACHE, Category.CALL}:
                text = f"{trace.service_name(span)}: {trace.shape(span).text}"
                below[text] = below.get(text, 0) + 1
        texts.extend(
            f"{text} ({count} times)" for text, count in sorted(below.items()) if count > 1
        )
    return tuple(dict.fromkeys(texts))[:_MAX_STATEMENTS]
