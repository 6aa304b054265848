from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from detectors.decision import Decision
from detectors.extent import KEPT, merged_users, since_it_began, user_of, users_hit
from detectors.finding import CodeLocation, Evidence, Finding, Impact, Priority
from detectors.fragments import ROUTE_INFERRED, Fragments
from detectors.merging import merge_findings
from detectors.registry import DetectorSettings
from detectors.repository import FindingFilter, FindingRepository
from detectors.runner import DetectorRunner
from detectors.traces.frame import build_frame
from detectors.traces.normaliser import Normaliser
from detectors.traces.trace import traces_of
from store.testing import open_state
from tests.detectors.corpus import CLIENT, SERVER, T0_NS, TraceBuilder, table
from tests.detectors.counters import Counters
from tests.detectors.stored_spans import StoredSpans

NOW_MS = T0_NS // 1_000_000


def finding(key: str, route: str, **changes: object) -> Finding:
    known = Finding(
        fingerprint=key,
        kind="n_plus_one_query",
        priority=Priority.P2,
        title=f"loop in {route}",
        service="shop",
        route=route,
        first_seen_ms=NOW_MS,
        last_seen_ms=NOW_MS,
        evidence=Evidence(trace_id="ab" * 16, statement="SELECT ?", repetitions=9),
        impact=Impact(),
        fix="",
    )
    return replace(known, **changes)  # type: ignore[arg-type]


def fragment(key: str) -> Finding:
    one = finding(key, "shop", complete=False)
    return replace(one, evidence=replace(one.evidence, detail={ROUTE_INFERRED: 1.0}))


@pytest.mark.parametrize(
    "arrivals", sorted(set(itertools.permutations(["whole", "fragment", "fragment"]))), ids="-".join
)
def test_a_fragment_and_its_whole_are_one_finding_in_any_order(arrivals: tuple[str, ...]) -> None:
    fragments, told = Fragments(), set()
    for arrival in arrivals:
        one = finding("w", "cart/") if arrival == "whole" else fragment("f")
        placed, superseded = fragments.place([one])
        told |= {item.fingerprint for item in placed}
        told -= set(superseded)
    assert told == {"w"}


def test_a_fragment_alone_is_told_and_survives_a_restart_until_its_whole_is_seen() -> None:
    before = Fragments()
    placed, _ = before.place([fragment("f")])
    assert [item.fingerprint for item in placed] == ["f"]
    after = Fragments()
    after.restore(placed)
    placed, superseded = after.place([finding("w", "cart/")])
    assert ([item.fingerprint for item in placed], superseded) == (["w"], ("f",))


def test_a_fragment_of_a_fault_that_two_routes_have_is_not_told_again() -> None:
    fragments = Fragments()
    fragments.place([finding("a", "cart/"), finding("b", "list/")])
    assert fragments.place([fragment("f")]) == ([], ())


def test_fragments_that_are_named_otherwise_are_one_finding() -> None:
    fragments = Fragments()
    fragments.place([fragment("f")])
    second = replace(fragment("g"), route="sync_products", title="loop in sync_products")
    (placed,), gone = fragments.place([second])
    assert (placed.fingerprint, placed.route, placed.title) == ("f", "shop", "loop in shop")
    assert gone == ()


def test_what_the_whole_trace_no_longer_shows_goes() -> None:
    fragments = Fragments()
    fragments.place([fragment("f")])
    assert list(fragments.traces) == ["ab" * 16]
    assert fragments.place([], judged_again=["ab" * 16]) == ([], ("f",))
    assert not fragments.traces


def test_what_one_trace_alone_showed_goes_when_all_of_it_shows_something_else() -> None:
    fragments = Fragments()
    fragments.place([finding("early", "cart/")])
    assert list(fragments.traces) == ["ab" * 16]
    placed, gone = fragments.place([finding("late", "cart/")], judged_again=["ab" * 16])
    assert ([item.fingerprint for item in placed], gone) == (["late"], ("early",))


def test_what_two_traces_showed_stays_and_a_trace_that_is_judged_again_counts_once() -> None:
    fragments = Fragments()
    one = finding("w", "cart/")
    fragments.place([one])
    (again,), gone = fragments.place([one], judged_again=["ab" * 16])
    assert (again.occurrences, gone) == (0, ())
    fragments.place([replace(one, evidence=replace(one.evidence, trace_id="cd" * 16))])
    assert fragments.place([], judged_again=["ab" * 16]) == ([], ())


def test_another_function_is_another_fault() -> None:
    fragments = Fragments()
    one = finding("w", "cart/")
    fragments.place(
        [replace(one, evidence=replace(one.evidence, code=CodeLocation("a.py", 1, "load")))]
    )
    placed, _ = fragments.place([fragment("f")])
    assert [item.fingerprint for item in placed] == ["f"]


