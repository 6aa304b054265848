"""Every business figure at one tick: counted, judged, recorded. Each unit fails alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import structlog

from business_metrics import queries, recording
from business_metrics.abandonment import Abandonment
from business_metrics.at_risk import missing, usual_order
from business_metrics.baseline import Baseline
from business_metrics.checkout_table import CheckoutTable
from business_metrics.checkout_watch import CheckoutWatch
from business_metrics.days_sold import DaysSold
from business_metrics.earlier_figures import figure_at
from business_metrics.events import EventFeed
from business_metrics.expectation import NOTHING_EXPECTED
from business_metrics.funnel import FunnelStep
from business_metrics.memory import BreachMemory, ForgetfulMemory
from business_metrics.minute_history import MINUTE_MS
from business_metrics.model import KpiReading
from business_metrics.order_reading import KPI as ORDER_RATE
from business_metrics.order_reading import OrdersNow
from business_metrics.order_watch import OrderWatch
from business_metrics.pacing import Pace, Pacer
from business_metrics.past_orders import PastOrders
from business_metrics.payment_watch import PaymentWatch
from business_metrics.queries import NoRequests, Orders, Step
from business_metrics.sales_figures import SalesFigures
from business_metrics.session_table import SessionTable
from business_metrics.settings import BusinessSettings
from store.errors import WarroomError
from store.model import SampleBatch, UnitHealth
from store.ports import Appender, EventReader, Querier, RequestReader

_log = structlog.get_logger()
_APPEND_TIMEOUT_S = 10.0
_SPARE_S = 600
# Whole days of a week, in part at both ends, when summer time ends.
_MAX_EXPECTED_MIN = 8 * 1_440 + 60
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class BusinessTick:
    """What one tick found: the readings, and how each unit fared."""

    readings: tuple[KpiReading, ...]
    health: tuple[UnitHealth, ...]


class BusinessEvaluator:
    """The business metrics of one shop. Ticks and queries may come from several threads."""

    def __init__(
        self,
        events: EventReader,
        querier: Querier,
        appender: Appender,
        settings: BusinessSettings,
        memory: BreachMemory | None = None,
        requests: RequestReader | None = None,
    ) -> None:
        self._reader = events
        self._requests = requests or NoRequests()
        self._appender = appender
        self._settings = settings
        # A hunt that began before what is kept shows a false start for one timeout at most.
        judged_s = 2 * settings.checkout_timeout_s + max(settings.abandonment_window_s, 3_600)
        keep_s = judged_s + _SPARE_S
        history_days = settings.baseline_weeks * 7 + 2
        checkouts, visits = CheckoutTable(), SessionTable(settings.checkout_timeout_s)
        self._feed = EventFeed(
            events,
            settings.currency,
            settings.exchange_rates,
            history_days=history_days,
            keep_s=keep_s,
            tables=(checkouts, visits),
        )
        self._past = PastOrders(querier, self._feed, settings)
        self._baseline = Baseline(self._feed.history, settings)
        self._memory = memory or ForgetfulMemory()
        self._orders = OrderWatch(self._feed, self._baseline, settings, self._memory)
        self._checkouts = CheckoutWatch(checkouts, settings, self._memory)
        self._payments = PaymentWatch(self._feed, settings, self._memory)
        self._sales = SalesFigures(self._feed, visits, settings)
        self._days = DaysSold(events, self._feed, settings)
        self._pacer = Pacer(self._days, self._baseline, settings)
        self._breached: dict[str, KpiReading] = {}
        self._lock = threading.Lock()
        # What is read of old days holds up no tick.
        self._reading = threading.Lock()

    @property
    def currency(self) -> str:
        """The store's currency."""
        return self._settings.currency

    def tick(self, now_ms: int) -> BusinessTick:
        """Take in what came, judge it at one instant, and record the series."""
        with self._lock:
            return self._tick(now_ms)

    def _tick(self, now_ms: int) -> BusinessTick:
        units = _Units(now_ms)
        pulled = units.run("events", lambda: self._pull(now_ms))
        if pulled is None:
            # Without events every count would look like a drop: nothing is judged, what held holds.
            held = tuple(replace(reading, at_ms=now_ms) for reading in self._breached.values())
            return BusinessTick(held, tuple(units.health))
        orders = units.run("order_rate", lambda: self._orders.tick(now_ms))
        checkouts = units.run("checkout_abandonment", lambda: self._checkouts.tick(now_ms))
        payments = units.run("payment_success", lambda: self._payments.tick(now_ms))
        sales = units.run("sales", lambda: self._sales.tick(now_ms))
        readings = [*(checkouts or ()), *([payments] if payments else ()), *(sales or ())]
        if orders is not None:
            readings.insert(0, orders.reading)
        if self._feed.heard_before(now_ms + 1) is None:
            # Nothing ever arrived: no orders is then no data, not a zero.
            orders = None
        if orders is not None:
            readings += _money_readings(orders, self._settings, now_ms)
        self._breached = {reading.kpi: reading for reading in readings if reading.breached}
        units.run("recording", lambda: self._record(orders, readings, now_ms))
        return BusinessTick(tuple(readings), tuple(units.health))

    def _pull(self, now_ms: int) -> int:
        taken = self._feed.pull(now_ms)
        self._past.fill(now_ms)
        return taken

    def _record(self, orders: OrdersNow | None, readings: Sequence[KpiReading], now_ms: int) -> int:
        segments = self._checkouts.segments
        worth = usual_order(self._feed.history, self._undisturbed_ms(now_ms))
        rows = recording.rows((orders, worth), readings, segments, self._settings, now_ms)
        if rows:
            batch = SampleBatch.of_rows(rows)
            self._appender.append(batch).result(timeout=_APPEND_TIMEOUT_S)
        return len(rows)

    def _undisturbed_ms(self, now_ms: int) -> int:
        """Until when orders tell what is usual: while they are missing, until then."""
        told = self._breached.get(ORDER_RATE)
        return now_ms if told is None else told.since_ms or now_ms

    def orders(self, start_ms: int, end_ms: int, step: Step) -> Orders:
        """Orders and revenue by step, with what was expected up to the last tick.

        `step` is in milliseconds, or `day` for the store's own days.

        Raises:
            BadInput: The range or the step makes no sense, or gives too many points.
        """
        edges = queries.order_edges(start_ms, end_ms, step, self._settings.zone)
        start, end = edges[0] // MINUTE_MS, -(-edges[-1] // MINUTE_MS)
        expectation, collected = NOTHING_EXPECTED, np.empty(0, dtype=np.bool_)
        # What is still to come is not missing, and says nothing of today's level.
        with self._lock:
            # Both of one tick: the next may come while the events are read.
            as_of_ms, told = self._checkouts.as_of_ms, self._breached.get(ORDER_RATE)
        until_ms = min(as_of_ms or edges[-1], edges[-1])
        until = -(-until_ms // MINUTE_MS)
        if start < until and end - start <= _MAX_EXPECTED_MIN:
            with self._lock:
                level_until = self._orders.undisturbed_until(until)
                expectation, known = self._baseline.where_known(
                    (start, end), level_until, self._orders.excluded
                )
                collected = self._feed.history.collected(start, end) & known
            collected[until - start :] = False
        table = queries.sold(self._reader, edges[0], edges[-1])
        span = edges, queries.DAY_MS if step == "day" else step, until_ms
        breaches = self._memory.breaches(ORDER_RATE, edges[0])
        past = self._feed.history, missing(breaches, told, edges[0], until_ms)
        return queries.orders(table, span, expectation, collected, self._settings, past)

    def funnel(self, start_ms: int, end_ms: int, segment: str = "") -> tuple[FunnelStep, ...]:
        """The funnel of the sessions in a range; `segment` as in `device:mobile`.

        Raises:
            BadInput: The range or the segment is not understood.
        """
        queries.check_range(start_ms, end_ms, end_ms - start_ms, 1)
        return queries.funnel(self._reader, start_ms, end_ms, segment)

    def abandonment(self, start_ms: int, end_ms: int, step: Step, by: str = "") -> Abandonment:
        """Cohorts of checkouts by start, as of the last tick; `by` a segment, or `cause`.

        `step` is in milliseconds, or `day` for the store's own days.

        Raises:
            BadInput: The range, the step or `by` is not understood.
        """
        edges = queries.cohort_edges(start_ms, end_ms, step, self._settings.zone)
        readers = (self._reader, self._requests)
        return queries.abandonment(
            readers, edges, by, self._as_of(end_ms), self._settings.slow_page_s
        )

    def search_abandonment(
        self, start_ms: int, end_ms: int, step: Step, by: str = ""
    ) -> Abandonment:
        """Cohorts of searches by start, as of the last tick; `step` as of `abandonment`.

        Raises:
            BadInput: The range, the step or `by` is not understood.
        """
        edges = queries.cohort_edges(start_ms, end_ms, step, self._settings.zone)
        return queries.search_abandonment(self._reader, edges, by, self._as_of(end_ms))

    def pace(self, now_ms: int) -> Pace:
        """How the store's day goes, and where it will end."""
        with self._reading:
            self._days.prepare(self._pacer.days_of(now_ms), self._checkouts.as_of_ms)
        with self._lock:
            return self._pacer.pace(now_ms, tuple(self._orders.excluded))

    def figure_at(self, kpi: str, at_ms: int) -> float | None:
        """A KPI at an earlier instant, of which only events may be known; None where too few."""
        return figure_at(self._reader, kpi, at_ms, self._settings)

    def _as_of(self, end_ms: int) -> tuple[int, int]:
        return self._checkouts.as_of_ms or end_ms, self._settings.checkout_timeout_s


def _money_readings(
    orders: OrdersNow, settings: BusinessSettings, now_ms: int
) -> tuple[KpiReading, ...]:
    now = KpiReading(
        kpi="orders_per_minute",
        at_ms=now_ms,
        value=orders.orders_per_minute,
        unit="orders/min",
        expected=orders.expected_per_minute,
        low=orders.low,
        high=orders.high,
        window_s=60,
    )
    revenue = KpiReading(
        kpi="revenue_per_minute",
        at_ms=now_ms,
        value=float(orders.revenue_per_minute),
        unit=f"{settings.currency}/min",
        currency=settings.currency,
        window_s=60,
    )
    return now, revenue


class _Units:
    """Runs units so that each fails alone, and keeps their health."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms
        self.health: list[UnitHealth] = []

    def run(self, name: str, work: Callable[[], _T]) -> _T | None:
        started = time.perf_counter()
        error, result = "", None
        try:
            result = work()
        except (WarroomError, TimeoutError) as exc:
            error = f"{type(exc).__name__}: {exc}"
        except Exception as exc:  # noqa: BLE001  # a unit fails alone; its health says so
            error = f"{type(exc).__name__}: {exc}"
            _log.exception("business_unit_failed", unit=name)
        duration_s = time.perf_counter() - started
        self.health.append(
            UnitHealth(f"business:{name}", not error, self._now_ms, duration_s, error)
        )
        return result
