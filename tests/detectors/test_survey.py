"""What one compiled pass over all traces counts is what a look at each trace alone finds."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.traces import loops, survey
from detectors.traces.frame import SpanFrame, build_frame
from detectors.traces.loops import Group
from detectors.traces.normaliser import Normaliser
from detectors.traces.shapes.n_plus_one import NPlusOne
from detectors.traces.trace import Trace, traces_of
from tests.detectors.corpus import T0_NS, table

AT_LEAST = 3
_OPERATIONS: dict[str, dict[str, Any]] = {
    "query": {"kind": 3, "db_system": "mysql", "statement": "SELECT a FROM t WHERE id = {n}"},
    "same": {"kind": 3, "db_system": "mysql", "statement": "SELECT b FROM t WHERE id = 7"},
    "cache": {"kind": 3, "db_system": "redis", "statement": "GET key:{n}"},
    "many": {"kind": 3, "db_system": "redis", "statement": "MGET a:{n} b:{n}"},
    "call": {"kind": 3, "http_method": "GET", "url": "http://stock/item/{n}"},
    "begin": {"kind": 3, "db_system": "mysql", "statement": "BEGIN"},
    "work": {"kind": 1},
    "served": {"kind": 2, "http_route": "a/"},
}
_SPAN = st.tuples(
    st.sampled_from([*_OPERATIONS, *["query"] * 6, *["cache"] * 3]),
    st.integers(0, 12),  # its parent, counted from the first span; mostly the request
    st.integers(0, 3_000_000),
    st.sampled_from(["shop", "shop", "shop", "stock"]),
    st.sampled_from([0] * 30 + [1, 2]),  # failed; of a parent that is not here
)
_TRACE = st.lists(_SPAN, max_size=60)


def _rows(traces: list[list[Any]]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for number, spans in enumerate(traces):
        trace_id, at = (number + 1).to_bytes(16, "big"), T0_NS
        request = {"kind": 2, "http_route": "a/", "name": "GET a/", "service": "shop"}
        rows.append({**_row(trace_id, 1, None, at), **request, "end_ns": at + 10**9})
        for place, (what, above, took, service, oddity) in enumerate(spans):
            parent = above + 1 if above > 8 and above <= place else 1
            told = {
                name: value.replace("{n}", str(place)) if isinstance(value, str) else value
                for name, value in _OPERATIONS[what].items()
            }
            row = _row(trace_id, place + 2, 99_999 if oddity == 2 else parent, at)
            told |= {"name": what, "service": service, "status": 2 if oddity == 1 else 0}
            rows.append({**row, **told, "end_ns": at + took})
            at += took
    return rows


def _row(trace_id: bytes, span: int, parent: int | None, at: int) -> dict[str, Any]:
    above = None if parent is None else parent.to_bytes(8, "big")
    return {
        "trace_id": trace_id, "span_id": span.to_bytes(8, "big"), "parent_span_id": above,
        "start_ns": at, "received_ms": 0, "seq": span,
    }  # fmt: skip


def _frame(traces: list[list[Any]]) -> SpanFrame:
    return build_frame(table(_rows(traces)), Normaliser())


def _told(trace: Trace, group: Group) -> tuple[Any, ...]:
    return (
        group.entry, group.spans, group.count, group.shape, group.shapes, group.anchor,
        group.retries, group.batched, trace.timing(group.spans),
        trace.on_critical_path_ns(group.spans),
    )  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(st.lists(_TRACE, max_size=4))
def test_repeats_counted_at_once_are_those_found_in_each_trace(traces: list[list[Any]]) -> None:
    frame = _frame(traces)
    candidates = NPlusOne().candidates(frame)
    for brief, whole in zip(traces_of(frame, brief=True), traces_of(frame), strict=True):
        counted = [_told(brief, group) for group in loops.groups(brief, AT_LEAST)]
        found = [_told(whole, group) for group in loops.groups(whole)]
        enough = [told for told in found if len(told[1]) >= AT_LEAST]
        assert [told for told in counted if len(told[1]) >= AT_LEAST] == enough
        found_whole = NPlusOne().detect(whole).findings
        assert NPlusOne().detect(brief).findings == found_whole
        assert candidates[whole.index] or not found_whole


@settings(deadline=None, max_examples=25)
@given(st.lists(_TRACE, max_size=3))
def test_the_compiled_loops_say_what_they_say_as_plain_python(traces: list[list[Any]]) -> None:
    frame = _frame(traces)
    rows, forms = frame._rows, len(frame.shapes)
    plain = cast("Any", survey.survey).py_func(frame.offsets, rows, frame.layered_forms, forms)
    assert plain.tolist() == frame.traits
    marked = (frame.category >= 1) & (frame.category <= 3)
    least = np.arange(len(frame)) % AT_LEAST + 1
    repeating = cast("Any", survey.repeating).py_func(
        frame.offsets, frame.family, marked, least, forms
    )
    assert repeating.tolist() == frame.traces_repeating(marked, least).tolist()
    expected = survey.census(frame.offsets, rows, plain.copy(), (AT_LEAST, forms))
    again = cast("Any", survey.census).py_func(frame.offsets, rows, plain, (AT_LEAST, forms))
    for one, other in zip(again, expected, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("requests", [3, 100])
def test_a_trace_of_very_many_requests_is_set_aside_and_judged_alone(requests: int) -> None:
    rows, at = [], T0_NS
    for number in range(requests):
        first = number * 10 + 1
        request = {"kind": 2, "http_route": "a/", "name": "a", "service": "shop", "end_ns": at + 9}
        rows.append({**_row(b"\1" * 16, first, None, at), **request})
        query = {**_OPERATIONS["same"], "name": "q", "service": "shop", "end_ns": at + 9}
        rows += [
            {**_row(b"\1" * 16, first + turn, first, at + turn), **query} for turn in range(1, 6)
        ]
        at += 20
    frame = build_frame(table(rows), Normaliser())
    (trace,) = traces_of(frame, brief=True)
    assert frame.census(5).aside.tolist() == [requests > survey._MOST_REQUESTS]
    assert len(loops.groups(trace, 5)) == requests
