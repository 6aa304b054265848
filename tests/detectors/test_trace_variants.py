from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from detectors.finding import Finding
from detectors.merging import merge_findings
from detectors.registry import DetectorSettings
from detectors.traces.frame import build_frame
from detectors.traces.normaliser import Normaliser
from detectors.traces.trace import traces_of
from tests.detectors.corpus import Case, table
from tests.detectors.corpus_variants import variants


def judged(cases: Iterable[Case], seed: int) -> dict[str, list[Finding]]:
    """What is found in each trace, all of them in one frame and in any order."""
    rows = [
        {**row, "trace_id": number.to_bytes(16, "big")}
        for number, case in enumerate(cases, start=1)
        for row in case.rows
    ]
    random.Random(seed).shuffle(rows)
    frame = build_frame(table(rows), Normaliser())
    found: dict[str, list[Finding]] = {}
    for detector in DetectorSettings().trace_detectors().values():
        for trace in traces_of(frame, detector.candidates(frame)):
            found.setdefault(trace.trace_id, []).extend(detector.detect(trace).findings)
    return {trace_id: merge_findings(items) for trace_id, items in found.items()}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_each_fault_is_found_once_in_the_words_of_every_stack(seed: int) -> None:
    cases = list(variants(seed))
    found = judged(cases, seed)
    wrong = []
    for number, case in enumerate(cases, start=1):
        findings = found.get(number.to_bytes(16, "big").hex(), [])
        kinds = tuple(finding.kind for finding in findings)
        if kinds != case.expected:
            wrong.append(f"{case.name}: {kinds}, expected {case.expected}")
        elif case.repetitions and findings[0].evidence.repetitions != case.repetitions:
            wrong.append(f"{case.name}: {findings[0].evidence.repetitions} repeats")
        elif findings and findings[0].complete is not case.complete:
            wrong.append(f"{case.name}: complete is {findings[0].complete}")
    assert not wrong, "\n".join(wrong)
