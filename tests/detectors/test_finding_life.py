"""Fixed is proven by what goes by without a finding, never by silence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from sqlalchemy import func, insert, select
from typing_extensions import override

from detectors.decision import WARROOM, Decision
from detectors.finding import Evidence, Finding, FindingStatus, Impact, Priority
from detectors.quiet import QuietWatch
from detectors.registry import DetectorSettings
from detectors.repository import FindingRepository
from detectors.request_rate import RequestRates
from detectors.rows.repository import FindingHistoryRow, FindingRow, make_room
from detectors.runner import DetectorRunner
from store.errors import QueryError
from store.model import InstantVector, Labels
from store.testing import open_state
from tests.detectors.corpus import BY_ID, TraceBuilder
from tests.detectors.counters import Counters
from tests.detectors.stored_spans import StoredSpans

T0_MS = 1_700_000_000_000
HOUR_MS = 3_600_000


class Series(Counters):
    """A querier whose instant answers are given."""

    def __init__(self) -> None:
        super().__init__()
        self.found: tuple[Labels, ...] | None = ()

    @override
    def instant(self, expr: str, ts_ms: int) -> InstantVector:
        if self.found is None:
            raise QueryError("the series cannot be read")
        return InstantVector(self.found, np.ones(len(self.found)))


class Requests(RequestRates):
    """Request rates that are given."""

    def __init__(self, each_tick: int) -> None:
        super().__init__(60)
        self.each_tick = each_tick

    @override
    def since(self, service: str, route: str, since_ms: int) -> int:
        return self.each_tick


def ended(share: float = 1.0, **changed: Any) -> Finding:
    known: dict[str, Any] = {
        "fingerprint": "f1",
        "kind": "n_plus_one_query",
        "priority": Priority.P1,
        "title": "a loop",
        "service": "shop",
        "route": "products/",
        "first_seen_ms": T0_MS,
        "last_seen_ms": T0_MS,
        "evidence": Evidence(trace_id="ab"),
        "impact": Impact(0.1, 1.0, hit_share=share),
        "fix": "",
        "active": False,
        **changed,
    }
    return Finding(**known)


def proven(watch: QuietWatch, rates: RequestRates, series: Series, ticks: int) -> list[str]:
    """Reasons, after so many ticks of a minute."""
    reasons = []
    for tick in range(1, ticks + 1):
        now_ms = T0_MS + tick * 60_000
        watch.count(rates, series, now_ms)
        reasons += [proof.reason for proof in watch.proven(now_ms)]
    return reasons


def watching(finding: Finding) -> QuietWatch:
    watch = QuietWatch(3_600)
    watch.observe([finding], T0_MS)
    return watch


def test_an_hour_of_clean_traffic_proves_a_fix() -> None:
    watch = watching(ended())
    assert proven(watch, Requests(5), Series(), 59) == []
    assert proven(watch, Requests(5), Series(), 60) == ["not seen for 1.0 h and 595 requests"]
    assert proven(watch, Requests(5), Series(), 120) == [], "it is told once"


def test_a_route_that_nobody_uses_proves_nothing() -> None:
    assert proven(watching(ended()), Requests(0), Series(), 10_000) == []


def test_a_rare_fault_needs_more_clean_requests() -> None:
    assert proven(watching(ended(share=0.5)), Requests(5), Series(), 60)
    assert proven(watching(ended(share=0.01)), Requests(5), Series(), 60) == []
    assert proven(watching(ended(share=0.01)), Requests(5), Series(), 92)


def test_what_comes_back_is_watched_no_longer() -> None:
    watch = watching(ended())
    watch.observe([replace(ended(), active=True)], T0_MS + 60_000)
    assert proven(watch, Requests(5), Series(), 120) == []


def test_a_signal_is_fixed_by_values_and_not_by_their_absence() -> None:
    lag = ended(
        kind="replica_lag",
        route="",
        evidence=Evidence(series="sig:lag"),
        labels={"instance": "db-2"},
    )
    mine, other = Labels.of(instance="db-2"), Labels.of(instance="db-3")
    series = Series()
    for found in ((), (other,), None):
        series.found = found
        assert proven(watching(lag), Requests(5), series, 500) == [], found
    series.found = (other, mine)
    assert proven(watching(lag), Requests(0), series, 60) == [
        "not seen for 1.0 h and 60 minutes with data"
    ]


def test_an_index_is_fixed_when_its_series_is_away_while_its_server_speaks() -> None:
    class Server(Series):
        def __init__(self, *speaks: str) -> None:
            super().__init__()
            self.speaks = speaks

        @override
        def instant(self, expr: str, ts_ms: int) -> InstantVector:
            told = (Labels.of(instance="db-1", index="ix_a"),) * (expr in self.speaks)
            return InstantVector(told, np.ones(len(told)))

    unused, uptime = "sig:db_index_unused", "sig:db_uptime:seconds"
    index = ended(
        kind="unused_index",
        route="",
        evidence=Evidence(series=unused),
        labels={"instance": "db-1", "index": "ix_a"},
    )
    assert proven(watching(index), Requests(0), Server(unused, uptime), 500) == []
    assert proven(watching(index), Requests(0), Server(), 500) == []
    assert proven(watching(index), Requests(0), Server(uptime), 60)


def test_a_restart_goes_on_counting() -> None:
    first = watching(ended())
    proven(first, Requests(5), Series(), 50)
    second = QuietWatch(3_600)
    second.loads(first.dumps())
    assert second.dumps() == first.dumps()
    assert proven(second, Requests(5), Series(), 60)


def requests(number: int, repeats: int, at_ms: int) -> list[dict[str, Any]]:
    trace = TraceBuilder(number, ms=200)
    for turn in range(repeats):
        trace.query(BY_ID, 1 + turn * 8, 6, code_function="shop.views.products")
    shift = at_ms * 1_000_000 - trace.rows[0]["start_ns"]
    return [
        {**row, "start_ns": row["start_ns"] + shift, "end_ns": row["end_ns"] + shift}
        for row in trace.rows
    ]


def test_the_runner_proves_a_fix_and_tells_its_return() -> None:
    chosen = DetectorSettings.from_mapping({"runner": {"fixed_after_s": 120}})
    spans, repository = StoredSpans(), FindingRepository(open_state())
    runner = DetectorRunner(spans, Counters(), repository, chosen)
    now_ms, number = T0_MS, 0

    def run(ticks: int, repeats: int, each: int) -> None:
        nonlocal now_ms, number, runner
        for tick in range(ticks):
            for _ in range(each):
                number += 1
                spans.append(requests(number, repeats, now_ms), now_ms)
            now_ms += 5_000
            if tick == ticks // 2:
                runner = DetectorRunner(spans, Counters(), repository, chosen)
            runner.tick(now_ms)

    run(4, 20, 4)
    ((known),) = repository.list().findings
    assert known.status is FindingStatus.OPEN
    run(13, 0, 0)
    run(10, 0, 1)
    assert repository.list().findings[0].status is FindingStatus.OPEN, "too few clean requests"
    run(26, 0, 6)
    fixed = repository.list().findings[0]
    assert (fixed.status, fixed.active) == (FindingStatus.FIXED, False)
    assert repository.history(known.fingerprint)[-1].actor == WARROOM
    run(3, 20, 4)
    assert repository.list().findings[0].status is FindingStatus.REGRESSED


def test_a_decision_of_somebody_is_not_overruled_by_quiet() -> None:
    repository = FindingRepository(open_state())
    repository.record([replace(ended(), active=True)], T0_MS)
    assert not repository.prove_fixed("f1", Decision(T0_MS)), "it still holds"
    repository.record([ended(occurrences=0)], T0_MS)
    repository.suppress("f1", T0_MS + HOUR_MS, Decision(T0_MS, "anna", "known"))
    assert not repository.prove_fixed("f1", Decision(T0_MS))
    assert not repository.prove_fixed("nothing", Decision(T0_MS))
    repository.reopen("f1", Decision(T0_MS, "anna"))
    assert repository.prove_fixed("f1", Decision(T0_MS))


def test_a_signal_that_outlasts_its_fix_was_not_fixed() -> None:
    repository = FindingRepository(open_state())
    lag = ended(evidence=Evidence(series="sig:lag"), active=True)
    repository.record([lag], T0_MS)
    repository.mark_fixed("f1", Decision(T0_MS))

    def still(after_ms: int) -> FindingStatus:
        at_ms = T0_MS + after_ms
        held = replace(lag, occurrences=0, last_seen_ms=at_ms)
        return repository.record([held], at_ms)[0].status

    assert still(300_000) is FindingStatus.FIXED
    assert not repository.active()
    assert still(601_000) is FindingStatus.REGRESSED
    assert repository.active()


def test_of_too_many_findings_those_not_seen_for_longest_are_forgotten() -> None:
    repository = FindingRepository(open_state(), most=20)
    for number in range(40):
        one = ended(fingerprint=f"f{number:02}", last_seen_ms=T0_MS + number, active=number == 3)
        repository.record([one], T0_MS + number)
        if number == 5:
            decision = Decision(T0_MS, "anna", "known")
            repository.suppress("f05", T0_MS + HOUR_MS, decision)
    kept = {finding.fingerprint for finding in repository.list(limit=100).findings}
    assert len(kept) == 20
    assert {"f03", "f05", "f39"} <= kept
    assert kept - {"f03", "f05"} == {f"f{number}" for number in range(22, 40)}
    assert {entry.finding_id for entry in repository.history()} == kept


def test_an_episode_began_with_its_earliest_span_though_that_came_later() -> None:
    repository = FindingRepository(open_state())
    for first_ms, active in ((T0_MS, True), (T0_MS - 900, True), (T0_MS - 500, True)):
        seen = ended(first_seen_ms=first_ms, active=active)
        repository.record([seen], T0_MS + 5_000)
    (holds,) = repository.active()
    assert holds.first_seen_ms == T0_MS - 900
    repository.record([ended(first_seen_ms=T0_MS - 900)], T0_MS + 60_000)
    repository.record([ended(first_seen_ms=T0_MS + 90_000, active=True)], T0_MS + 95_000)
    (again,) = repository.active()
    assert again.first_seen_ms == T0_MS + 90_000
    assert repository.list().findings[0].first_seen_ms == T0_MS - 900


def test_a_state_that_grew_far_too_large_shrinks_over_several_ticks() -> None:
    """Of a year without a bound: one tick that forgets it all would hold everybody for minutes."""
    findings = [
        {
            "id": f"f{number}", "kind": "slow_query", "priority": "P2", "status": "open",
            "service": "shop", "route": "cart/", "occurrences": 1, "repetitions": 0,
            "first_seen_ms": number, "last_seen_ms": number, "active": False,
            "active_since_ms": number, "suppress_reason": "", "updated_ms": number, "body": "",
        }
        for number in range(6_000)
    ]  # fmt: skip
    entry = {"finding_id": "f5999", "at_ms": T0_MS, "event": "opened", "detail": ""}
    left = []
    with open_state().begin() as session:
        session.execute(insert(FindingRow), findings)
        session.execute(insert(FindingHistoryRow), [entry] * 30_000)
        for _ in range(3):
            make_room(session, 100, 500)
            counted = [
                select(func.count()).select_from(row) for row in (FindingRow, FindingHistoryRow)
            ]
            left.append(tuple(session.scalar(query) for query in counted))
        kept = session.scalars(select(FindingRow.last_seen_ms)).all()
    assert left == [(1_000, 9_999), (99, 500), (99, 500)]
    assert min(kept) == 6_000 - 99


def test_what_is_accepted_for_a_while_opens_again_at_its_end_though_nothing_is_seen() -> None:
    repository = FindingRepository(open_state())
    repository.record([ended(active=True)], T0_MS)
    repository.suppress("f1", T0_MS + HOUR_MS, Decision(T0_MS, "anna", "known"))
    repository.record([], T0_MS + HOUR_MS - 1)
    (before,) = repository.list().findings
    repository.record([], T0_MS + HOUR_MS)
    (after,) = repository.list().findings
    assert (before.status, after.status) == (FindingStatus.SUPPRESSED, FindingStatus.OPEN)
    assert after.suppression is None
    told = [(entry.event, entry.detail) for entry in repository.history("f1")]
    assert told == [("opened", "a loop"), ("suppressed", "known"), ("expired", "known")]
