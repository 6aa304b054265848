from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError

from detectors.activity import Activity
from detectors.decision import Decision
from detectors.extent import KEPT, merged_users, since_it_began, user_of, users_hit
from detectors.finding import CodeLocation, Evidence, Finding, Impact, Priority
from detectors.fragments import ROUTE_INFERRED, Fragments
from detectors.merging import merge_findings
from detectors.registry import DetectorSettings
from detectors.repository import FindingFilter, FindingRepository
from detectors.request_rate import RequestRates
from detectors.runner import DetectorRunner
from detectors.told import Judged, Told
from detectors.traces.detector import DetectorResult
from detectors.traces.frame import build_frame
from detectors.traces.normaliser import Normaliser
from detectors.traces.shapes.n_plus_one import NPlusOne
from detectors.traces.trace import Trace, traces_of
from store.testing import open_state
from tests.detectors.corpus import CLIENT, SERVER, T0_NS, TraceBuilder, table
from tests.detectors.counters import Counters
from tests.detectors.stored_spans import StoredSpans

NOW_MS = T0_NS // 1_000_000
JUDGED = [("n_plus_one_query", "ab" * 16)]


def place(
    fragments: Fragments, found: list[Finding], judged_again: Iterable[Judged] = ()
) -> tuple[list[Finding], tuple[str, ...]]:
    placed = fragments.place(found, judged_again)
    return placed.findings, placed.gone


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
        placed, superseded = place(fragments, [one])
        told |= {item.fingerprint for item in placed}
        told -= set(superseded)
    assert told == {"w"}


def test_a_fragment_alone_is_told_and_survives_a_restart_until_its_whole_is_seen() -> None:
    before = Fragments()
    placed, _ = place(before, [fragment("f")])
    assert [item.fingerprint for item in placed] == ["f"]
    after = Fragments()
    after.restore(placed)
    placed, superseded = place(after, [finding("w", "cart/")])
    assert ([item.fingerprint for item in placed], superseded) == (["w"], ("f",))


def test_a_fragment_of_a_fault_that_two_routes_have_is_not_told_again() -> None:
    fragments = Fragments()
    place(fragments, [finding("a", "cart/"), finding("b", "list/")])
    assert place(fragments, [fragment("f")]) == ([], ())


def test_fragments_that_are_named_otherwise_are_one_finding() -> None:
    fragments = Fragments()
    place(fragments, [fragment("f")])
    second = replace(fragment("g"), route="sync_products", title="loop in sync_products")
    (placed,), gone = place(fragments, [second])
    assert (placed.fingerprint, placed.route, placed.title) == ("f", "shop", "loop in shop")
    assert gone == ()


def test_what_the_whole_trace_no_longer_shows_goes() -> None:
    fragments = Fragments()
    place(fragments, [fragment("f")])
    assert place(fragments, [], judged_again=JUDGED) == ([], ("f",))


def test_what_one_trace_alone_showed_goes_when_all_of_it_shows_something_else() -> None:
    fragments = Fragments()
    place(fragments, [finding("early", "cart/")])
    placed, gone = place(fragments, [finding("late", "cart/")], judged_again=JUDGED)
    assert ([item.fingerprint for item in placed], gone) == (["late"], ("early",))


def test_what_two_traces_showed_stays_and_a_trace_that_is_judged_again_counts_once() -> None:
    fragments = Fragments()
    one = finding("w", "cart/")
    place(fragments, [one])
    (again,), gone = place(fragments, [one], judged_again=JUDGED)
    assert (again.occurrences, gone) == (0, ())
    place(fragments, [replace(one, evidence=replace(one.evidence, trace_id="cd" * 16))])
    assert place(fragments, [], judged_again=JUDGED) == ([], ())


def test_another_function_is_another_fault() -> None:
    fragments = Fragments()
    one = finding("w", "cart/")
    place(
        fragments,
        [replace(one, evidence=replace(one.evidence, code=CodeLocation("a.py", 1, "load")))],
    )
    placed, _ = place(fragments, [fragment("f")])
    assert [item.fingerprint for item in placed] == ["f"]


