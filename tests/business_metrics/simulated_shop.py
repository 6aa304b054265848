"""A simulated shop around the evaluator: a log of events, a fixed clock, a memory."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from business_metrics.evaluation import BusinessEvaluator, BusinessTick
from business_metrics.memory import Breach
from business_metrics.model import KpiReading
from business_metrics.settings import BusinessSettings
from store.model import EVENT_READ_SCHEMA, Batch, InstantVector, RangeMatrix, SampleBatch

NOW_MS = 1_795_000_000_000 // 60_000 * 60_000
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
WEEK_MS = 7 * DAY_MS


class Log:
    """An EventReader over a list of events; what is later than the clock is not there yet."""

    def __init__(self, table: pa.Table | None = None) -> None:
        self.table = table if table is not None else EVENT_READ_SCHEMA.empty_table()
        self.now_ms = NOW_MS
        self.error: Exception | None = None
        self._cached: tuple[pa.Table | None, dict[str, np.ndarray]] = (None, {})

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        first = self.table.num_rows
        full = [event(**row) | {"seq": first + i + 1} for i, row in enumerate(rows)]
        self.table = pa.concat_tables(
            [self.table, pa.Table.from_pylist(full, schema=EVENT_READ_SCHEMA)]
        )

    def add_orders(self, ts_ms: np.ndarray, amount: str = "50.00", **values: Any) -> None:
        """Orders at these instants, as columns."""
        ts_ms = np.sort(ts_ms.astype(np.int64))
        count, first = len(ts_ms), self.table.num_rows
        plain = event(type="purchase", ts_ms=0, amount=amount, **values)
        columns: dict[str, Any] = {
            field.name: pa.array([plain[field.name]], field.type).take(
                pa.array(np.zeros(count, dtype=np.int64))
            )
            for field in EVENT_READ_SCHEMA
            if field.name != "seq"
        }
        columns |= {"ts_ms": ts_ms, "received_ms": ts_ms}
        columns["seq"] = np.arange(first + 1, first + count + 1)
        self.table = pa.concat_tables([self.table, pa.table(columns, schema=EVENT_READ_SCHEMA)])

    def events(
        self, start_ms: int, end_ms: int, *, types: Sequence[str] = (), columns: Sequence[str] = ()
    ) -> pa.Table:
        if self.error:
            raise self.error
        ts = self._column("ts_ms")
        place = np.flatnonzero(
            (ts >= start_ms) & (ts < end_ms) & (self._column("received_ms") <= self.now_ms)
        )
        found = self.table.take(place[np.argsort(ts[place], kind="stable")])
        found = found.filter(pc.field("type").isin(list(types))) if types else found
        return found.select(list(columns)) if columns else found

    def events_after(self, seq: int, *, limit: int = 100_000) -> pa.Table:
        """As the store's: rows in the order of their numbers, up to what has arrived."""
        if self.error:
            raise self.error
        due = self._column("received_ms")[seq : seq + limit] <= self.now_ms
        return self.table.slice(seq, len(due) if due.all() else int(np.argmin(due)))

    def _column(self, name: str) -> np.ndarray:
        if self._cached[0] is not self.table:
            columns = {n: self.table[n].to_numpy() for n in ("ts_ms", "received_ms")}
            self._cached = (self.table, columns)
        return self._cached[1][name]


def event(**values: Any) -> dict[str, Any]:
    amount = values.pop("amount", None)
    ts_ms = values["ts_ms"]
    row: dict[str, Any] = {
        "event_id": "e",
        "source": "shop",
        "bot": False,
        "test": False,
        "received_ms": ts_ms,
        "currency": "EUR" if amount else None,
        "amount": None if amount is None else Decimal(amount),
    }
    return {field.name: None for field in EVENT_READ_SCHEMA} | row | values


class Series:
    """A Querier with no series, and an Appender that keeps the batches."""

    def __init__(self) -> None:
        self.batches: list[SampleBatch] = []

    def instant(self, expr: str, ts_ms: int) -> InstantVector:
        return InstantVector((), np.empty(0))

    def range(self, expr: str, start_ms: int, end_ms: int, step_ms: int) -> RangeMatrix:
        steps = np.arange(start_ms, end_ms + 1, step_ms)
        nothing = np.empty((0, len(steps)))
        return RangeMatrix((), steps, nothing, nothing.astype(bool))

    def append(self, batch: Batch) -> Future[None]:
        assert isinstance(batch, SampleBatch)
        self.batches.append(batch)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def latest(self) -> dict[str, float]:
        batch = self.batches[-1]
        return {
            labels.metric: value
            for labels, value in zip(batch.series, batch.values.tolist(), strict=True)
            if not labels.get("segment")
        }


class Notes:
    """Remembers breaches as a database would."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int], Breach] = {}

    def breaches(self, kpi: str, since_ms: int) -> list[Breach]:
        return [b for (name, _), b in sorted(self.rows.items()) if name == kpi]

    def save(self, breach: Breach) -> None:
        self.rows[breach.kpi, breach.start_ms] = breach


class Shop:
    """The evaluator with its surroundings."""

    def __init__(self, log: Log, **settings: Any) -> None:
        self.log, self.series, self.notes = log, Series(), Notes()
        self.settings = BusinessSettings(**settings)
        self.restart()

    def restart(self) -> None:
        self.evaluator = BusinessEvaluator(
            self.log, self.series, self.series, self.settings, self.notes
        )

    def tick(self, now_ms: int) -> BusinessTick:
        self.log.now_ms = now_ms
        tick = self.evaluator.tick(now_ms)
        assert all(h.ok for h in tick.health), tick.health
        return tick

    def orders(self, now_ms: int) -> KpiReading:
        return reading(self.tick(now_ms), "order_rate")

    def breaches(self, start_ms: int, end_ms: int, step_ms: int = 5_000) -> list[tuple[int, bool]]:
        """Each change of the order rule, with its instant."""
        changes: list[tuple[int, bool]] = []
        for now_ms in range(start_ms, end_ms, step_ms):
            breached = self.orders(now_ms).breached
            if breached is not (changes[-1][1] if changes else False):
                changes.append((now_ms, breached))
        return changes


def reading(tick: BusinessTick, kpi: str) -> KpiReading:
    return next(r for r in tick.readings if r.kpi == kpi)


def poisson(rng: np.random.Generator, start_ms: int, end_ms: int, rate: Any) -> np.ndarray:
    """Instants of orders; `rate` a minute, a number or a function of the instants' minutes."""
    minutes = np.arange(start_ms, end_ms, MINUTE_MS)
    rates = rate(minutes) if callable(rate) else np.full(len(minutes), float(rate))
    counts = rng.poisson(rates)
    found: np.ndarray = np.repeat(minutes, counts) + rng.integers(0, MINUTE_MS, counts.sum())
    return found


def weeks(rate: Any, count: int = 2, seed: int = 1) -> Log:
    log = Log()
    rng = np.random.default_rng(seed)
    log.add_orders(poisson(rng, NOW_MS - count * WEEK_MS - HOUR_MS, NOW_MS, rate))
    return log


def go_on(log: Log, minutes: int, rate: Any, start_ms: int = NOW_MS, seed: int = 2) -> None:
    rng = np.random.default_rng(seed)
    log.add_orders(poisson(rng, start_ms, start_ms + minutes * MINUTE_MS, rate))
