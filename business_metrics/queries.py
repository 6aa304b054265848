"""Answers of the business API over any range, from the events themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import pairwise
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute

from business_metrics import abandonment as cohorts
from business_metrics import searches
from business_metrics.abandonment import SEGMENTS, Abandonment, AbandonmentSeries
from business_metrics.at_risk import Accountant, Missing, RevenueAtRisk, Sales
from business_metrics.causes import causes_of, cohorts_by_cause
from business_metrics.event_slices import slices
from business_metrics.events import genuine, money, money_units
from business_metrics.exact_sums import halves, whole
from business_metrics.expectation import Expectation
from business_metrics.funnel import COLUMNS, STEPS, FunnelStep, parse_segment
from business_metrics.funnel import funnel as funnel_of
from business_metrics.minute_history import MINUTE_MS, MinuteHistory
from business_metrics.pacing import day_bounds
from business_metrics.settings import BusinessSettings
from business_metrics.significance import quantile
from business_metrics.told_orders import REPEAT_MS, repeats
from store.errors import BadInput
from store.model import BoolArray, Int64Array
from store.ports import TROUBLED_SCHEMA, EventReader, RequestReader

# The stubs of the compute functions know no chunked columns.
pc: Any = pyarrow.compute

Step = int | Literal["day"]
DAY_MS = 86_400_000
MAX_POINTS = 20_000
_MAX_RANGE_MS = 400 * DAY_MS
# The end of 9998: no calendar has a day after the last of 9999.
_LAST_MS = 253_370_764_800_000
_CHECKOUT_COLUMNS = (
    *("type", "ts_ms", "checkout_id", "session_id", "trace_id", "bot", "test"),
    *SEGMENTS,
)
# Read of every event, most of them views of pages: what says that a checkout goes on, no more.
_ACTIVITY_COLUMNS = ("ts_ms", "checkout_id", "bot", "test")
_SOLD_COLUMNS = ("type", "ts_ms", "order_id", "amount", "currency", "bot", "test", "seq")
BY_CAUSE = "cause"
# Activity is followed for a day after the range, purchases for a week: later ones no longer correct
# its cohorts. A checkout that was begun up to a day before it and is begun again belongs there.
_LATE_MS = DAY_MS
_LATE_PURCHASE_DAYS = 7
_BEGUN_BEFORE_MS = DAY_MS
# A browser's clock may be so far ahead.
_AHEAD_MS = 300_000
_BAND = 0.005


class NoRequests:
    """Where no traces are kept: nobody's request is known to have gone wrong."""

    def troubled_requests(self, start_ms: int, end_ms: int, slow_s: float) -> pa.Table:
        """None at all."""
        del start_ms, end_ms, slow_s
        return TROUBLED_SCHEMA.empty_table()


@dataclass(frozen=True, slots=True)
class OrderPoint:
    """One step: what was sold, and what was expected (None where nothing can be).

    Minutes for which nothing was collected count as nothing expected, not as orders that are lost.
    `revenue` is net: refunds are subtracted in the step in which they were given.
    """

    at_ms: int
    orders: int
    revenue: Decimal
    expected_orders: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Orders:
    """The answer of `orders`. `baseline` says what the expectation rests on.

    `step_s` is a day where days are cut, though one may have 23 or 25 hours.
    """

    step_s: float
    points: tuple[OrderPoint, ...]
    revenue_at_risk: RevenueAtRisk | None
    baseline: str


def check_range(start_ms: int, end_ms: int, step_ms: int, max_points: int) -> None:
    """Refuse a range that is empty, endless or too finely cut.

    Raises:
        BadInput: It is.
    """
    if end_ms <= start_ms:
        raise BadInput("the range is empty", hint="let 'to' lie after 'from'")
    if end_ms > _LAST_MS:
        raise BadInput("the range ends after the year 9998", hint="let 'to' lie before")
    if end_ms - start_ms > _MAX_RANGE_MS:
        raise BadInput("the range is longer than 400 days", hint="ask for less at once")
    if step_ms < 1_000:
        raise BadInput("the step is shorter than a second", hint="write step=60s or more")
    if (end_ms - start_ms) / step_ms > max_points:
        raise BadInput(f"more than {max_points} points", hint="write a longer step")