def test_what_was_seen_in_fragments_counts_for_the_whole_and_no_trace_counts_twice() -> None:
    fragments = Fragments()
    place(fragments, [of_trace(fragment("f"), trace) for trace in ("cd", "ce", "cf")])
    (whole,), _ = place(fragments, [finding("w", "cart/")])
    assert whole.occurrences == 4
    fragments = Fragments()
    place(fragments, [fragment("f")])
    (whole,), _ = place(fragments, [finding("w", "cart/")])
    assert whole.occurrences == 1


def of_trace(one: Finding, trace: str, **changes: object) -> Finding:
    return replace(one, evidence=replace(one.evidence, trace_id=trace * 16, **changes))  # type: ignore[arg-type]


def test_two_faults_of_one_incomplete_trace_both_go_when_it_is_judged_again() -> None:
    fragments = Fragments()
    second = fragment("g")
    second = replace(second, evidence=replace(second.evidence, statement="SELECT 2"))
    place(fragments, [fragment("f"), second])
    assert place(fragments, [], judged_again=JUDGED) == ([], ("f", "g"))


def test_a_fragment_that_is_judged_again_counts_once_and_keeps_its_name() -> None:
    fragments = Fragments()
    told = [place(fragments, [fragment("f")])[0]]
    for key in ("f", "g", "g"):
        placed, gone = place(fragments, [fragment(key)], judged_again=JUDGED)
        told.append(placed)
        assert gone == ()
    assert [one.fingerprint for placed in told for one in placed] == ["f"] * 4
    assert [one.occurrences for placed in told for one in placed] == [1, 0, 0, 0]
    (whole,), gone = place(fragments, [finding("w", "cart/")], judged_again=JUDGED)
    assert (whole.occurrences, gone) == (1, ("f",))


def test_what_several_traces_showed_together_is_not_taken_back_by_one_of_them() -> None:
    fragments = Fragments()
    members = [
        of_trace(finding(f"k{n}", f"r{n}/"), f"a{n}", detail={"needs_traces": 3}) for n in range(3)
    ]
    place(fragments, members)
    again = [("n_plus_one_query", "a0" * 16)]
    assert place(fragments, [], judged_again=again) == ([], ())


def test_what_ended_neither_silences_nor_revives_a_fragment() -> None:
    fragments = Fragments()
    ended = [of_trace(finding("a", "cart/"), "aa"), of_trace(finding("b", "list/"), "bb")]
    place(fragments, ended)
    fragments.forget(ended)
    (placed,), _ = place(fragments, [of_trace(fragment("f"), "cc")])
    assert placed.fingerprint == "f"
    fragments.forget([placed])
    placed_later, gone = place(fragments, [finding("w", "cart/")])
    assert ([(one.fingerprint, one.occurrences) for one in placed_later], gone) == ([("w", 1)], ())


def test_a_detector_that_broke_on_a_trace_takes_nothing_back() -> None:
    fragments = Fragments()
    place(fragments, [fragment("f"), of_trace(finding("w", "list/"), "cd", statement="SELECT 2")])
    others = [("slow_query", "ab" * 16), ("slow_query", "cd" * 16)]
    assert place(fragments, [], judged_again=others) == ([], ())


class Watched:
    """A loop whose spans arrive in parts, and what is found of it."""

    def __init__(self) -> None:
        self.spans = StoredSpans()
        self.repository = FindingRepository(open_state())
        self.start()
        trace = TraceBuilder()
        for turn in range(9):
            trace.query("SELECT a FROM b WHERE id = %s", 3 + turn * 9, 5)
        self.root, *self.rest = trace.rows

    def start(self) -> None:
        times = {"settle_ms": 1, "incomplete_after_ms": 2}
        settings = DetectorSettings.from_mapping({"runner": times})
        self.runner = DetectorRunner(self.spans, Counters(), self.repository, settings)

    def arrive(self, rows: list[dict[str, Any]], at_s: int) -> None:
        self.spans.append(rows, NOW_MS + at_s * 1_000)
        self.runner.tick(NOW_MS + at_s * 1_000)
        self.runner.tick(NOW_MS + at_s * 1_000 + 5)

    def late(self, **changes: object) -> dict[str, Any]:
        return {
            **self.root, "span_id": b"\x99" * 8, "parent_span_id": self.rest[-1]["span_id"],
            "service": "stock", "name": "GET stock/", **changes,
        }  # fmt: skip

    @property
    def findings(self) -> tuple[Finding, ...]:
        return self.repository.list(FindingFilter()).findings

    @property
    def told(self) -> list[tuple[str, bool, int, bool]]:
        return [(one.route, one.active, one.occurrences, one.complete) for one in self.findings]


