"""Business events as they arrive: orders by minute for weeks, the rest for hours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from functools import cache, partial
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute

from business_metrics.exact_sums import total
from business_metrics.minute_history import MinuteHistory
from business_metrics.told_orders import KEPT_MS, ToldOrders
from store.model import BoolArray, Int64Array
from store.ports import EventReader

# The stubs of the compute functions know no chunked columns.
pc: Any = pyarrow.compute

UNITS_PER_MONEY = 10_000
# The largest amount that an event may carry.
_MAX_UNITS = 10**17
# ISO 4217's currencies of a thousand coins.
_THOUSANDTHS = frozenset({"BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"})
_DAY_MS = 86_400_000
_COLUMNS = (
    "type",
    "ts_ms",
    "session_id",
    "checkout_id",
    "order_id",
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
_START_SLICE_MS = 300_000
_LATEST_ORDERS = 200
_MAX_LATENESS_MS = 10_000
# What is later than this was held up or written after the fact, and says nothing of the usual way.
_LIVE_MS = 60_000


def genuine(events: pa.Table) -> pa.Table:
    """Without the events of bots and tests."""
    return events.filter(is_genuine(events))


def is_genuine(events: pa.Table) -> Any:
    """Which are of neither a bot nor a test."""
    return pc.invert(pc.or_(events["bot"], events["test"]))


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


def has_worth(events: pa.Table, currency: str, exchange_rates: Mapping[str, Decimal]) -> BoolArray:
    """Which events' amounts `money_units` knows; a currency without a rate is worth nothing."""
    known = pa.array([currency, *exchange_rates])
    told = pc.or_kleene(pc.is_null(events["currency"]), pc.is_in(events["currency"], known))
    return np.asarray(told.to_numpy(), dtype=np.bool_)


def money(units: float | Fraction, currency: str = "") -> Decimal:
    """Ten-thousandths to money, to the cent, or to the smallest coin where that is smaller.

    Rounded once, halves to even.
    """
    places = 3 if currency in _THOUSANDTHS else 2
    coins = round(Fraction(units) * 10**places / UNITS_PER_MONEY)
    return Decimal(coins).scaleb(-places)


class EventTable(Protocol):
    """Follows events of the last hours by a key of theirs."""

    def add(self, events: pa.Table) -> None:
        """Take in more events, in any order; each comes once."""
        ...

    def forget(self, before_ms: int) -> None: ...


