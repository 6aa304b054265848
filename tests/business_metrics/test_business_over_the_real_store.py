"""The business metrics over the real store, the real engine and a real state database."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from business_metrics.evaluation import BusinessEvaluator
from business_metrics.model import KpiReading
from business_metrics.repository import BreachRepository
from business_metrics.settings import BusinessSettings
from store.model import EVENT_SCHEMA, Batch, EventBatch
from store.promql.engine import Engine
from store.testing import open_state, open_store
from tests.business_metrics.simulated_shop import MINUTE_MS, NOW_MS, event, poisson

_PATIENCE_S = 120


class Patient:
    """An Appender that answers once a batch is durable.

    A tick waits for its samples for some seconds only; the first append of a process may compile
    the store's kernels meanwhile.
    """

    def __init__(self, store: Any) -> None:
        self._store = store

    def append(self, batch: Batch) -> Future[None]:
        durable: Future[None] = self._store.append(batch)
        durable.result(timeout=_PATIENCE_S)
        return durable


class House:
    """A store, a state database, and the evaluator over both."""

    def __init__(self, store: Any, sessions: Any) -> None:
        self.store, self.sessions = store, sessions
        self.restart()

    def restart(self) -> None:
        self.evaluator = BusinessEvaluator(
            self.store,
            Engine(self.store),
            Patient(self.store),
            BusinessSettings(),
            BreachRepository(self.sessions),
        )

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Append rows; each gets an id of its own."""
        full = [event(**row) for row in rows]
        for row in full:
            del row["seq"]
            row["event_id"] = f"{row['type']}-{row['checkout_id']}-{row['ts_ms']}"
        table = pa.Table.from_pylist(full, schema=EVENT_SCHEMA)
        Patient(self.store).append(EventBatch(table))

    def sell(self, start_ms: int, minutes: int, rate: float, seed: int = 1) -> None:
        rng = np.random.default_rng(seed)
        ts = np.sort(poisson(rng, start_ms, start_ms + minutes * MINUTE_MS, rate)).tolist()
        self.add(
            [
                {"type": "purchase", "ts_ms": at, "checkout_id": f"{seed}-{n}", "amount": "50.00"}
                for n, at in enumerate(ts)
            ]
        )

    def read(self, now_ms: int, kpi: str = "order_rate") -> KpiReading:
        tick = self.evaluator.tick(now_ms)
        assert all(unit.ok for unit in tick.health), tick.health
        return next(r for r in tick.readings if r.kpi == kpi)

    def breaches(self, kpi: str = "order_rate") -> list[tuple[int, int | None]]:
        repository = BreachRepository(self.sessions)
        return [(b.start_ms, b.end_ms) for b in repository.breaches(kpi, 0)]


@pytest.fixture
def house() -> Iterator[House]:
    with built() as found:
        yield found


@contextmanager
def built() -> Iterator[House]:
    sessions = open_state()
    with open_store() as store:
        yield House(store, sessions)
    sessions.kw["bind"].dispose()


def test_an_open_breach_neither_repeats_nor_vanishes_over_restarts(house: House) -> None:
    house.sell(NOW_MS - 60 * MINUTE_MS, 60, 60)
    assert not house.read(NOW_MS).breached
    first = next(
        found
        for now_ms in range(NOW_MS + 5_000, NOW_MS + MINUTE_MS, 5_000)
        if (found := house.read(now_ms)).breached
    )
    assert first.at_ms - NOW_MS <= 35_000
    for stop_s in (30, 400, 4_000):
        house.restart()
        later = house.read(NOW_MS + stop_s * 1_000)
        assert later.breached
        assert (later.since_ms, later.severity) == (first.since_ms, first.severity)
    assert len(house.breaches()) == 1
    back_ms = NOW_MS + 4_020_000
    house.sell(back_ms, 10, 60, seed=2)
    states = [house.read(t).breached for t in range(back_ms, back_ms + 10 * MINUTE_MS, 5_000)]
    assert not states[-1]
    assert sum(a != b for a, b in itertools.pairwise(states)) == 1
    ((start_ms, end_ms),) = house.breaches()
    assert start_ms == first.since_ms
    assert end_ms is not None


def test_events_are_counted_once_however_they_are_read(house: House) -> None:
    house.sell(NOW_MS - 5 * MINUTE_MS, 5, 60)
    before = house.read(NOW_MS, "orders_per_minute").value
    assert before
    house.add(
        [{"type": "purchase", "ts_ms": NOW_MS + 1_000, "checkout_id": "x", "amount": "5"}] * 2
    )
    house.add([{"type": "purchase", "ts_ms": NOW_MS + 1_000, "checkout_id": "x", "amount": "5"}])
    after = house.read(NOW_MS + 2_000, "average_order_value")
    house.restart()
    assert house.read(NOW_MS + 2_000, "average_order_value").value == after.value


def test_a_late_purchase_corrects_the_cohort(house: House) -> None:
    start_ms = NOW_MS - 50 * MINUTE_MS
    house.add(
        [
            {"type": "begin_checkout", "ts_ms": start_ms + n, "checkout_id": f"c{n}"}
            for n in range(100)
        ]
    )
    assert house.read(NOW_MS, "checkout_abandonment").value == 1.0
    house.add(
        [
            {"type": "purchase", "ts_ms": NOW_MS, "checkout_id": f"c{n}", "amount": "5"}
            for n in range(70)
        ]
    )
    found = house.read(NOW_MS + 5_000, "checkout_abandonment")
    assert found.value == pytest.approx(0.3)
    assert not found.breached