@pytest.mark.parametrize("restart", [False, True])
def test_one_late_span_of_a_judged_trace_takes_no_true_finding_back(restart: bool) -> None:
    shop = Watched()
    shop.arrive([shop.root, *shop.rest], 0)
    if restart:
        shop.start()
    shop.arrive([shop.late()], 10)
    assert shop.told == [("products/", True, 1, True)]


def test_a_request_whose_own_span_comes_after_a_restart_is_found_once() -> None:
    shop = Watched()
    shop.arrive(shop.rest, 0)
    assert shop.told == [("shop", True, 1, False)]
    shop.start()
    shop.arrive([shop.root], 10)
    assert shop.told == [("products/", True, 1, True)]


@pytest.mark.parametrize("restart", [False, True])
def test_a_request_that_comes_in_three_pieces_counts_once(restart: bool) -> None:
    shop = Watched()
    pieces = [shop.rest[:7], shop.rest[7:], [shop.root, *shop.rest[:2]]]
    for turn, rows in enumerate(pieces):
        shop.arrive([{**row, "trace_id": b"\x66" * 16} for row in rows], 40 * turn)
        shop.arrive(rows, 40 * turn + 10)
        if restart:
            shop.start()
    assert shop.told == [("products/", True, 2, True)]


@pytest.mark.parametrize("restart", [False, True])
def test_a_chain_of_a_part_of_a_trace_goes_when_the_whole_is_a_longer_one(restart: bool) -> None:
    shop = Watched()
    trace = TraceBuilder(7, ms=2_000)
    for place, table_name in enumerate(("banner", "menu", "advice", "weather")):
        trace.query(f"SELECT * FROM {table_name}", 3 + place * 450, 400)
    shop.arrive(trace.rows[:4], 0)
    (part,) = [one for one in shop.findings if one.kind == "consecutive_queries"]
    if restart:
        shop.start()
    shop.arrive(trace.rows[4:], 40)
    (whole,) = [one for one in shop.findings if one.kind == "consecutive_queries"]
    assert (len(part.evidence.statements), len(whole.evidence.statements)) == (3, 4)
    assert (whole.fingerprint != part.fingerprint, whole.occurrences) == (True, 1)


@pytest.mark.parametrize("restart", [False, True])
def test_a_request_span_that_comes_after_its_parts_were_judged_shows_the_fault(
    restart: bool,
) -> None:
    shop = Watched()
    trace = TraceBuilder(8, ms=1_000, route="/checkout")
    trace.call("https://fraud.example/score", 100, 350)
    root, *parts = trace.rows
    shop.arrive(parts, 0)
    assert not shop.findings
    if restart:
        shop.start()
    shop.arrive([root], 12)
    assert [(one.kind, one.route) for one in shop.findings] == [("blocking_call", "/checkout")]


def test_a_detector_that_fails_when_a_trace_is_judged_again_takes_nothing_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_self: NPlusOne, _trace: Trace) -> DetectorResult:
        raise RuntimeError("broken")

    shop = Watched()
    shop.arrive([shop.root, *shop.rest], 0)
    with monkeypatch.context() as broken:
        broken.setattr(NPlusOne, "detect", fail)
        shop.arrive([shop.late()], 10)
    assert shop.told == [("products/", True, 1, True)]


def test_what_was_superseded_while_the_state_failed_is_not_written_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise OperationalError("insert", {}, Exception("down"))

    shop = Watched()
    with monkeypatch.context() as down:
        down.setattr(shop.repository, "record", fail)
        for rows, at_s in ((shop.rest, 0), ([shop.root], 10)):
            shop.spans.append(rows, NOW_MS + at_s * 1_000)
            for later_ms in (0, 5):
                with pytest.raises(OperationalError):
                    shop.runner.tick(NOW_MS + at_s * 1_000 + later_ms)
    shop.runner.tick(NOW_MS + 11_000)
    assert shop.told == [("products/", True, 1, True)]