def test_what_was_seen_in_fragments_counts_for_the_whole_and_no_trace_counts_twice() -> None:
    fragments = Fragments()
    other = fragment("f")
    other = replace(other, evidence=replace(other.evidence, trace_id="cd" * 16), occurrences=3)
    fragments.place([other])
    (whole,), _ = fragments.place([finding("w", "cart/")])
    assert whole.occurrences == 4
    fragments = Fragments()
    fragments.place([fragment("f")])
    (whole,), _ = fragments.place([finding("w", "cart/")])
    assert whole.occurrences == 1


def test_a_request_whose_own_span_is_late_is_found_once() -> None:
    spans = StoredSpans()
    repository = FindingRepository(open_state())
    settings = DetectorSettings.from_mapping({"runner": {"settle_ms": 1, "incomplete_after_ms": 2}})
    runner = DetectorRunner(spans, Counters(), repository, settings)
    trace = TraceBuilder()
    for turn in range(9):
        trace.query("SELECT a FROM b WHERE id = %s", 3 + turn * 9, 5)
    root, *rest = trace.rows
    spans.append(rest, NOW_MS)
    runner.tick(NOW_MS)
    runner.tick(NOW_MS + 5_000)
    (early,) = repository.list(FindingFilter()).findings
    assert (early.route, early.complete) == ("shop", False)
    spans.append([root], NOW_MS + 6_000)
    runner.tick(NOW_MS + 6_000)
    runner.tick(NOW_MS + 9_000)
    (late,) = repository.list(FindingFilter()).findings
    assert (late.route, late.complete) == ("products/", True)


def test_a_fragment_that_somebody_decided_about_stays_when_its_whole_is_seen() -> None:
    repository = FindingRepository(open_state())
    repository.record([fragment("kept"), fragment("gone")], NOW_MS)
    repository.suppress("kept", NOW_MS + 60_000, Decision(NOW_MS, reason="known"))
    repository.record([finding("w", "cart/")], NOW_MS, superseded=["kept", "gone", "unknown"])
    found = {item.fingerprint for item in repository.list(FindingFilter()).findings}
    assert found == {"kept", "w"}
    assert not repository.history("gone")


def test_users_are_counted_exactly_while_they_are_few_and_estimated_beyond() -> None:
    few = merged_users([[user_of({"enduser.id": number % 40})] for number in range(100)])
    assert users_hit(few) == 40
    many: tuple[str, ...] = ()
    for number in range(5_000):
        many = merged_users([many, [user_of({"session.id": f"s{number}"})]])
    assert len(many) == KEPT
    assert users_hit(many) == pytest.approx(5_000, rel=0.3)


@pytest.mark.parametrize("attributes", [{}, {"user.id": ""}, {"user.id": True}, {"user.id": None}])
def test_a_span_that_names_no_user_hits_none(attributes: dict[str, object]) -> None:
    assert user_of(attributes) == ""


def test_the_worst_request_of_an_episode_is_kept() -> None:
    small = finding(
        "w", "cart/", impact=Impact(0.01, worst_wasted_seconds=0.01, worst_repetitions=5)
    )
    large = replace(small, impact=Impact(0.2, worst_wasted_seconds=0.2, worst_repetitions=80))
    now = since_it_began(large, small)
    assert (now.impact.wasted_seconds_per_request, now.impact.worst_repetitions) == (0.01, 80)
    (both,) = merge_findings([
        replace(small, evidence=replace(small.evidence, trace_id="cd" * 16)), large,
    ])  # fmt: skip
    assert (both.impact.worst_wasted_seconds, both.impact.worst_repetitions) == (0.2, 80)


def test_users_of_a_loop_are_those_of_its_requests() -> None:
    rows = []
    for number in range(6):
        trace = TraceBuilder(number + 1)
        trace.rows[0]["attributes"] = f'{{"enduser.id":"u{number % 2}"}}'
        for turn in range(9):
            trace.span("SELECT", trace.root, 3 + turn * 9, 5, kind=CLIENT, db_system="mysql",
                       statement="SELECT a FROM b WHERE id = %s")  # fmt: skip
        rows += trace.rows
    assert rows[0]["kind"] == SERVER
    frame = build_frame(table(rows), Normaliser())
    detector = DetectorSettings().trace_detectors()["n_plus_one"]
    (merged,) = merge_findings(
        found for trace in traces_of(frame) for found in detector.detect(trace).findings
    )
    assert users_hit(merged.evidence.users) == 2