def cohort_edges(start_ms: int, end_ms: int, step: Step, zone: ZoneInfo) -> list[int]:
    """Where the cohorts of a range begin, and where the last one ends.

    Days are whole days of the store, midnight to midnight on its own clock: those of the range and
    in part before and after it. A day has 23 or 25 hours when summer time changes.

    Raises:
        BadInput: The range or the step makes no sense, or gives too many cohorts.
    """
    check_range(start_ms, end_ms, DAY_MS if step == "day" else step, MAX_POINTS)
    if step != "day":
        steps = -(-(end_ms - start_ms) // step)
        return [start_ms + place * step for place in range(steps + 1)]
    edges: list[int] = []
    minute = start_ms // MINUTE_MS
    while minute * MINUTE_MS < end_ms:
        _, begin, minute = day_bounds(minute, zone)
        edges.append(begin * MINUTE_MS)
    return [*edges, minute * MINUTE_MS]


def order_edges(start_ms: int, end_ms: int, step: Step, zone: ZoneInfo) -> list[int]:
    """Where the steps of a range begin, and where the last one ends; days are whole.

    Raises:
        BadInput: The range or the step makes no sense, or gives too many points.
    """
    edges = cohort_edges(start_ms, end_ms, step, zone)
    return edges if step == "day" else [*edges[:-1], end_ms]


def is_purchase(events: pa.Table) -> Any:
    """Which are orders."""
    return pc.equal(events["type"], "purchase")


def sold(reader: EventReader, start_ms: int, end_ms: int) -> pa.Table:
    """The genuine purchases of a range, each order once, and the refunds."""
    types = ("purchase", "refund")
    table = genuine(reader.events(start_ms, end_ms, types=types, columns=_SOLD_COLUMNS))
    bought = table.filter(is_purchase(table))
    told = pc.drop_null(pc.unique(bought["order_id"]))
    if not len(told):
        return table
    before = reader.events(
        start_ms - REPEAT_MS, start_ms, types=("purchase",), columns=_SOLD_COLUMNS
    )
    before = genuine(before.filter(pc.is_in(before["order_id"], value_set=told)))
    again = repeats(pa.concat_tables([before, bought]))[before.num_rows :]
    refunds = table.filter(pc.equal(table["type"], "refund"))
    return pa.concat_tables([bought.filter(pa.array(~again)), refunds])


def orders(
    events: pa.Table,
    span: tuple[Sequence[int], int, int],
    expectation: Expectation,
    collected: BoolArray,
    settings: BusinessSettings,
    past: tuple[MinuteHistory, Missing],
) -> Orders:
    """What was `sold` by step.

    `span` is the edges of the steps, the usual step and until when orders are expected, in ms.

    `collected` tells of each minute of the expectation whether orders were collected then. `past`
    is what was sold before, and when orders were found missing.
    Revenue at risk asks what was ordered, so refunds do not count in it.
    """
    edges, step_ms, expected_until_ms = span
    bought = np.asarray(is_purchase(events).to_numpy(), dtype=np.bool_)
    units = np.abs(money_units(events, settings.currency, settings.exchange_rates))
    ts_ms = np.asarray(events["ts_ms"].to_numpy(), dtype=np.int64)
    place = np.searchsorted(edges, ts_ms, side="right") - 1
    counts = np.bincount(place[bought], minlength=len(edges) - 1)
    sums = _sums(place, np.where(bought, units, -units), len(edges) - 1)
    known = _known(expectation, collected)
    points = tuple(
        _order_point(
            at_ms,
            min(until_ms, expected_until_ms),
            known,
            (int(counts[i]), money(sums[i], settings.currency)),
        )
        for i, (at_ms, until_ms) in enumerate(pairwise(edges))
    )
    accountant = Accountant(known.expectation, collected, past[0], settings.currency)
    risk = accountant.at_risk(
        Sales(ts_ms[bought], units[bought]), past[1], (edges[0], expected_until_ms)
    )
    return Orders(step_ms / 1_000, points, risk, expectation.source)


def _sums(place: Int64Array, units: Int64Array, count: int) -> list[int]:
    """The exact sum of the units at each place."""
    sums = np.zeros((2, count), dtype=np.int64)
    for row, half in zip(sums, halves(units), strict=True):
        np.add.at(row, place, half)
    return [whole(high, low) for high, low in zip(*sums.tolist(), strict=True)]


@dataclass(frozen=True, slots=True)
class _Known:
    """What is expected in the minutes for which orders were collected, and how many those are."""

    expectation: Expectation
    minutes: Expectation


def _known(expectation: Expectation, collected: BoolArray) -> _Known:
    if not len(expectation.per_minute):
        return _Known(expectation, expectation)
    wanted = np.where(collected, expectation.per_minute, 0.0)
    return _Known(
        replace(expectation, per_minute=wanted),
        replace(expectation, per_minute=collected.astype(np.float64)),
    )


def _order_point(
    at_ms: int, until_ms: int, known: _Known, sold_then: tuple[int, Decimal]
) -> OrderPoint:
    expected = low = high = None
    expectation = known.expectation
    known_min = known.minutes.expected(at_ms, until_ms)
    if known_min > 0:
        expected = expectation.expected(at_ms, until_ms)
        # As the rule judges a span: orders in clumps make the band wider, many orders narrower.
        cv = expectation.cv_over(expected, known_min)
        low, high = (float(quantile(share, expected, cv)) for share in (_BAND, 1 - _BAND))
    return OrderPoint(at_ms, *sold_then, expected, low, high)


def funnel(reader: EventReader, start_ms: int, end_ms: int, segment: str) -> tuple[FunnelStep, ...]:
    """The funnel of a range."""
    chosen = parse_segment(segment)
    columns = (*COLUMNS, chosen[0]) if chosen else COLUMNS
    return funnel_of(slices(reader, (start_ms, end_ms), STEPS, columns), chosen)


def abandonment(
    readers: tuple[EventReader, RequestReader],
    edges_ms: Sequence[int],
    by: str,
    as_of: tuple[int, int],
    slow_page_s: float,
) -> Abandonment:
    """Cohorts by start, between neighbouring edges; `by` names a segment, or `cause`, or nothing.

    `as_of` is the instant in milliseconds and the timeout in seconds.
    """
    _check_split(by, BY_CAUSE)
    start_ms, end_ms = edges_ms[0], edges_ms[-1]
    events, spans = readers
    table = _of_checkouts(events, start_ms, end_ms, as_of)
    checkouts = _started_in(cohorts.fold(table, keep_ids=by == BY_CAUSE), start_ms, end_ms)
    if by != BY_CAUSE:
        return _answer(checkouts, edges_ms, by, as_of)
    # A purchase of days later needs no cause, and its days hold more requests than can be read.
    last_ms = min(int(checkouts.last_ms.max(initial=end_ms)), end_ms + _LATE_MS)
    until_ms = last_ms + as_of[1] * 1_000
    requests = spans.troubled_requests(start_ms, until_ms, slow_page_s)
    causes = causes_of(checkouts, table, requests, as_of[1])
    told = cohorts_by_cause(checkouts, causes, edges_ms, as_of)
    return _abandonment(as_of, [AbandonmentSeries(labels, points) for labels, points in told])


def _of_checkouts(
    reader: EventReader, start_ms: int, end_ms: int, as_of: tuple[int, int]
) -> pa.Table:
    """The events of a range's checkouts, with what came before and long after of the same ones.

    Of the last timeout also those that are no step of a checkout but name one: it goes on.
    """
    as_of_ms, timeout_s = as_of
    begun = ("begin_checkout",)
    late_ms, types = end_ms + _LATE_MS, cohorts.CHECKOUT_TYPES
    table = reader.events(start_ms, late_ms, types=types, columns=_CHECKOUT_COLUMNS)
    started = table.filter(pc.is_in(table["type"], value_set=pa.array(begun)))
    ids = pc.drop_null(pc.unique(started["checkout_id"]))
    parts = [table]
    if len(ids):
        # By the clock of the shop's server a purchase may lie before the browser's first step.
        first = (*begun, "purchase")
        spans: list[tuple[int, int, tuple[str, ...]]] = [
            (start_ms - _BEGUN_BEFORE_MS, start_ms, first)
        ]
        spans += [
            (at_ms, min(at_ms + DAY_MS, as_of_ms + 1), ("purchase",))
            for day in range(1, _LATE_PURCHASE_DAYS)
            if (at_ms := end_ms + day * DAY_MS) <= as_of_ms
        ]
        for first_ms, last_ms, wanted in spans:
            more = reader.events(first_ms, last_ms, types=wanted, columns=_CHECKOUT_COLUMNS)
            parts.append(more.filter(pc.is_in(more["checkout_id"], value_set=ids)))
        lately_ms = max(start_ms, as_of_ms - timeout_s * 1_000)
        if lately_ms < end_ms + _LATE_PURCHASE_DAYS * DAY_MS:
            active = reader.events(lately_ms, as_of_ms + _AHEAD_MS, columns=_ACTIVITY_COLUMNS)
            parts.append(active.filter(pc.is_in(active["checkout_id"], value_set=ids)))
    return pa.concat_tables(parts, promote_options="default")


def search_abandonment(
    events: EventReader, edges_ms: Sequence[int], by: str, as_of: tuple[int, int]
) -> Abandonment:
    """Cohorts of hunts by start; a completed one found something to look at."""
    _check_split(by)
    start_ms, end_ms = edges_ms[0], edges_ms[-1]
    # A hunt may have begun before the range, and end after it.
    span = (start_ms - as_of[1] * 1_000, end_ms + _LATE_MS)
    split = (by,) if by else ()
    parts = slices(events, span, searches.TYPES, (*searches.COLUMNS, *split))
    found = _started_in(searches.hunts(parts, as_of[1], split), start_ms, end_ms)
    return _answer(found, edges_ms, by, as_of)


def _check_split(by: str, *more: str) -> None:
    known = (*SEGMENTS, *more)
    if by and by not in known:
        raise BadInput(f"cannot split by {by!r}", hint=f"write one of {', '.join(known)}")


def _started_in(checkouts: cohorts.Checkouts, start_ms: int, end_ms: int) -> cohorts.Checkouts:
    inside = (checkouts.start_ms >= start_ms) & (checkouts.start_ms < end_ms)
    return cohorts.take(checkouts, inside)


def _answer(
    checkouts: cohorts.Checkouts, edges_ms: Sequence[int], by: str, as_of: tuple[int, int]
) -> Abandonment:
    series = [
        AbandonmentSeries(labels, cohorts.cohorts(part, edges_ms, *as_of))
        for labels, part in cohorts.split(checkouts, by)
    ]
    return _abandonment(as_of, series)


def _abandonment(as_of: tuple[int, int], series: list[AbandonmentSeries]) -> Abandonment:
    as_of_ms, timeout_s = as_of
    return Abandonment(as_of_ms - timeout_s * 1_000, timeout_s, tuple(series))