def test_a_fragment_after_the_end_of_its_fault_is_told_and_revives_nothing() -> None:
    shop, day_s = Watched(), 86_400
    shop.arrive([shop.root, *shop.rest], 0)
    shop.runner.tick(NOW_MS + 30 * day_s * 1_000)
    assert shop.told == [("products/", False, 1, True)]
    # Another request of that time, whose own span is lost.
    other = [{**row, "trace_id": b"\x77" * 16} for row in shop.rest]
    shop.arrive(other, 30 * day_s + 10)
    assert sorted(shop.told) == [("products/", False, 1, True), ("shop", True, 1, False)]


@given(st.randoms(use_true_random=False))
def test_what_holds_is_what_was_told_and_not_taken_back(random: Random) -> None:
    fragments, holds, seen = Fragments(), dict[str, Finding](), Counter[str]()
    ended: set[str] = set()
    for _ in range(20):
        found = []
        for _ in range(random.randrange(4)):
            statement, number = random.choice(["S1", "S2"]), random.randrange(3)
            key = f"{statement}{number}"
            one = random.choice([fragment(f"f{key}"), finding(f"w{key}", f"r{number}/")])
            found.append(of_trace(one, random.choice(["aa", "bb", "cc"]), statement=statement))
        again = [("n_plus_one_query", trace * 16) for trace in ("aa", "bb", "cc")]
        placed, gone = place(fragments, found, [one for one in again if random.random() < 0.4])
        assert set(gone) <= holds.keys() - {one.fingerprint for one in placed}
        for key in gone:
            del holds[key]
            if key not in ended:  # the row of an earlier episode stays
                del seen[key]
        for one in placed:
            holds[one.fingerprint] = one
            seen[one.fingerprint] += one.occurrences
        assert all(seen[key] >= 0 for key in holds)
        for key in [key for key in holds if random.random() < 0.1]:
            fragments.forget([holds.pop(key)])
            ended.add(key)
    fragments.forget(holds.values())
    (alone,), gone = place(fragments, [of_trace(fragment("alone"), "dd", statement="S1")])
    assert (alone.fingerprint, gone) == ("alone", ())


@settings(max_examples=40)
@given(st.randoms(use_true_random=False))
def test_occurrences_are_the_traces_that_show_it_however_often_each_was_judged(
    random: Random,
) -> None:
    told = Told()
    fragments, shown, count = Fragments(told), dict[str, set[str]](), Counter[str]()
    for _ in range(15):
        found, again = [], []
        for trace in random.sample(["aa", "bb", "cc", "dd"], random.randrange(4)):
            if trace in shown:
                again.append(("n_plus_one_query", trace * 16))
            shown[trace] = {f"w{number}" for number in range(3) if random.random() < 0.4}
            found += [
                of_trace(finding(key, f"{key}/"), trace, statement=key)
                for key in sorted(shown[trace])
            ]
        placed = fragments.place(found, again)
        for one in placed.findings:
            count[one.fingerprint] += one.occurrences
        count.subtract(placed.fewer)
        assert set(placed.gone) <= {key for key in placed.fewer if not count[key]}
        assert +count == Counter(key for keys in shown.values() for key in keys)
        if random.random() < 0.3:  # a restart
            kept = [finding(key, f"{key}/", occurrences=n) for key, n in (+count).items()]
            kept = [of_trace(one, "ff", statement=one.fingerprint) for one in kept]
            told, dumped = Told(), told.dumps()
            told.loads(dumped)
            fragments = Fragments(told)
            fragments.restore(kept)


def test_what_fragments_were_counted_for_follows_them_to_the_whole_request() -> None:
    fragments = Fragments()
    parts = [of_trace(fragment("f"), trace) for trace in ("aa", "bb", "cc")]
    place(fragments, parts)
    (whole,), _ = place(fragments, [of_trace(finding("w", "cart/"), "dd")])
    assert whole.occurrences == 4
    # The rest of one of them comes: it was a request of another route.
    again = [("n_plus_one_query", "aa" * 16)]
    placed = fragments.place([of_trace(finding("x", "list/"), "aa")], again)
    assert [(one.fingerprint, one.occurrences) for one in placed.findings] == [("x", 1)]
    assert (placed.gone, placed.fewer) == ((), {"w": 1})