def test_refunds_are_subtracted_from_revenue_but_are_no_missing_orders(house: House) -> None:
    house.add(
        [
            {"type": "purchase", "ts_ms": NOW_MS - 30_000, "checkout_id": "a", "amount": "80.25"},
            {"type": "purchase", "ts_ms": NOW_MS - 20_000, "checkout_id": "b", "amount": "20.00"},
            {"type": "refund", "ts_ms": NOW_MS - 10_000, "checkout_id": "a", "amount": "30.25"},
        ]
    )
    assert house.read(NOW_MS, "revenue_per_minute").value == 70.0
    assert house.read(NOW_MS, "orders_per_minute").value == 2.0
    assert house.read(NOW_MS, "average_order_value").value == 50.12
    (point,) = house.evaluator.orders(NOW_MS - MINUTE_MS, NOW_MS, MINUTE_MS).points
    assert (point.orders, point.revenue) == (2, Decimal("70.00"))


def test_hours_before_a_shop_began_are_not_orders_that_are_lost(house: House) -> None:
    """The shop is two hours old and sells evenly; asked for is a whole week."""
    house.sell(NOW_MS - 120 * MINUTE_MS, 120, 5)
    house.read(NOW_MS)
    answer = house.evaluator.orders(NOW_MS - 7 * 1_440 * MINUTE_MS, NOW_MS, 60 * MINUTE_MS)
    assert all(point.expected_orders is None for point in answer.points[:-2])
    assert all(
        point.expected_orders == pytest.approx(point.orders, rel=0.2)
        for point in answer.points[-2:]
    )
    assert answer.revenue_at_risk is not None
    assert answer.revenue_at_risk.amount < sum(p.revenue for p in answer.points) / 4
    young = house.evaluator.orders(NOW_MS - 2 * 60 * MINUTE_MS, NOW_MS, 60 * MINUTE_MS)
    assert young.revenue_at_risk is not None
    assert answer.revenue_at_risk.amount == pytest.approx(young.revenue_at_risk.amount, abs=300)


def test_failing_payments_are_a_ticket_once_and_over_a_restart(house: House) -> None:
    for minute in range(-5, 5):
        kind = "payment_failed" if 0 <= minute < 2 else "purchase"
        house.add(
            [
                {
                    "type": kind,
                    "ts_ms": NOW_MS + minute * MINUTE_MS + n * 1_000,
                    "checkout_id": f"{minute}-{n}",
                    "amount": "5",
                }
                for n in range(60)
            ]
        )
    states = []
    for now_ms in range(NOW_MS - MINUTE_MS, NOW_MS + 5 * MINUTE_MS, 5_000):
        found = house.read(now_ms, "payment_success")
        states.append(found.breached)
        assert found.severity == ("ticket" if found.breached else "")
        if now_ms == NOW_MS + MINUTE_MS:
            assert found.breached
            assert found.reason == "60 of 60 payments failed in the last 60 s"
            house.restart()
    assert sum(a != b for a, b in itertools.pairwise(states)) == 2
    assert not states[-1]
    assert len(house.breaches("payment_success")) == 1


@pytest.mark.slow
def test_the_time_of_a_tick_with_a_hundred_thousand_events(house: House) -> None:
    count = 100_000
    ts = np.linspace(NOW_MS - 60 * MINUTE_MS, NOW_MS, count).astype(np.int64)
    row = event(type="purchase", ts_ms=0, amount="50.00", session_id="s", device="mobile")
    columns = {
        field.name: pa.array([row[field.name]], field.type).take(
            pa.array(np.zeros(count, dtype=np.int64))
        )
        for field in EVENT_SCHEMA
    }
    columns |= {"ts_ms": pa.array(ts), "received_ms": pa.array(ts)}
    columns["event_id"] = pa.array([f"e{n}" for n in range(count)])
    columns["checkout_id"] = pa.array([f"c{n // 2}" for n in range(count)])
    columns["type"] = pa.array(["begin_checkout", "purchase"] * (count // 2))
    Patient(house.store).append(EventBatch(pa.table(columns, schema=EVENT_SCHEMA)))
    begun = time.perf_counter()
    house.read(NOW_MS)
    print(f"first tick {(time.perf_counter() - begun) * 1_000:.0f} ms")
    took = []
    tick = house.evaluator.tick(NOW_MS)
    for n in range(1, 13):
        house.sell(NOW_MS + n * 5_000 - 5_000, 1, 10, seed=n)
        begun = time.perf_counter()
        tick = house.evaluator.tick(NOW_MS + n * 5_000)
        took.append((time.perf_counter() - begun) * 1_000)
        assert all(unit.ok for unit in tick.health)
    parts = ", ".join(f"{unit.unit} {unit.duration_s * 1_000:.1f}" for unit in tick.health)
    print(f"later ticks: median {np.median(took):.1f} ms, worst {max(took):.1f} ms ({parts})")
