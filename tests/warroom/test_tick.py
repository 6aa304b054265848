from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

import pytest
from structlog.testing import capture_logs

from alerts.engine import AlertEngine
from alerts.model import Alert, AlertState
from alerts.repository import AlertRepository
from alerts.routing import default_routing
from business_metrics.model import KpiReading
from store.errors import StoreUnavailable
from store.model import Labels, UnitHealth
from store.testing import open_state
from warroom.telemetry import SelfMetrics
from warroom.tick import Steps, Ticker

NOW_MS = 1_790_000_000_000
STEPS = ("record", "detect", "burn", "trade", "rules", "sources", "alert")
READING = KpiReading("order_rate", NOW_MS, 60.0, "orders/min")


def alert(source: str) -> Alert:
    labels = Labels.of(alertname=source, severity="page")
    return Alert(labels, {"summary": source}, source=source, unit=f"{source}:one")


class House:
    """A tick whose steps are simple, over the real alert engine."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.engine = AlertEngine(AlertRepository(open_state()), default_routing())
        self.firing: dict[str, bool] = {"rule": True, "finding": True}
        self.steps = Steps(
            record=lambda _now: self.did("record", ()),
            detect=lambda _now: self.did("detect", ((), ())),
            burn=lambda _now: self.did("burn", ((), ())),
            trade=lambda _now: self.did("trade", ((READING,), ())),
            rules=lambda _now: self.did("rules", (self.alerts("rule"), ())),
            sources=lambda _readings: self.did("sources", self.alerts("finding")),
            unknown=lambda _readings, _health: frozenset(),
            alert=self.alert,
        )

    def did(self, step: str, answer: Any) -> Any:
        self.ran.append(step)
        return answer

    def alerts(self, source: str) -> tuple[Alert, ...]:
        return (alert(source),) if self.firing[source] else ()

    def alert(self, now_ms: int, alerts: Any, unknown: frozenset[str]) -> None:
        self.did("alert", None)
        self.engine.tick(now_ms, alerts, unknown_sources=unknown)

    def states(self) -> dict[str, AlertState]:
        return {r.name: r.state for r in self.engine.snapshot().records.values()}

    async def publish(self, now_ms: int) -> None:
        self.ran.append(f"publish {now_ms}")


def fails(error: Exception) -> Callable[..., NoReturn]:
    def fail(*_arguments: object) -> NoReturn:
        raise error

    return fail


def ticker(house: House, **broken: Any) -> Ticker:
    return Ticker(replace(house.steps, **broken), house, SelfMetrics("test"))


def health(tick: Ticker) -> dict[str, UnitHealth]:
    return {unit.unit: unit for unit in tick.readings.health}


def test_a_tick_runs_every_step_in_order_then_delivers_then_shows() -> None:
    house = House()
    told: list[int] = []

    def deliver(now_ms: int) -> None:
        told.append(now_ms)
        house.ran.append("deliver")

    async def run() -> None:
        tick = ticker(house)
        await tick.run(NOW_MS, deliver)
        await tick.shown()

    asyncio.run(run())
    assert house.ran == [*STEPS, "deliver", f"publish {NOW_MS}"]
    assert told == [NOW_MS]


def test_a_tick_waits_for_no_board() -> None:
    house = House()

    class Slow:
        def __init__(self) -> None:
            self.ready = asyncio.Event()

        async def publish(self, now_ms: int) -> None:
            await self.ready.wait()
            await house.publish(now_ms)

    async def run() -> None:
        board = Slow()
        tick = Ticker(house.steps, board, SelfMetrics("test"))
        for later_ms in (0, 5_000):
            await asyncio.wait_for(tick.run(NOW_MS + later_ms, lambda _now: None), 30)
        assert house.ran == [*STEPS, *STEPS]
        board.ready.set()
        await tick.shown()
        assert house.ran[-2:] == [f"publish {NOW_MS}", f"publish {NOW_MS + 5_000}"]
        board.ready.clear()
        await tick.run(NOW_MS + 10_000, lambda _now: None)
        await asyncio.wait_for(tick.close(), 30)

    asyncio.run(run())


def test_boards_that_fail_are_told_and_stop_no_tick() -> None:
    house, metrics = House(), SelfMetrics("test")

    class Broken:
        async def publish(self, now_ms: int) -> None:
            raise StoreUnavailable("no boards")

    async def run() -> None:
        tick = Ticker(house.steps, Broken(), metrics)
        with capture_logs() as logs:
            await tick.run(NOW_MS, lambda _now: None)
            await tick.shown()
        assert [log["event"] for log in logs] == ["boards could not be shown"]

    asyncio.run(run())
    labels = {"unit": "tick/boards"}
    assert metrics.registry.get_sample_value("warroom_unit_healthy", labels) == 0.0


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    "error", [StoreUnavailable("the store is closed"), ZeroDivisionError("oh")], ids=["told", "bug"]
)
def test_each_step_fails_alone(step: str, error: Exception) -> None:
    house = House()
    tick = ticker(house, **{step: fails(error)})
    with capture_logs():
        tick.evaluate(NOW_MS)
    assert house.ran == [name for name in STEPS if name != step]
    told = health(tick)
    assert not told[f"tick/{step}"].ok
    assert str(error) in told[f"tick/{step}"].error
    assert all(told[f"tick/{name}"].ok for name in STEPS if name != step)
    assert told[f"tick/{step}"].at_ms == NOW_MS


def test_readings_of_a_step_that_failed_are_those_of_before() -> None:
    house = House()
    tick = ticker(house)
    tick.evaluate(NOW_MS)
    assert tick.readings.kpis == (READING,)
    broken = ticker(house, trade=fails(StoreUnavailable("closed")))
    broken.readings = tick.readings
    broken.evaluate(NOW_MS + 5_000)
    assert broken.readings.kpis == (READING,)
    assert broken.readings.at_ms == NOW_MS + 5_000


@pytest.mark.parametrize(
    ("step", "source"), [("rules", "rule"), ("detect", "finding"), ("sources", "finding")]
)
def test_alerts_of_a_source_that_failed_neither_resolve_nor_repeat(step: str, source: str) -> None:
    house = House()
    ticker(house).evaluate(NOW_MS)
    assert house.states() == {"rule": AlertState.FIRING, "finding": AlertState.FIRING}
    before = house.engine.snapshot()
    house.firing[source] = False  # what it says now is worth nothing
    ticker(house, **{step: fails(StoreUnavailable("closed"))}).evaluate(NOW_MS + 5_000)
    assert house.states()[source] is AlertState.FIRING
    after = house.engine.snapshot()
    starts = {r.name: r.starts_ms for r in before.records.values()}
    assert {r.name: r.starts_ms for r in after.records.values()} == starts
    assert after.entries == before.entries
    ticker(house).evaluate(NOW_MS + 10_000)
    assert house.states()[source] is AlertState.RESOLVED


def test_a_failure_is_counted_until_the_step_recovers() -> None:
    house = House()
    metrics = SelfMetrics("test")
    Ticker(replace(house.steps, burn=fails(StoreUnavailable("x"))), house, metrics).evaluate(NOW_MS)
    labels = {"unit": "tick/burn"}
    assert metrics.registry.get_sample_value("warroom_unit_healthy", labels) == 0.0
    Ticker(house.steps, house, metrics).evaluate(NOW_MS + 5_000)
    assert metrics.registry.get_sample_value("warroom_unit_healthy", labels) == 1.0
    assert metrics.registry.get_sample_value("warroom_unit_failures_total", labels) == 1.0
