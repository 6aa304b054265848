"""What every registered detector must keep, whoever wrote it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detectors.finding import Finding
from detectors.registry import SETTINGS, SIGNAL_DETECTORS, TRACE_DETECTORS, DetectorSettings
from detectors.repository import FindingRepository
from detectors.runner import DetectorRunner
from detectors.traces.frame import build_frame
from detectors.traces.normaliser import Normaliser
from detectors.traces.trace import traces_of
from store.errors import ConfigError
from store.model import SPAN_READ_SCHEMA
from store.testing import open_state
from tests.contract.detector_laws import (
    chosen_settings,
    is_silent_without_data,
    judges_each_trace_alone,
    refuses_what_makes_no_sense,
    shuffled,
)
from tests.detectors.corpus import TraceBuilder, cases, table
from tests.detectors.corpus_calls import stampede
from tests.detectors.counters import Counters
from tests.detectors.stored_spans import StoredSpans

DOCS = Path(__file__).parents[2] / "docs" / "detectors.md"
NOW_MS = 1_700_000_100_000


def corpus_rows() -> list[dict[str, Any]]:
    """The whole corpus, each case as a trace of its own; a stampede is many traces."""
    return [
        {**row, "trace_id": number.to_bytes(16, "big")}
        for number, case in enumerate([*cases(), *stampede(9)], start=1)
        for row in case.rows
    ]


@pytest.mark.parametrize("name", TRACE_DETECTORS)
def test_a_detector_judges_each_trace_alone(name: str) -> None:
    frame = build_frame(table(corpus_rows()), Normaliser())
    judges_each_trace_alone(lambda: DetectorSettings().trace_detectors()[name], frame)


@pytest.mark.parametrize("name", TRACE_DETECTORS)
def test_candidates_leave_out_nothing_that_would_be_found(name: str) -> None:
    detector = DetectorSettings().trace_detectors()[name]
    frame = build_frame(table(corpus_rows()), Normaliser())
    marked = detector.candidates(frame)
    for index, trace in enumerate(traces_of(frame)):
        assert marked[index] or not detector.detect(trace).findings


@pytest.mark.parametrize("name", TRACE_DETECTORS)
def test_no_spans_give_no_findings(name: str) -> None:
    detector = DetectorSettings().trace_detectors()[name]
    frame = build_frame(SPAN_READ_SCHEMA.empty_table(), Normaliser())
    assert not detector.candidates(frame).any()
    assert not list(traces_of(frame))


@pytest.mark.parametrize("name", TRACE_DETECTORS)
def test_a_huge_trace_gives_a_small_finding(name: str) -> None:
    trace = TraceBuilder(ms=100_000)
    for turn in range(3_000):
        trace.query(f"SELECT a FROM b WHERE id = {turn} /*{turn}*/", turn * 30, 20)
    frame = build_frame(table(trace.rows), Normaliser())
    detector = DetectorSettings().trace_detectors()[name]
    for each in traces_of(frame):
        result = detector.detect(each)
        assert len(result.findings) <= 10
        for finding in result.findings:
            assert len(finding.evidence.span_ids) <= 50
            assert len(finding.evidence.statements) <= 10


@pytest.mark.parametrize("name", TRACE_DETECTORS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_hostile_spans_break_nothing(name: str, data: st.DataObject) -> None:
    text = st.one_of(st.none(), st.text(max_size=40))
    ids = st.sampled_from([bytes([n]) * 8 for n in range(1, 6)] + [b"", b"odd"])
    row = st.fixed_dictionaries(
        {
            "trace_id": st.sampled_from([b"a" * 16, b"b" * 16, b""]),
            "span_id": ids,
            "parent_span_id": st.one_of(st.none(), ids),
            "start_ns": st.integers(0, 10**19 - 10**18),
            "end_ns": st.integers(0, 10**19 - 10**18),
            "service": st.text(max_size=5),
            "name": st.text(max_size=10),
            "kind": st.integers(0, 5),
            "status": st.integers(0, 2),
            "http_route": text,
            "http_method": text,
            "url": text,
            "db_system": st.sampled_from([None, "redis", "mysql", "mongodb", "x"]),
            "statement": text,
            "attributes": st.sampled_from(
                [None, "", "{", "[1]", '{"composite.count": "x"}', '{"composite.count": 9}']
            ),
            "received_ms": st.just(0),
        }
    )
    rows = data.draw(st.lists(row, max_size=12))
    numbered = [{**item, "seq": place} for place, item in enumerate(rows)]
    frame = build_frame(table(numbered), Normaliser())
    detector = DetectorSettings().trace_detectors()[name]
    assert len(detector.candidates(frame)) == len(frame)
    for trace in traces_of(frame):
        detector.detect(trace)


@pytest.mark.parametrize("name", SIGNAL_DETECTORS)
def test_a_signal_detector_is_silent_without_series(name: str) -> None:
    is_silent_without_data(DetectorSettings().signal_detectors()[name], NOW_MS)


def run(batches: list[list[dict[str, Any]]], *, restart_after: int = -1) -> dict[str, Finding]:
    """Everything found when these batches arrive 200 ms apart, and then nothing more."""
    spans = StoredSpans()
    repository = FindingRepository(open_state())
    runner = DetectorRunner(spans, Counters(), repository)
    now_ms = NOW_MS
    for place, batch in enumerate(batches):
        now_ms += 200
        spans.append(batch, now_ms)
        assert all(unit.ok for unit in runner.tick(now_ms).health)
        if place == restart_after:
            runner = DetectorRunner(spans, Counters(), repository)
    for _ in range(4):
        now_ms += 5_000
        assert all(unit.ok for unit in runner.tick(now_ms).health)
    return {item.fingerprint: item for item in repository.list().findings}


def told(findings: dict[str, Finding]) -> dict[str, tuple[object, ...]]:
    """What must not depend on how the spans arrived; rates, and so priorities, do."""
    return {
        key: (
            item.kind,
            item.occurrences,
            item.evidence.repetitions,
            item.evidence.trace_id,
            item.first_seen_ms,
            item.complete,
        )
        for key, item in findings.items()
    }


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), pieces=st.integers(1, 5), restart=st.integers(-1, 4))
def test_order_splits_and_restarts_change_nothing(seed: int, pieces: int, restart: int) -> None:
    rows = corpus_rows()
    whole = told(run([rows]))
    assert told(run(shuffled(rows, seed, pieces), restart_after=restart)) == whole
    assert "cache_stampede" in {item[0] for item in whole.values()}


@pytest.mark.parametrize("section", SETTINGS)
def test_settings_are_validated_and_frozen(section: str) -> None:
    with pytest.raises(ConfigError, match=f"detectors.{section}.no_such"):
        DetectorSettings.from_mapping({section: {"no_such": 1}})
    refuses_what_makes_no_sense(chosen_settings()[section], f"detectors.{section}")


def test_unknown_detectors_are_refused() -> None:
    with pytest.raises(ConfigError, match="known here"):
        DetectorSettings.from_mapping({"n_plus_two": {}})


def test_every_kind_and_every_setting_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")
    headings = set(re.findall(r"^#+ `?([\w]+)`?", text, re.MULTILINE))
    chosen = DetectorSettings()
    kinds = {kind for item in chosen.trace_detectors().values() for kind in item.kinds}
    kinds |= {kind for item in chosen.signal_detectors().values() for kind in item.kinds}
    assert kinds <= headings
    for section in chosen.chosen.values():
        for field in dataclasses.fields(section):
            assert f"`{field.name}`" in text, field.name


@pytest.mark.parametrize("name", [*TRACE_DETECTORS, *SIGNAL_DETECTORS])
def test_every_detector_tells_its_maths_and_an_example(name: str) -> None:
    chosen = DetectorSettings()
    detector = {**chosen.trace_detectors(), **chosen.signal_detectors()}[name]
    text = type(detector).__doc__ or ""
    for part in ("Maths:", "Parameters:", "Example:", "Reference:"):
        assert part in text