def test_a_fragment_that_has_the_name_of_its_whole_is_not_counted_with_it_again() -> None:
    fragments = Fragments()
    place(fragments, [of_trace(fragment("w"), trace) for trace in ("aa", "bb")])
    (whole,), gone = place(fragments, [of_trace(finding("w", "cart/"), "cc")])
    assert (whole.occurrences, gone) == (1, ())


def test_what_a_trace_told_is_bounded_and_the_latest_are_saved() -> None:
    told = Told()
    assert told.add("f", "slow_query", {f"{n:032x}": True for n in range(60_000)}) == 60_000
    assert len(told.traces) == 50_000
    after = Told()
    after.loads(told.dumps())
    assert len(after.traces) == 3_000
    assert after.add("f", "slow_query", {f"{59_999:032x}": True}) == 0


def test_a_finding_of_earlier_is_kept_when_its_second_episode_is_taken_back() -> None:
    repository = FindingRepository(open_state())
    one = finding("w", "cart/")
    repository.record([one], NOW_MS)
    repository.record([replace(one, active=False, occurrences=0)], NOW_MS + 60_000)
    repository.record([replace(one, first_seen_ms=NOW_MS + 90_000)], NOW_MS + 90_000)
    repository.record([], NOW_MS + 95_000, superseded=["w"])
    (kept,) = repository.list(FindingFilter()).findings
    assert (kept.fingerprint, kept.active) == ("w", False)
    assert [entry.event for entry in repository.history("w")].count("ended") == 1


def test_what_has_ended_goes_when_nothing_is_left_that_showed_it() -> None:
    repository = FindingRepository(open_state())
    for key in ("w", "x", "kept"):
        repository.record([finding(key, "cart/", occurrences=2)], NOW_MS)
        over = finding(key, "cart/", active=False, occurrences=0)
        repository.record([over], NOW_MS + 60_000)
    repository.mark_fixed("kept", Decision(NOW_MS + 61_000, reason="deployed"))
    repository.record([], NOW_MS + 62_000, fewer={"w": 2, "x": 1, "kept": 2, "unknown": 1})
    left = {one.fingerprint: one.occurrences for one in repository.list(FindingFilter()).findings}
    assert left == {"x": 1, "kept": 0}
    assert not repository.history("w")


def test_a_fragment_whose_earlier_spans_came_later_leaves_nothing_behind() -> None:
    repository = FindingRepository(open_state())
    repository.record([fragment("f")], NOW_MS)
    earlier = replace(fragment("f"), first_seen_ms=NOW_MS - 40, occurrences=0)
    repository.record([earlier], NOW_MS + 5_000)
    repository.record([finding("w", "cart/")], NOW_MS + 10_000, superseded=["f"])
    assert [item.fingerprint for item in repository.list(FindingFilter()).findings] == ["w"]


def test_what_was_superseded_and_is_seen_anew_before_the_state_recovers_is_kept() -> None:
    repository = FindingRepository(open_state())
    repository.record([fragment("f")], NOW_MS)
    repository.record([fragment("f")], NOW_MS + 5_000, superseded=["f"])
    (kept,) = repository.list(FindingFilter()).findings
    assert (kept.fingerprint, kept.active, kept.occurrences) == ("f", True, 1)
    assert [entry.event for entry in repository.history("f")] == ["opened"]


def test_findings_beyond_the_bound_end_and_are_not_only_dropped() -> None:
    settings = DetectorSettings()
    activity = Activity(settings.runner)
    rates = RequestRates(settings.runner.rate_window_s)
    many = [of_trace(finding(f"k{n}", "cart/"), "ab") for n in range(5_001)]
    activity.observe_traces(many[:1], rates, settings.priority, NOW_MS)
    changes = activity.observe_traces(many[1:], rates, settings.priority, NOW_MS + 1_000)
    assert [one.fingerprint for one in changes if not one.active] == ["k0"]
    assert "k0" in activity.episodes


def test_a_request_whose_own_span_is_late_is_found_once() -> None:
    shop = Watched()
    shop.arrive(shop.rest, 0)
    assert shop.told == [("shop", True, 1, False)]
    shop.arrive([shop.root], 10)
    assert shop.told == [("products/", True, 1, True)]


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
