"""Business events as they arrive: orders by minute for weeks, checkouts for hours.

Memory is bounded in days and in rows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from store.model import EVENT_READ_SCHEMA, BoolArray, Int64Array
from store.ports import EventReader

# The stubs of the compute functions know no chunked columns.
pc: Any = pyarrow.compute

MINUTE_MS = 60_000
DAY_MIN = 1_440
UNITS_PER_MONEY = 10_000
# The largest amount that an event may carry.
_MAX_UNITS = 10**17
_DAY_MS = 86_400_000
_COLUMNS = (
    "type",
    "ts_ms",
    "session_id",
    "checkout_id",
    "amount",
    "currency",
    "bot",
    "test",
    "device",
    "channel",
    "country",
    "returning",
    "received_ms",
    "seq",
)
_MAX_BATCHES = 50
_MAX_CHUNKS = 64
_MAX_RECENT_ROWS = 2_000_000
_LATEST_ORDERS = 200
_MAX_LATENESS_MS = 10_000
# What is later than this was held up or written after the fact, and says nothing of the usual way.
_LIVE_MS = 60_000
# A shop may be closed for a long weekend.
_NEAR_DAYS = 3


def genuine(events: pa.Table) -> pa.Table:
    """Without the events of bots and tests."""
    return events.filter(pc.invert(pc.or_(events["bot"], events["test"])))


@cache
def _money_scalars() -> tuple[Any, Any]:
    """Nothing, and the units in one; a decimal scalar costs Arrow a millisecond each time."""
    nothing = pa.scalar(Decimal(0), pa.decimal128(18, 4))
    return nothing, pa.scalar(Decimal(UNITS_PER_MONEY), pa.decimal128(5, 0))


def money_units(
    events: pa.Table, currency: str, exchange_rates: Mapping[str, Decimal] | None = None
) -> Int64Array:
    """Each event's amount in ten-thousandths of `currency`, exact.

    Zero for none, and for a currency that has no rate in `exchange_rates`. A converted amount is
    rounded to the nearest ten-thousandth, halves to even.
    """
    own = pc.or_kleene(pc.is_null(events["currency"]), pc.equal(events["currency"], currency))
    units = _scaled(events, own)
    for code, rate in (exchange_rates or {}).items():
        other = pc.fill_null(pc.equal(events["currency"], code), fill_value=False)
        if pc.any(other).as_py():
            units = units + _converted(_scaled(events, other), rate)
    return units


def _scaled(events: pa.Table, chosen: Any) -> Int64Array:
    nothing, units = _money_scalars()
    amounts = pc.fill_null(pc.if_else(chosen, events["amount"], nothing), nothing)
    scaled = pc.multiply(amounts, units)
    return np.asarray(pc.cast(scaled, pa.int64(), safe=False).to_numpy(), dtype=np.int64)


def _converted(units: Int64Array, rate: Decimal) -> Int64Array:
    """Units of another currency at a rate: whole numbers all the way, however large."""
    distinct, place = np.unique(units, return_inverse=True)
    worth = [
        min(int((int(n) * rate).to_integral_value(ROUND_HALF_EVEN)), _MAX_UNITS) for n in distinct
    ]
    return np.asarray(worth, dtype=np.int64)[place]


def money(units: float) -> Decimal:
    """Ten-thousandths to money, to the cent."""
    return (Decimal(round(units)) / UNITS_PER_MONEY).quantize(Decimal("0.01"))


class MinuteHistory:
    """Orders and revenue of each minute, in days of UTC; the days longest unused go first."""

    def __init__(self, max_days: int) -> None:
        self._max_days = max_days
        self._days: OrderedDict[int, Int64Array] = OrderedDict()
        self._selling: set[int] = set()
        self.first_minute: int | None = None

    def add(self, ts_ms: Int64Array, units: Int64Array) -> None:
        """Count orders at these instants, each with its amount."""
        if not len(ts_ms):
            return
        minutes = ts_ms // MINUTE_MS
        first = int(minutes.min())
        self.first_minute = first if self.first_minute is None else min(self.first_minute, first)
        days = minutes // DAY_MIN
        for day in np.unique(days).tolist():
            here = days == day
            table = self._day(day)
            self._selling.add(day)
            place = minutes[here] - day * DAY_MIN
            np.add.at(table[0], place, 1)
            np.add.at(table[1], place, units[here])

    def replace(self, start_minute: int, rows: Int64Array) -> None:
        """Put orders and money units, two rows, in the place of what is known of these minutes."""
        end_minute = start_minute + rows.shape[1]
        for day in range(start_minute // DAY_MIN, -(-end_minute // DAY_MIN)):
            begin, end = max(start_minute, day * DAY_MIN), min(end_minute, (day + 1) * DAY_MIN)
            self._day(day)[:, begin - day * DAY_MIN : end - day * DAY_MIN] = rows[
                :, begin - start_minute : end - start_minute
            ]

    def _day(self, day: int) -> Int64Array:
        if day not in self._days:
            self._days[day] = np.zeros((2, DAY_MIN), dtype=np.int64)
            if len(self._days) > self._max_days:
                gone = min(self._days)
                self._days.pop(gone)
                self._selling.discard(gone)
        return self._days.setdefault(day, np.zeros((2, DAY_MIN), dtype=np.int64))

    def collected(self, start_minute: int, end_minute: int) -> BoolArray:
        """Which minutes may count as collected, an order in them or not.

        A day counts when it sold, or when days near before and after did. Of the first day after a
        longer silence, only what follows its first order counts.
        """
        out = np.zeros(max(end_minute - start_minute, 0), dtype=np.bool_)
        for day in range(start_minute // DAY_MIN, -(-end_minute // DAY_MIN)):
            begin = self._collected_from(day)
            if begin is not None:
                first = max(begin, start_minute) - start_minute
                out[first : max((day + 1) * DAY_MIN - start_minute, 0)] = True
        return out

    def _collected_from(self, day: int) -> int | None:
        before = any(day - n in self._selling for n in range(1, _NEAR_DAYS + 1))
        if day in self._selling:
            if before:
                return day * DAY_MIN
            return day * DAY_MIN + int(np.argmax(self._days[day][0] > 0)) + 1
        after = any(day + n in self._selling for n in range(1, _NEAR_DAYS + 1))
        return day * DAY_MIN if before and (after or day > max(self._selling)) else None

    def slice(self, start_minute: int, end_minute: int) -> Int64Array:
        """Two rows, orders and money units, for the minutes `[start, end)`."""
        out = np.zeros((2, max(end_minute - start_minute, 0)), dtype=np.int64)
        for day in range(start_minute // DAY_MIN, -(-end_minute // DAY_MIN)):
            table = self._days.get(day)
            if table is None:
                continue
            begin, end = max(start_minute, day * DAY_MIN), min(end_minute, (day + 1) * DAY_MIN)
            out[:, begin - start_minute : end - start_minute] = table[
                :, begin - day * DAY_MIN : end - day * DAY_MIN
            ]
        return out


class EventFeed:
    """Follows the store's events. Call `pull` at each tick; the rest are views of what came.

    Attributes:
        history: Genuine orders by minute.
        recent: Every event of the last `keep_s` seconds and a little more, the needed columns.
        order_ms: The instants of the genuine orders among them, ascending.
        order_units: Their amounts.
        refund_ms: The instants of the genuine refunds, ascending.
        refund_units: What they gave back.
        failed_ms: The instants of the genuine payments that failed, ascending.
        lateness_ms: How long orders usually take from the shop to here.
        version: Changes when `recent` does.
    """

    def __init__(
        self,
        reader: EventReader,
        currency: str,
        exchange_rates: Mapping[str, Decimal] | None = None,
        *,
        history_days: int,
        keep_s: int,
    ) -> None:
        self._reader = reader
        self._money = (currency, exchange_rates)
        self._history_days = history_days
        self._keep_ms = keep_s * 1_000
        self._seq: int | None = None
        self.history = MinuteHistory(history_days + 30)
        self.recent = _slim(EVENT_READ_SCHEMA.empty_table())
        self.order_ms: Int64Array = np.empty(0, dtype=np.int64)
        self.order_units: Int64Array = np.empty(0, dtype=np.int64)
        self.refund_ms: Int64Array = np.empty(0, dtype=np.int64)
        self.refund_units: Int64Array = np.empty(0, dtype=np.int64)
        self.failed_ms: Int64Array = np.empty(0, dtype=np.int64)
        self._late_ms: Int64Array = np.empty(0, dtype=np.int64)
        self._event_ms: Int64Array = np.empty(0, dtype=np.int64)
        self._heard_ms: int | None = None
        self.lateness_ms = 0
        self.version = 0

    def pull(self, now_ms: int) -> int:
        """Take in what came since the last pull; the number of events."""
        if self._seq is None:
            taken = self._start(now_ms)
        else:
            taken = 0
            for _ in range(_MAX_BATCHES):
                table = self._reader.events_after(self._seq)
                if not table.num_rows:
                    break
                self._seq = max(self._seq, int(pc.max(table["seq"]).as_py()))
                self._take(_slim(table), now_ms)
                taken += table.num_rows
        before = self.recent.num_rows
        self._trim(now_ms)
        if taken or self.recent.num_rows != before:
            self.version += 1
        return taken

    def _start(self, now_ms: int) -> int:
        """Read back, newest first. Only rows up to the first sequence number seen are counted.

        Later ones are delivered by `events_after`, so nothing counts twice and nothing is lost.
        """
        recent = _slim(self._reader.events(now_ms - self._keep_ms, now_ms + _DAY_MS))
        taken = recent.num_rows
        if taken:
            self._seq = int(pc.max(recent["seq"]).as_py())
            self._take(recent, now_ms)
        end_ms = now_ms - self._keep_ms
        for _ in range(self._history_days):
            table = self._reader.events(end_ms - _DAY_MS, end_ms, types=("purchase",))
            end_ms -= _DAY_MS
            if not table.num_rows:
                continue
            table = _slim(table)
            if self._seq is None:
                self._seq = int(pc.max(table["seq"]).as_py())
            known = table.filter(pc.less_equal(table["seq"], self._seq))
            self._count(known)
            taken += known.num_rows
        self._seq = self._seq or 0
        return taken

    def load_day(self, start_ms: int) -> None:
        """Count one more day of the past, for a sale of an earlier year."""
        self._count(_slim(self._reader.events(start_ms, start_ms + _DAY_MS, types=("purchase",))))

    def _take(self, table: pa.Table, now_ms: int) -> None:
        since_ms = now_ms - self._keep_ms
        orders = self._count(table)
        live = table.filter(pc.greater_equal(table["ts_ms"], since_ms))
        self.recent = pa.concat_tables([self.recent, live])
        ts = _integers(orders, "ts_ms")
        fresh = ts >= since_ms
        if fresh.any():
            units = money_units(orders, *self._money)[fresh]
            self.order_ms, self.order_units = _merged(
                (self.order_ms, self.order_units), (ts[fresh], units)
            )
            self._time(_integers(orders, "received_ms")[fresh] - ts[fresh])
        failed = instants_of(genuine(live), "payment_failed")
        self.failed_ms = _ascending(self.failed_ms, failed)
        self._event_ms = _ascending(self._event_ms, _integers(live, "ts_ms"))
        refunds = genuine(live.filter(pc.equal(live["type"], "refund")))
        if refunds.num_rows:
            given = np.abs(money_units(refunds, *self._money))
            self.refund_ms, self.refund_units = _merged(
                (self.refund_ms, self.refund_units), (_integers(refunds, "ts_ms"), given)
            )

    def _time(self, late_ms: Int64Array) -> None:
        """How late the latest live orders came, those that were held up left out."""
        live = late_ms[(late_ms >= 0) & (late_ms <= _LIVE_MS)]
        self._late_ms = np.concatenate([self._late_ms, live])[-_LATEST_ORDERS:]
        if len(self._late_ms):
            usual = float(np.quantile(self._late_ms, 0.9))
            self.lateness_ms = int(min(usual, _MAX_LATENESS_MS))

    def heard_before(self, at_ms: int) -> int | None:
        """When an event of any kind last happened before an instant; None: not in its history."""
        place = int(np.searchsorted(self._event_ms, at_ms))
        if place:
            return int(self._event_ms[place - 1])
        return None if self._heard_ms is None or self._heard_ms >= at_ms else self._heard_ms

    def heard_since(self, at_ms: int) -> int | None:
        """When an event of any kind first happened at or after an instant."""
        place = int(np.searchsorted(self._event_ms, at_ms))
        return int(self._event_ms[place]) if place < len(self._event_ms) else None

    def _count(self, table: pa.Table) -> pa.Table:
        orders = genuine(table.filter(pc.equal(table["type"], "purchase")))
        ts = _integers(orders, "ts_ms")
        if len(ts):
            self._heard_ms = max(int(ts.max()), self._heard_ms or 0)
        self.history.add(ts, money_units(orders, *self._money))
        return orders

    def _trim(self, now_ms: int) -> None:
        since_ms = now_ms - self._keep_ms
        # Rows are copied by the minute, not at each tick.
        oldest_ms = int(self._event_ms[0]) if len(self._event_ms) else since_ms
        full = self.recent.num_rows > _MAX_RECENT_ROWS
        if full or oldest_ms < since_ms - MINUTE_MS:
            kept = self.recent.filter(pc.greater_equal(self.recent["ts_ms"], since_ms))
            self.recent = kept.slice(max(kept.num_rows - _MAX_RECENT_ROWS, 0))
            self._event_ms = self._event_ms[np.searchsorted(self._event_ms, since_ms) :]
        if self.recent["ts_ms"].num_chunks > _MAX_CHUNKS:
            self.recent = self.recent.combine_chunks()
        first = int(np.searchsorted(self.order_ms, since_ms))
        self.order_ms, self.order_units = self.order_ms[first:], self.order_units[first:]
        first = int(np.searchsorted(self.refund_ms, since_ms))
        self.refund_ms, self.refund_units = self.refund_ms[first:], self.refund_units[first:]
        self.failed_ms = self.failed_ms[np.searchsorted(self.failed_ms, since_ms) :]

    def orders_between(self, start_ms: float, end_ms: float) -> tuple[int, int]:
        """Genuine orders and their money units with `start <= ts < end`, within what is kept."""
        first, last = np.searchsorted(self.order_ms, [start_ms, end_ms])
        return int(last - first), int(self.order_units[first:last].sum())

    def refunded_between(self, start_ms: float, end_ms: float) -> int:
        """Money units given back with `start <= ts < end`, within what is kept."""
        first, last = np.searchsorted(self.refund_ms, [start_ms, end_ms])
        return int(self.refund_units[first:last].sum())


def _integers(table: pa.Table, name: str) -> Int64Array:
    return np.asarray(table[name].to_numpy(), dtype=np.int64)


def instants_of(events: pa.Table, kind: str) -> Int64Array:
    """When the events of a type happened, ascending."""
    return np.sort(_integers(events.filter(pc.equal(events["type"], kind)), "ts_ms"))


def _ascending(known: Int64Array, more: Int64Array) -> Int64Array:
    if not len(more):
        return known
    return np.sort(np.concatenate([known, more]), kind="stable")


def _merged(
    known: tuple[Int64Array, Int64Array], more: tuple[Int64Array, Int64Array]
) -> tuple[Int64Array, Int64Array]:
    """Instants with their amounts, ascending."""
    times, units = (np.concatenate(pair) for pair in zip(known, more, strict=True))
    order = np.argsort(times, kind="stable")
    return times[order], units[order]


def _slim(table: pa.Table) -> pa.Table:
    return table.select(list(_COLUMNS))
