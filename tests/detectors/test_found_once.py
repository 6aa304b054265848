"""One fault in many requests is one finding, though their times, lists and pods differ."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from detectors.finding import Finding
from detectors.merging import merge_findings
from detectors.quorum import Quorum
from detectors.registry import DetectorSettings
from detectors.traces.frame import build_frame
from detectors.traces.normaliser import Normaliser
from detectors.traces.trace import traces_of
from tests.detectors.corpus import MS, TraceBuilder, table

REQUESTS = 40
Maker = Callable[[TraceBuilder, random.Random, int], float]


def _jittered(chance: random.Random, ms: float) -> float:
    return ms * chance.lognormvariate(0, 0.3)


def _in_a_row(trace: TraceBuilder, chance: random.Random, *texts: tuple[str, float]) -> float:
    now = 3.0
    for text, ms in texts:
        took = _jittered(chance, ms)
        trace.query(text, now, took)
        now += took + 0.3
    return now


def a_chain_with_a_short_third(trace: TraceBuilder, chance: random.Random, number: int) -> float:
    return _in_a_row(
        trace, chance, ("SELECT a FROM banner", 180), ("SELECT b FROM menu", 180),
        ("SELECT c FROM footer", 12),
    )  # fmt: skip


def turns_near_the_share(trace: TraceBuilder, chance: random.Random, number: int) -> float:
    turn = (
        ("SELECT n FROM product WHERE id = %s", 3.0),
        ("SELECT n FROM stock WHERE product_id = %s", 2.0),
    )
    return _in_a_row(trace, chance, *turn * chance.randint(6, 8)) + 400


def turns_at_the_same_time(trace: TraceBuilder, chance: random.Random, number: int) -> float:
    for _ in range(9):
        for text in ("SELECT n FROM product WHERE id = %s", "SELECT n FROM stock WHERE pid = %s"):
            trace.query(text, 3 + chance.random() * 3, _jittered(chance, 40))
    return 180


def calls_of_another_pod(trace: TraceBuilder, chance: random.Random, number: int) -> float:
    for turn in range(7):
        url = f"http://10.42.7.{number + 3}:8080/items/{900 + turn}"
        trace.call(url, 3 + turn * 30, _jittered(chance, 15))
    return 240


def misses_of_one_key(trace: TraceBuilder, chance: random.Random, number: int) -> float:
    trace.query("GET home:teaser", 1, 1, system="redis")
    now = _in_a_row(trace, chance, ("SELECT a FROM banner", 60), ("SELECT b FROM menu", 60))
    trace.query("SETEX home:teaser 300 x", now, 1, system="redis")
    return now + 700


@pytest.mark.parametrize(
    ("maker", "kind"),
    [
        (a_chain_with_a_short_third, "consecutive_queries"),
        (turns_near_the_share, "n_plus_one_query"),
        (turns_at_the_same_time, "n_plus_one_query"),
        (calls_of_another_pod, "n_plus_one_call"),
        (misses_of_one_key, "cache_stampede"),
    ],
)
def test_many_requests_with_one_fault_give_one_finding(maker: Maker, kind: str) -> None:
    (finding,) = _found(maker, REQUESTS)
    assert finding.kind == kind
    assert finding.occurrences >= 0.9 * REQUESTS


def test_five_misses_of_one_key_are_a_stampede_whichever_query_is_the_longest() -> None:
    (finding,) = _found(misses_of_one_key, 5)
    assert finding.kind == "cache_stampede"
    assert finding.occurrences == 5


def _found(maker: Maker, requests: int) -> list[Finding]:
    chance = random.Random(3)
    rows = []
    for number in range(requests):
        trace = TraceBuilder(number + 1)
        ms = maker(trace, chance, number)
        for row in trace.rows:
            row["start_ns"] += number * 40 * MS
            row["end_ns"] += number * 40 * MS
        trace.rows[0]["end_ns"] = trace.rows[0]["start_ns"] + int(ms * MS)
        rows += trace.rows
    frame = build_frame(table(rows), Normaliser())
    told = [
        finding
        for detector in DetectorSettings().trace_detectors().values()
        for trace in traces_of(frame, detector.candidates(frame))
        for finding in detector.detect(trace).findings
    ]
    return merge_findings(Quorum().pass_on(told))
