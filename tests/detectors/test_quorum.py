from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.finding import Finding
from detectors.merging import merge_findings
from detectors.quorum import Quorum
from detectors.traces.frame import build_frame
from detectors.traces.normaliser import Normaliser
from detectors.traces.shapes.cache_stampede import CacheStampede
from detectors.traces.shapes.pool_wait import PoolWait
from detectors.traces.trace import traces_of
from tests.detectors.corpus import MS, Case, TraceBuilder, table
from tests.detectors.corpus_calls import stampede


def misses(cases: list[Case], first: int = 1) -> list[Finding]:
    """What the detector says of each trace alone."""
    rows = [
        {**row, "trace_id": number.to_bytes(16, "big")}
        for number, case in enumerate(cases, start=first)
        for row in case.rows
    ]
    detector = CacheStampede()
    frame = build_frame(table(rows), Normaliser())
    found = [detector.detect(trace) for trace in traces_of(frame, detector.candidates(frame))]
    return [finding for result in found for finding in result.findings]


@pytest.mark.parametrize(
    ("cases", "believed"),
    [
        (stampede(4), 0),
        (stampede(5), 5),
        (stampede(40, gap_ms=20), 40),
        (stampede(9, gap_ms=900), 0),
        ([*stampede(3, key="home:a"), *stampede(3, key="home:b")], 0),
    ],
    ids=["four", "five", "forty", "too far apart", "two keys"],
)
def test_a_stampede_takes_five_traces_that_miss_one_key_within_two_seconds(
    cases: list[Case], believed: int
) -> None:
    assert len(Quorum().pass_on(misses(cases))) == believed


def test_requests_of_several_routes_that_miss_one_key_are_one_stampede() -> None:
    cases = stampede(6)
    for number, case in enumerate(cases):
        case.rows[0].update(http_route=f"page-{number}")
    believed = merge_findings(Quorum().pass_on(misses(cases)))
    assert [item.occurrences for item in believed] == [6]


def test_a_clock_that_is_wrong_elsewhere_makes_nobody_forget() -> None:
    quorum = Quorum()
    first, late = misses(stampede(5)), misses(stampede(1, key="other"), first=900)
    ahead = replace(late[0], last_seen_ms=late[0].last_seen_ms + 3_600_000)
    believed = [*quorum.pass_on(first[:3]), *quorum.pass_on([ahead]), *quorum.pass_on(first[3:])]
    assert len(believed) == 5


@pytest.mark.parametrize(("gap_s", "believed"), [(1, 4), (25, 4), (280, 4), (320, 0)])
def test_a_quiet_route_waits_for_its_pool_three_times_in_ten_minutes(
    gap_s: int, believed: int
) -> None:
    quorum, passed = Quorum(), 0
    for number in range(4):
        trace = TraceBuilder(number + 1, ms=1_500)
        trace.span("pool.acquire", trace.root, 5, 120)
        for row in trace.rows:
            row["start_ns"] += number * gap_s * 1_000 * MS
            row["end_ns"] += number * gap_s * 1_000 * MS
        (only,) = traces_of(build_frame(table(trace.rows), Normaliser()))
        passed += len(quorum.pass_on(PoolWait().detect(only).findings))
        saved = quorum.dumps()
        quorum = Quorum()  # the service starts anew
        quorum.loads(saved)
    assert passed == believed


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9))
def test_splits_order_and_restarts_change_nothing(seed: int, pieces: int) -> None:
    found = misses(stampede(12, gap_ms=400))
    whole = {item.evidence.trace_id for item in Quorum().pass_on(found)}
    random.Random(seed).shuffle(found)
    quorum = Quorum()
    believed: list[str] = []
    for place in range(pieces):
        passed = quorum.pass_on(found[place::pieces])
        believed += [item.evidence.trace_id for item in passed]
        text = quorum.dumps()
        quorum = Quorum()
        quorum.loads(text)
    assert len(believed) == len(set(believed))
    assert set(believed) == whole
    assert whole
