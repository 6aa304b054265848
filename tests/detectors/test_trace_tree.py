"""The compiled loops over traces say what a plain reading of the definition says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.traces import tree as trees
from detectors.traces.frame import build_frame
from detectors.traces.normaliser import Normaliser
from detectors.traces.trace import traces_of
from detectors.traces.tree import Tree
from detectors.traces.waiting import entries, waited_ns
from detectors.traces.warm import warm
from tests.detectors.corpus import TraceBuilder, table

Row = tuple[bytes, bytes, bytes | None, int, int]

_UNALIKE = st.sampled_from([b"", b"a", b"a" * 7, b"b" * 8, b"\xff" * 8, bytes(8), b"c" * 9])
_ALIKE = st.sampled_from([bytes([number]) * 8 for number in (0, 1, 2, 127, 128, 255)])
_TRACES = st.sampled_from([bytes([number]) * 16 for number in (0, 1, 200)])


def _rows(ids: Any, traces: Any) -> Any:
    row = st.tuples(traces, ids, st.none() | ids, st.integers(0, 3), st.integers(0, 5))
    return st.lists(row, max_size=90)


def _table(rows: list[Row]) -> pa.Table:
    kinds = (pa.binary(), pa.binary(), pa.binary(), pa.int64(), pa.int64())
    names = ("trace_id", "span_id", "parent_span_id", "start_ns", "seq")
    columns = [pa.array([row[place] for row in rows], kind) for place, kind in enumerate(kinds)]
    return pa.table(columns, names=list(names))


@settings(deadline=None)
@given(_rows(_ALIKE, _TRACES) | _rows(_UNALIKE, st.sampled_from([b"", b"x" * 16, b"y"])))
def test_a_tree_has_the_latest_copy_of_each_span_in_order_and_its_parent(rows: list[Row]) -> None:
    tree = Tree.of(_table(rows))
    latest: dict[tuple[bytes, bytes], int] = {}
    for place, (trace, span, _, _, seq) in enumerate(rows):
        before = latest.get((trace, span))
        if before is None or rows[before][4] <= seq:
            latest[trace, span] = place
    parents = [
        -1 if above in (None, span) else latest.get((trace, above or b""), -1)
        for trace, span, above, _, _ in rows
    ]
    assert tree.parent.tolist() == parents
    named = [above is not None and above != span for _, span, above, _, _ in rows]
    assert (tree.above >= 0).tolist() == named
    siblings = {
        (trace, above): key
        for (trace, _, above, _, _), key in zip(rows, tree.above.tolist(), strict=True)
        if key >= 0
    }
    assert len(set(siblings.values())) == len(siblings)
    start_ns = np.array([row[3] for row in rows], dtype=np.int64)
    in_order = sorted(latest.values(), key=lambda at: (rows[at][0], rows[at][3], rows[at][1]))
    assert tree.order(start_ns).tolist() == in_order


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(-1, 30)), max_size=30))
def test_a_span_belongs_to_the_nearest_request_above_it(told: list[tuple[bool, int]]) -> None:
    parent = [above if above < len(told) else -1 for _, above in told]
    found = entries(
        np.array([begins for begins, _ in told], dtype=np.bool_),
        np.array(parent, dtype=np.int64),
        512,
    ).tolist()
    for span in range(len(told)):
        seen: set[int] = set()
        at = span
        while at >= 0 and not told[at][0] and at not in seen:
            seen.add(at)
            at = parent[at]
        assert found[span] == (at if at >= 0 and told[at][0] else -1)


def test_a_span_too_deep_below_its_request_belongs_to_none() -> None:
    for order in (range(600), range(599, -1, -1)):
        place = {depth: at for at, depth in enumerate(order)}
        parent = np.array([place.get(depth - 1, -1) for depth in order], dtype=np.int64)
        begins = np.array([depth == 0 for depth in order], dtype=np.bool_)
        for most in (1, 100, 599):
            found = entries(begins, parent, most)
            assert set(found.tolist()) <= {-1, place[0]}
            assert found[place[0]] == place[0]


def test_what_is_known_of_a_lost_request_is_from_its_first_span_to_its_last_end() -> None:
    trace = TraceBuilder(ms=90)
    trace.call("http://stock/items", 20, 60)
    trace.span("late", trace.root, 30, 200, service="stock")
    trace.span("later", trace.root, 40, 20, service="stock")
    (one,) = traces_of(build_frame(table(trace.rows), Normaliser()))
    known = {one.frame.services[service]: ns for service, ns in one.known_ns.items()}
    assert known == {"shop": 90_000_000, "stock": 200_000_000}


@st.composite
def _calls(draw: st.DrawFn) -> list[tuple[int, int, int, int]]:
    """Parent, service, start and end of spans that ascend in start, parents before children."""
    starts = sorted(draw(st.lists(st.integers(0, 40), max_size=14)))
    return [
        (draw(st.integers(-1, max(place - 1, -1))), draw(st.integers(0, 1)), start,
         start + draw(st.integers(0, 20)))
        for place, start in enumerate(starts)
    ]  # fmt: skip


@settings(deadline=None)
@given(_calls())
def test_the_time_a_request_waits_is_found_backwards_from_its_end(
    spans: list[tuple[int, int, int, int]],
) -> None:
    columns = [np.array([span[place] for span in spans], dtype=np.int64) for place in range(4)]
    found = waited_ns(columns[0], columns[1].astype(np.int32), *columns[2:]).tolist()
    assert {at: ns for at, ns in enumerate(found) if ns >= 0} == _waited(spans)


def _waited(spans: list[tuple[int, int, int, int]]) -> dict[int, int]:
    found: dict[int, int] = {}
    work = [(at, span[2], span[3], 0) for at, span in enumerate(spans) if span[0] < 0]
    while work:
        parent, low, high, shift = work.pop()
        found[parent] = high - low
        moved = []
        for child, (above, service, start, end) in enumerate(spans):
            if above == parent:
                other = service != spans[parent][1]
                move = shift + (_skew(spans[parent], (above, service, start, end)) if other else 0)
                moved.append((end + move, start + move, child, move))
        cursor = high
        for end, start, child, move in sorted(moved, reverse=True):
            if cursor > low and start < cursor and min(cursor, end) > max(low, start):
                work.append((child, max(low, start), min(cursor, end), move))
                cursor = max(low, start)
    return found


def _skew(parent: tuple[int, int, int, int], child: tuple[int, int, int, int]) -> int:
    if child[2] < parent[2]:
        return parent[2] - child[2]
    if child[3] > parent[3] and child[3] - child[2] <= parent[3] - parent[2]:
        return parent[3] - child[3]
    return 0


def test_no_tick_waits_for_a_compiler() -> None:
    warm()
    known = _signatures()
    frame = build_frame(table(TraceBuilder().rows), Normaliser())
    for trace in traces_of(frame):
        assert trace.entry
        trace.on_critical_path_ns(range(trace.n))
    assert _signatures() == known


def _signatures() -> list[int]:
    loops: Any = (
        entries,
        waited_ns,
        trees._numbered,
        trees._placed,
        trees._by_trace,
        trees._sort_short,
    )
    return [len(loop.signatures) for loop in loops]
