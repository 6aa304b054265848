from __future__ import annotations

import random
from typing import Any

import pytest
from typing_extensions import override

from detectors.merging import merge_findings
from detectors.registry import DetectorSettings
from detectors.traces.frame import build_frame
from detectors.traces.normaliser import Normaliser
from detectors.traces.trace import traces_of
from tests.detectors.corpus import Case, TraceBuilder, cases, table

CASES = cases()


def results(case: Case, seed: int = 0):  # type: ignore[no-untyped-def]
    rows = list(case.rows)
    if seed:
        random.Random(seed).shuffle(rows)
    frame = build_frame(table(rows), Normaliser())
    detectors = DetectorSettings().trace_detectors().values()
    return [
        detector.detect(trace)
        for detector in detectors
        for trace in traces_of(frame, detector.candidates(frame))
    ]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_shape_is_found_once_and_no_twin_is_reported(case: Case) -> None:
    findings = merge_findings(found for result in results(case) for found in result.findings)
    assert tuple(finding.kind for finding in findings) == case.expected
    if case.repetitions:
        assert findings[0].evidence.repetitions == case.repetitions
        assert findings[0].complete is case.complete
        assert findings[0].fix


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_order_of_arrival_changes_nothing(case: Case) -> None:
    assert results(case) == results(case, seed=7)


@pytest.mark.parametrize("case", [case for case in CASES if case.gates], ids=lambda case: case.name)
def test_the_gate_is_named(case: Case) -> None:
    rows = build_frame(table(case.rows), Normaliser())
    named = {
        refused.gate.value
        for detector in DetectorSettings().trace_detectors().values()
        for trace in traces_of(rows)
        for refused in detector.detect(trace).not_reported
    }
    assert set(case.gates) <= named


def test_a_job_with_thousands_of_long_calls_is_judged_in_one_walk() -> None:
    """Pairs of calls would be millions: the walk up is counted, not the seconds."""
    trace = TraceBuilder(ms=600_000)
    for turn in range(3_000):
        trace.call(f"http://erp/items/{turn}", 3 + turn * 0.1, 350)
    (only,) = traces_of(build_frame(table(trace.rows), Normaliser()))
    counted = Counted(only.parent)
    object.__setattr__(only, "parent", counted)
    DetectorSettings().trace_detectors()["blocking_call"].detect(only)
    assert counted.reads < 20 * 3_000


class Counted(list[int]):
    """Counts how often it is read."""

    reads = 0

    @override
    def __getitem__(self, place: Any) -> Any:
        self.reads += 1
        return super().__getitem__(place)