class EventFeed:
    """Follows the store's events. Call `pull` at each tick; the rest are views of what came.

    Attributes:
        history: Genuine orders by minute.
        order_ms: The instants of the genuine orders of the last `keep_s` seconds, ascending.
        order_units: Their amounts.
        order_known: Which of them are in a currency that can be counted.
        refund_ms: The instants of the genuine refunds, ascending.
        refund_units: What they gave back.
        failed_ms: The instants of the genuine payments that failed, ascending.
        lateness_ms: How long orders usually take from the shop to here.
        late_days: When orders last came that were more than two days late, by their day of UTC.
    """

    def __init__(
        self,
        reader: EventReader,
        currency: str,
        exchange_rates: Mapping[str, Decimal] | None = None,
        *,
        history_days: int,
        keep_s: int,
        tables: Sequence[EventTable] = (),
    ) -> None:
        self._reader = reader
        self._tables = tables
        self._money = (currency, exchange_rates)
        self._history_days = history_days
        self._keep_ms = keep_s * 1_000
        self._seq: int | None = None
        self.history = MinuteHistory(history_days + 30)
        self.order_ms: Int64Array = np.empty(0, dtype=np.int64)
        self.order_units: Int64Array = np.empty(0, dtype=np.int64)
        self.order_known: BoolArray = np.empty(0, dtype=np.bool_)
        self.refund_ms: Int64Array = np.empty(0, dtype=np.int64)
        self.refund_units: Int64Array = np.empty(0, dtype=np.int64)
        self.failed_ms: Int64Array = np.empty(0, dtype=np.int64)
        self._told = ToldOrders()
        self._late_ms: Int64Array = np.empty(0, dtype=np.int64)
        self._event_ms: Int64Array = np.empty(0, dtype=np.int64)
        self._heard_ms: int | None = None
        self._whole_since_ms = 0
        self.lateness_ms = 0
        self.late_days: dict[int, int] = {}

    def pull(self, now_ms: int) -> int:
        """Take in what came since the last pull; the number of events."""
        taken = self._start(now_ms) if self._seq is None else 0
        for _ in range(_MAX_BATCHES):
            table = self._reader.events_after(self._seq or 0)
            if not table.num_rows:
                break
            self._seq = max(self._seq or 0, int(pc.max(table["seq"]).as_py()))
            self._take(_slim(table), now_ms)
            self._note_late(table, now_ms)
            taken += table.num_rows
        self._trim(now_ms)
        return taken

    def _start(self, now_ms: int) -> int:
        """Read back, newest first. Only rows up to the first sequence number seen are counted.

        Later ones are delivered by `events_after`, so nothing counts twice and nothing is lost.
        """
        taken, end_ms = 0, now_ms + _DAY_MS
        take = partial(self._take, now_ms=now_ms)
        edges = [*range(now_ms, now_ms - self._keep_ms, -_START_SLICE_MS), now_ms - self._keep_ms]
        for start_ms in edges:
            taken += self._read_back(start_ms, end_ms, (), take)
            end_ms = start_ms
        # What was begun before and goes on keeps its beginning.
        begun = ("begin_checkout",)
        self._read_back(end_ms - self._keep_ms, end_ms, begun, self._follow)
        for _ in range(self._history_days):
            taken += self._read_back(end_ms - _DAY_MS, end_ms, ("purchase",), self._count)
            # The day before is compared with this one; live, with the last two.
            self._told.forget_between(end_ms, now_ms - KEPT_MS)
            end_ms -= _DAY_MS
        self._whole_since_ms = end_ms
        self._seq = self._seq or 0
        return taken

    def _note_late(self, table: pa.Table, now_ms: int) -> None:
        late = pc.and_(
            pc.equal(table["type"], "purchase"), pc.less(table["ts_ms"], now_ms - KEPT_MS)
        )
        for day in np.unique(_integers(table.filter(late), "ts_ms") // _DAY_MS).tolist():
            self.late_days[day] = now_ms

    def in_part(self, day_ms: int) -> bool:
        """Whether the history may know a day of UTC in part only; the day by its first instant."""
        return day_ms < self._whole_since_ms or day_ms // _DAY_MS in self.late_days

    def _read_back(
        self,
        start_ms: int,
        end_ms: int,
        types: Sequence[str],
        use: Callable[[pa.Table], object],
    ) -> int:
        table = _slim(self._reader.events(start_ms, end_ms, types=types))
        if not table.num_rows:
            return 0
        if self._seq is None:
            self._seq = int(pc.max(table["seq"]).as_py())
        known = table.filter(pc.less_equal(table["seq"], self._seq))
        use(known)
        return known.num_rows

    def _follow(self, table: pa.Table) -> None:
        for one in self._tables:
            one.add(table)

    def load_day(self, start_ms: int) -> None:
        """Count one more day of the past, for a sale of an earlier year."""
        self._count(_slim(self._reader.events(start_ms, start_ms + _DAY_MS, types=("purchase",))))

    def _take(self, table: pa.Table, now_ms: int) -> None:
        since_ms = now_ms - self._keep_ms
        orders, units = self._count(table)
        live = table.filter(pc.greater_equal(table["ts_ms"], since_ms))
        self._follow(live)
        ts = _integers(orders, "ts_ms")
        fresh = ts >= since_ms
        if fresh.any():
            worth = has_worth(orders, self._money[0], self._money[1] or {})
            self.order_ms, self.order_units, self.order_known = _merged(
                (self.order_ms, self.order_units, self.order_known),
                (ts[fresh], units[fresh], worth[fresh]),
            )
            self._time(_integers(orders, "received_ms")[fresh] - ts[fresh])
        failed = instants_of(genuine(live), "payment_failed")
        self.failed_ms = _ascending(self.failed_ms, failed)
        self._event_ms = _edges_of_seconds(_ascending(self._event_ms, _integers(live, "ts_ms")))
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

    def _count(self, table: pa.Table) -> tuple[pa.Table, Int64Array]:
        """The genuine orders of a table that were not told before, and their amounts."""
        orders = genuine(table.filter(pc.equal(table["type"], "purchase")))
        units = money_units(orders, *self._money)
        ts = _integers(orders, "ts_ms")
        if not len(ts):
            return orders, units
        self._heard_ms = max(int(ts.max()), self._heard_ms or 0)
        sold = self._told.add(orders, units)
        for at_ms, amount in zip(sold.dropped_ms, sold.dropped_units, strict=True):
            self._drop(int(at_ms), int(amount))
        orders, units = orders.filter(pa.array(sold.counts)), units[sold.counts]
        self.history.add(ts[sold.counts], units)
        return orders, units

    def _drop(self, at_ms: int, units: int) -> None:
        """An order that was counted turned out to have been told before."""
        self.history.take_back(at_ms, units)
        same = np.flatnonzero((self.order_ms == at_ms) & (self.order_units == units))
        if len(same):
            self.order_ms = np.delete(self.order_ms, same[0])
            self.order_units = np.delete(self.order_units, same[0])
            self.order_known = np.delete(self.order_known, same[0])

    def _trim(self, now_ms: int) -> None:
        since_ms = now_ms - self._keep_ms
        for one in self._tables:
            one.forget(since_ms)
        self._told.forget(now_ms)
        self._event_ms = self._event_ms[np.searchsorted(self._event_ms, since_ms) :]
        first = int(np.searchsorted(self.order_ms, since_ms))
        self.order_ms, self.order_units = self.order_ms[first:], self.order_units[first:]
        self.order_known = self.order_known[first:]
        first = int(np.searchsorted(self.refund_ms, since_ms))
        self.refund_ms, self.refund_units = self.refund_ms[first:], self.refund_units[first:]
        self.failed_ms = self.failed_ms[np.searchsorted(self.failed_ms, since_ms) :]

    def orders_between(self, start_ms: float, end_ms: float) -> tuple[int, int]:
        """Genuine orders and their money units with `start <= ts < end`, within what is kept."""
        first, last = np.searchsorted(self.order_ms, [start_ms, end_ms])
        return int(last - first), total(self.order_units[first:last])

    def worth_between(self, start_ms: float, end_ms: float) -> tuple[int, int]:
        """As `orders_between`, without the orders in a currency that has no rate."""
        first, last = np.searchsorted(self.order_ms, [start_ms, end_ms])
        return int(self.order_known[first:last].sum()), total(self.order_units[first:last])

    def refunded_between(self, start_ms: float, end_ms: float) -> int:
        """Money units given back with `start <= ts < end`, within what is kept."""
        first, last = np.searchsorted(self.refund_ms, [start_ms, end_ms])
        return total(self.refund_units[first:last])


def _integers(table: pa.Table, name: str) -> Int64Array:
    return np.asarray(table[name].to_numpy(), dtype=np.int64)


def instants_of(events: pa.Table, kind: str) -> Int64Array:
    """When the events of a type happened, ascending."""
    return np.sort(_integers(events.filter(pc.equal(events["type"], kind)), "ts_ms"))


def _ascending(known: Int64Array, more: Int64Array) -> Int64Array:
    if not len(more):
        return known
    return np.sort(np.concatenate([known, more]), kind="stable")


def _edges_of_seconds(ascending: Int64Array) -> Int64Array:
    """The first and the last instant of each second: who was heard when needs no more."""
    if len(ascending) <= 2:
        return ascending
    second = ascending // 1_000
    turn = second[1:] != second[:-1]
    edges: Int64Array = ascending[np.append(True, turn) | np.append(turn, True)]
    return edges


def _merged(known: tuple[Any, ...], more: tuple[Any, ...]) -> tuple[Any, ...]:
    """Instants with what belongs to them, ascending."""
    columns = [np.concatenate(pair) for pair in zip(known, more, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    return tuple(column[order] for column in columns)


def _slim(table: pa.Table) -> pa.Table:
    return table.select(list(_COLUMNS))
