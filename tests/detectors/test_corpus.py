from __future__ import annotations

import random
from typing import Any

import pytest
from typing_extensions import override

from detectors.finding import CodeLocation
from detectors.merging import merge_findings
from detectors.registry import DetectorSettings
from detectors.traces.frame import build_frame
from detectors.traces.normaliser import Normaliser
from detectors.traces.trace import traces_of
from tests.detectors.corpus import INTERNAL, Case, TraceBuilder, cases, table
from tests.detectors.corpus_clients import clients
from tests.detectors.corpus_frameworks import BY_ID, frameworks, rootless
from tests.detectors.corpus_limits import limits

CASES = [*cases(), *frameworks(), *clients(), *limits()]


def results(case: Case, seed: int = 0, *, brief: bool = False):  # type: ignore[no-untyped-def]
    rows = list(case.rows)
    if seed:
        random.Random(seed).shuffle(rows)
    frame = build_frame(table(rows), Normaliser())
    detectors = DetectorSettings().trace_detectors().values()
    return [
        detector.detect(trace)
        for detector in detectors
        for trace in traces_of(frame, detector.candidates(frame), brief=brief)
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


LIBRARY = "/build/.cargo/registry/src/index.crates.io-6f17d22bba15/sqlx-core-0.8.2/src/logger.rs"


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("src/cart.rs", CodeLocation("src/cart.rs", 12, "cart::show", inferred=True)),
        (LIBRARY, CodeLocation(LIBRARY, 40, "sqlx::query")),
    ],
)
def test_a_file_of_a_library_is_the_code_only_where_no_other_is_told(
    file: str, expected: CodeLocation
) -> None:
    trace = TraceBuilder()
    caller = trace.span("show", trace.root, 1, 98, kind=INTERNAL, code_file=file, code_line=12,
                        code_function="cart::show")  # fmt: skip
    for turn in range(8):
        trace.query(BY_ID, 3 + turn * 9, 6, parent=caller, code_file=LIBRARY, code_line=40,
                    code_function="sqlx::query")  # fmt: skip
    found = [item for one in results(Case("", tuple(trace.rows))) for item in one.findings]
    assert [item.evidence.code for item in found] == [expected]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_brief_look_finds_the_same(case: Case) -> None:
    found, brief = ([one.findings for one in results(case, brief=short)] for short in (False, True))
    assert [one for one in brief if one] == [one for one in found if one]


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


@pytest.mark.parametrize(
    ("function", "route"),
    [("", "shop"), ("sync_products", "sync_products"), ("Order#17.lines", "Order#*.lines")],
)
def test_a_loop_without_its_request_is_named_after_what_stands_nearest(
    function: str, route: str
) -> None:
    case = Case("", tuple(rootless(function=function).rows))
    (finding,) = [found for result in results(case) for found in result.findings]
    assert finding.route == route
    assert not finding.complete


def test_a_request_that_is_named_by_its_path_is_named_without_ids() -> None:
    trace = TraceBuilder()
    trace.rows[0].update(name="GET /cart/17?step=2", http_route=None)
    for turn in range(8):
        trace.query(BY_ID, 3 + turn * 9, 6)
    (finding,) = [
        item for result in results(Case("", tuple(trace.rows))) for item in result.findings
    ]
    assert finding.route == "GET /cart/*"


def test_the_code_of_the_span_that_is_not_counted_is_the_code_of_the_query() -> None:
    trace = TraceBuilder()
    for turn in range(8):
        outer = trace.query(BY_ID, 3 + turn * 9, 6)
        trace.query(BY_ID, 4 + turn * 9, 4, parent=outer, code_file="/srv/p.py", code_line=7,
                    code_function="p")  # fmt: skip
    (finding,) = [
        found for result in results(Case("", tuple(trace.rows))) for found in result.findings
    ]
    assert finding.evidence.repetitions == 8
    assert finding.evidence.code == CodeLocation("/srv/p.py", 7, "p")


def test_old_and_stable_names_of_the_code_are_one_finding() -> None:
    found = []
    for function, space in (("load", "shop.cart"), ("shop.cart.load", None)):
        trace = TraceBuilder()
        for turn in range(8):
            trace.query(BY_ID, 3 + turn * 9, 6, code_file="/srv/p.py", code_line=7,
                        code_function=function, attributes={"code.namespace": space} if space
                        else None)  # fmt: skip
        found += [one for part in results(Case("", tuple(trace.rows))) for one in part.findings]
    old, stable = found
    assert old.evidence.code == CodeLocation("/srv/p.py", 7, "shop.cart.load")
    assert old.fingerprint == stable.fingerprint


def test_spans_that_are_each_others_parents_end_nothing() -> None:
    trace = TraceBuilder()
    for turn in range(6):
        call, other = (90 + turn).to_bytes(8, "big"), (190 + turn).to_bytes(8, "big")
        trace.call(f"http://stock/items/{turn}", 3 + turn * 9, 6, parent=other)
        trace.rows[-1]["span_id"] = call
        trace.span("reply", call, 4 + turn * 9, 4, service="stock")
        trace.rows[-1]["span_id"] = other
    found = [item for result in results(Case("", tuple(trace.rows))) for item in result.findings]
    assert [item.kind for item in found] == ["n_plus_one_call"]


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
