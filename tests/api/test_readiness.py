"""Readiness: headroom told from use against load, stages against SLOs, and the checklist."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.on_call.model import OnCall, Policy, Step, User
from alerts.route_tree import ESCALATION, Integration, Receiver
from alerts.routing import default_routing
from api.readiness.capacity import Headroom, Verdict, headroom
from api.readiness.checklist import Facts, State, checklist
from api.readiness.resources import capacity_json
from api.readiness.stages import load_tests_json
from business_metrics.calendar import SaleDay
from store.model import Labels
from store.promql.engine import Engine
from store.promql.testing import MemoryReader
from store.timestamps import rfc3339
from tests.warroom.world import SLO, World, open_world
from warroom.looking_back import ways_to_try

HOUR_MS = 3_600_000
NOW_MS = 1_790_000_000_000
Array = npt.NDArray[np.float64]
DAY = np.concatenate([np.linspace(10, 100, 144), np.linspace(100, 10, 144)])


def noisy(values: Array, seed: int, size: float) -> Array:
    return values + np.random.default_rng(seed).normal(0, size, len(values))


def _figures(told: Headroom) -> tuple[float, float, float]:
    assert told.low is not None
    assert told.capacity is not None
    assert told.high is not None
    return told.low, told.capacity, told.high


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.001, 0.005), st.floats(0.0, 0.2))
def test_a_line_with_noise_is_followed_to_its_limit(seed: int, slope: float, base: float) -> None:
    told = headroom(DAY, noisy(base + slope * DAY, seed, 0.01), 0.9, usual_peak=100.0)
    truth = (0.9 - base) / slope
    assert told.verdict is Verdict.PREDICTED
    low, capacity, high = _figures(told)
    assert low <= capacity <= high
    assert capacity == pytest.approx(truth, rel=0.05)
    assert told.multiple == pytest.approx(capacity / 100.0)
    assert told.far is (capacity > 200.0)


def test_more_noise_is_more_doubt_and_the_same_data_the_same_answer() -> None:
    use = 0.1 + 0.003 * DAY
    calm = headroom(DAY, noisy(use, 7, 0.005), 0.9, 100.0)
    wild = headroom(DAY, noisy(use, 7, 0.05), 0.9, 100.0)
    assert calm == headroom(DAY, noisy(use, 7, 0.005), 0.9, 100.0)
    calm_low, _, calm_high = _figures(calm)
    wild_low, _, wild_high = _figures(wild)
    assert wild_high - wild_low > 3 * (calm_high - calm_low)


@pytest.mark.parametrize(
    ("load", "use", "verdict"),
    [
        (DAY, np.full(288, np.nan), Verdict.NO_DATA),
        (DAY, np.where(np.arange(288) < 285, 0.95, np.nan), Verdict.STALE),
        (DAY[:10], 0.003 * DAY[:10], Verdict.TOO_FEW_POINTS),
        (np.full(288, np.nan), 0.003 * DAY, Verdict.TOO_FEW_POINTS),
        (np.full(288, 50.0), noisy(np.full(288, 0.4), 1, 0.02), Verdict.LOAD_TOO_STEADY),
        (DAY, noisy(np.full(288, 0.4), 1, 0.02), Verdict.NOT_DRIVEN_BY_LOAD),
        (DAY, 0.6 - 0.003 * DAY, Verdict.NOT_DRIVEN_BY_LOAD),
        (DAY, np.linspace(0.5, 0.95, 288), Verdict.OVER_LIMIT),
    ],
)
def test_where_nothing_is_proven_no_figure_is_given(
    load: Array, use: Array, verdict: Verdict
) -> None:
    told = headroom(load, use, 0.9, 100.0)
    assert told.verdict is verdict
    assert told.capacity is None
    assert told.multiple is None


def test_the_bottleneck_is_the_resource_that_is_full_first() -> None:
    reader = MemoryReader()
    times = [NOW_MS - 24 * HOUR_MS + i * 60_000 for i in range(24 * 60 + 1)]
    load = np.interp(np.arange(len(times)), np.arange(288) * 5, DAY)
    counter = np.cumsum(load * 60)
    reader.put(
        Labels.of({"__name__": "http_server_request_duration_seconds_count"}), times, counter
    )
    slopes = {"sig:host_cpu:used_ratio": 0.002, "sig:mysql_connections:used_ratio": 0.006}
    for metric, slope in slopes.items():
        use = noisy(0.05 + slope * load, 3, 0.01)
        reader.put(Labels.of({"__name__": metric, "instance": "db-1"}), times, use)
    told = capacity_json(Engine(reader), NOW_MS, 24 * HOUR_MS)
    first = told["bottleneck"]
    assert first["kind"] == "MySQL connections"
    assert first["capacity"] == pytest.approx((0.85 - 0.05) / 0.006, rel=0.1)
    assert first["low"] < first["capacity"] < first["high"]
    assert first["could_also_be"] == []
    assert [r["kind"] for r in told["resources"]] == ["MySQL connections", "CPU"]
    assert told["throughput"]["highest"] == pytest.approx(100, rel=0.1)


def _stage(multiple: float, start: int, end: int) -> dict[str, object]:
    return {"multiple": multiple, "from": rfc3339(start), "to": rfc3339(end)}


def test_a_stage_is_judged_by_what_was_measured_in_it_alone() -> None:
    reader = MemoryReader()
    labels = {"sloth_id": "shop-checkout", "sloth_service": "shop", "sloth_slo": "checkout"}
    begin = NOW_MS - HOUR_MS
    times = [begin + i * 15_000 for i in range(241)]
    # Windows of five minutes: what the second stage broke is still seen in the third.
    errors = [0.05 if 1200 < i * 15 < 2400 + 300 else 0.001 for i in range(241)]
    name = "slo:sli_error:ratio_rate5m"
    reader.put(Labels.of({"__name__": name, **labels}), times, errors)
    stages = [
        _stage(m, begin + i * 1_200_000, begin + (i + 1) * 1_200_000)
        for i, m in enumerate((1, 5, 15))
    ]
    test = {"id": "t", "name": "k6", "stages": stages, "started_at": None, "ended_at": None}
    slos = [{"service": "shop", "name": "checkout", "objective": 0.99}]
    (told,) = load_tests_json(Engine(reader), [test], slos)
    assert [stage["held"] for stage in told["stages"]] == [True, False, True]
    assert told["stages"][2]["slos"][0]["error_ratio"] == pytest.approx(0.001)
    assert told["held_up_to"] == 1  # what held after a lower stage failed is no proof
    (blind,) = load_tests_json(Engine(MemoryReader()), [test], slos)
    assert [stage["held"] for stage in blind["stages"]] == [None, None, None]
    assert blind["held_up_to"] is None


def test_the_requests_of_a_short_stage_are_its_own() -> None:
    reader = MemoryReader()
    begin = NOW_MS - HOUR_MS
    rates = [1.0] * 81 + [10.0] * 20 + [30.0] * 20  # two seconds each: the stages last 40 s
    times = [begin + i * 2_000 for i in range(len(rates))]
    name = "http_server_request_duration_seconds_count"
    reader.put(Labels.of({"__name__": name}), times, np.cumsum(np.array(rates) * 2))
    cuts = [begin + i * 2_000 for i in (60, 80, 100, 120)]
    stages = [_stage(m, cuts[i], cuts[i + 1]) for i, m in enumerate((1, 10, 30))]
    test = {"id": "t", "name": "demo", "stages": stages, "started_at": None, "ended_at": None}
    (told,) = load_tests_json(Engine(reader), [test], [])
    measured = [stage["requests_per_second"] for stage in told["stages"]]
    assert measured == pytest.approx([1.0, 10.0, 30.0], rel=0.15)


def test_what_is_usual_is_not_told_by_minutes_and_now_counts_as_seen() -> None:
    reader = MemoryReader()
    times = [NOW_MS - 600_000 + i * 10_000 for i in range(61)]
    name = "http_server_request_duration_seconds_count"
    reader.put(Labels.of({"__name__": name}), times, [i * 170.0 for i in range(61)])
    throughput = capacity_json(Engine(reader), NOW_MS, 24 * HOUR_MS)["throughput"]
    assert throughput["now"] == pytest.approx(17.0)
    assert throughput["usual_peak"] is None
    assert throughput["highest"] >= throughput["now"]


def _test_of(days_ago: int, held_up_to: float | None, **more: object) -> dict[str, object]:
    ended = datetime.fromtimestamp(NOW_MS / 1000, UTC) - timedelta(days=days_ago)
    return {"ended_at": ended.isoformat(), "held_up_to": held_up_to, "stages": [], **more}


HELD = _test_of(1, 15.0)
READY = Facts(
    now_ms=NOW_MS,
    slos=[{"name": "checkout", "state": "ok"}],
    receivers=["on-call"],
    drilled={"on-call": NOW_MS - HOUR_MS},
    sources=[{"name": "otlp", "state": "ok"}],
    deadman=True,
    backup_ms=NOW_MS - HOUR_MS,
    on_disk=True,
    rollup_ms=400 * 24 * HOUR_MS,
    events_ms=400 * 24 * HOUR_MS,
    last_sale=SaleDay("Black Friday", date(2025, 11, 28), date(2025, 11, 28)),
    last_sale_ms=NOW_MS - 300 * 24 * HOUR_MS,
    next_sale=SaleDay("Black Friday", date(2026, 11, 27), date(2026, 11, 27)),
    load_tests=[HELD],
    target_multiple=15.0,
)


def test_when_all_is_well_every_line_is_done() -> None:
    assert {item.state for item in checklist(READY)} == {State.OK}


@pytest.mark.parametrize(
    ("line", "facts"),
    [
        ("slos", replace(READY, slos=[])),
        ("slos", replace(READY, slos=[{"name": "a", "state": "no_data"}])),
        ("sources", replace(READY, sources=[{"name": "a", "state": "late"}])),
        ("sources", replace(READY, sources=[])),
        ("routes", replace(READY, drilled={"on-call": NOW_MS - 25 * HOUR_MS})),
        ("routes", replace(READY, receivers=["on-call", "tickets"])),
        ("routes", replace(READY, receivers=[])),
        ("deadman", replace(READY, deadman=False)),
        ("load_test", replace(READY, load_tests=[])),
        ("load_test", replace(READY, load_tests=[_test_of(1, 5.0)])),
        ("load_test", replace(READY, load_tests=[_test_of(1, 5.0), _test_of(20, 15.0)])),
        ("load_test", replace(READY, load_tests=[_test_of(31, 15.0)])),
        (
            "load_test",
            replace(READY, load_tests=[_test_of(1, None, stages=[{"held": False}])]),
        ),
        ("calendar", replace(READY, next_sale=None)),
        ("retention", replace(READY, rollup_ms=200 * 24 * HOUR_MS)),
        ("retention", replace(READY, events_ms=200 * 24 * HOUR_MS)),
        ("backup", replace(READY, backup_ms=None)),
        ("backup", replace(READY, backup_ms=NOW_MS - 8 * 24 * HOUR_MS)),
    ],
)
def test_what_is_missing_is_to_do_and_says_how_to_mend_it(line: str, facts: Facts) -> None:
    open_items = [item for item in checklist(facts) if item.state is not State.OK]
    assert [item.id for item in open_items] == [line]
    assert open_items[0].state is State.TODO
    assert open_items[0].mend


def test_a_sale_is_told_by_a_name_that_people_read() -> None:
    key = SaleDay("black-friday", date(2026, 11, 27), date(2026, 11, 27))
    told = {item.id: item.fact for item in checklist(replace(READY, next_sale=key, last_sale=key))}
    assert told["calendar"] == "Black Friday on 2026-11-27"
    assert told["retention"].startswith("Black Friday was 300 days ago")
    own = replace(READY, next_sale=replace(key, name="Single’s day iOS"))
    assert "Single’s day iOS on" in {item.id: item.fact for item in checklist(own)}["calendar"]


def test_what_cannot_be_known_is_not_called_done() -> None:
    facts = replace(READY, last_sale=None, last_sale_ms=None, on_disk=False)
    unknown = {item.id for item in checklist(facts) if item.state is State.UNKNOWN}
    assert unknown == {"retention", "backup"}


CALENDAR = """
slo_files: [slo.yml]
business:
  calendar: [{name: Black Friday, first: 2025-11-28}, {name: Black Friday, first: 2026-11-27}]
alerting:
  route: {receiver: on-call}
  receivers: [{name: on-call, webhook_configs: [{url: 'http://127.0.0.1:9/'}]}]
"""


def test_the_service_tells_its_own_readiness(tmp_path: Path) -> None:
    with open_world(tmp_path, CALENDAR, {"slo.yml": SLO}) as world:
        world.evaluate()
        told = world.get("/readiness", multiple=15)
        states = {item["id"]: item["state"] for item in told["checklist"]}
        assert told["ready"] is False
        assert states["calendar"] == "ok"
        assert states["retention"] == "ok"
        assert {states[name] for name in ("slos", "sources", "routes", "load_test")} == {"todo"}
        _load_test(world)
        told = world.get("/readiness", multiple=15)
        assert told["load_tests"][0]["stages"][0]["multiple"] == 15
        assert world.ask("GET", "/api/warroom/v1/readiness?multiple=0").status_code == 400


def _load_test(world: World) -> None:
    end_ms = world.clock.now_ms
    stage = {"multiple": 15, "from": rfc3339(end_ms - HOUR_MS), "to": rfc3339(end_ms)}
    summary = {"metrics": {}, "warroom": {"stages": [stage], "name": "k6"}}
    answer = world.ask("POST", "/api/warroom/v1/loadtests", json=summary)
    assert answer.status_code == 201, answer.text


def test_the_ways_to_try_are_those_of_the_people_behind_a_policy() -> None:
    plan = OnCall(
        users={"ada": User("ada", ("ada-phone", "ada-mail"))},
        policies={
            "shop": Policy("shop", (Step(0, users=("ada",)),)),
            "night": Policy("night", (Step(0),)),
        },
    )
    hook = (Integration("webhook"),)
    receivers = (
        Receiver("on-call", (Integration(ESCALATION),), "shop"),
        Receiver("nobody", (Integration(ESCALATION),), "night"),
        Receiver("ada-phone", hook),
        Receiver("hole"),
    )
    named = {receiver.name: receiver for receiver in receivers}
    routing = replace(default_routing(), receivers=named, on_call=plan)
    assert ways_to_try(routing, NOW_MS) == ["ada-phone", "ada-mail", "nobody"]
