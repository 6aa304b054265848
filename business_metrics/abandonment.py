"""Checkout abandonment by cohort.

The unit is a checkout. It belongs to the cohort of its start (`begin_checkout`). It is completed
when it is bought, however late; abandoned when nothing was done in it for the timeout; open else.
A cohort counts once it is older than the timeout; before, its figure is provisional.
Any event that names a checkout is activity in it; with one of a bot or a test it is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import compress, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from business_metrics.significance import wilson
from store.model import BoolArray, Int64Array

# The stubs of the compute functions know no chunked columns.
pc: Any = pyarrow.compute

# Each segment, and which value of a checkout counts that has several.
SEGMENTS = {"device": "min", "channel": "min", "country": "min", "returning": "max"}
# What a shop sends of a checkout itself: its steps.
CHECKOUT_TYPES = (
    "begin_checkout",
    "add_shipping_info",
    "add_payment_info",
    "purchase",
    "payment_failed",
    "out_of_stock",
)
_MAX_SEGMENT_VALUES = 50
NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Checkouts:
    """One row a checkout. `purchased_ms` is the largest integer where nothing was bought.

    The same shape serves searches: what is bought there is a look at something found.
    """

    start_ms: Int64Array
    last_ms: Int64Array
    purchased_ms: Int64Array
    segments: dict[str, tuple[Int64Array, tuple[str, ...]]]
    ids: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.start_ms)


@dataclass(frozen=True, slots=True)
class AbandonmentPoint:
    """One cohort. `rate` is abandoned / (abandoned + completed); `low` and `high` bound it.

    A provisional cohort's rate is the share not completed so far; its bounds are what it becomes
    when every open checkout is bought, or none.
    """

    at_ms: int
    started: int
    completed: int
    abandoned: int
    rate: float | None
    low: float | None
    high: float | None
    provisional: bool


@dataclass(frozen=True, slots=True)
class AbandonmentSeries:
    """The cohorts of one segment; without labels, of all."""

    labels: dict[str, str]
    points: tuple[AbandonmentPoint, ...]


@dataclass(frozen=True, slots=True)
class Abandonment:
    """The answer of a query: cohorts that started before `matured_until_ms` are final."""

    matured_until_ms: int
    timeout_s: int
    series: tuple[AbandonmentSeries, ...]


def fold(events: pa.Table, *, keep_ids: bool = False) -> Checkouts:
    """Checkouts of a table of events (`EVENT_SCHEMA`'s columns), columns all the way."""
    table = by_checkout(events)
    known = pc.and_(pc.is_valid(table["start"]), pc.invert(table["ignored"]))
    table = table.filter(known)
    return Checkouts(
        start_ms=_numbers(table["start"]),
        last_ms=_numbers(table["last"]),
        purchased_ms=_numbers(pc.fill_null(table["bought"], NEVER)),
        segments={name: codes_of(table[name]) for name in SEGMENTS},
        ids=tuple(map(str, table["id"].to_pylist())) if keep_ids else (),
    )


def by_checkout(events: pa.Table) -> pa.Table:
    """One row a checkout: `id`, `start` and `bought` (null: never), `last`, `ignored`, segments.

    Each column is a least or a greatest of all events, so neither their order nor a repeat matters,
    and two parts can be joined. A visitor who logs in on the way is a returning one.
    """
    events = events.filter(pc.is_valid(events["checkout_id"]))
    kind, ts = events["type"], events["ts_ms"]
    nothing = pa.scalar(None, pa.int64())
    columns = {
        "id": events["checkout_id"],
        "last": ts,
        "start": pc.if_else(pc.equal(kind, "begin_checkout"), ts, nothing),
        "bought": pc.if_else(pc.equal(kind, "purchase"), ts, nothing),
        "ignored": pc.or_(events["bot"], events["test"]),
    } | segment_columns(events)
    told: list[tuple[str, str]] = [
        ("start", "min"),
        ("last", "max"),
        ("bought", "min"),
        ("ignored", "max"),
        *((name, SEGMENTS[name]) for name in SEGMENTS),
    ]
    wanted: Any = told
    table = pa.table(columns).group_by("id").aggregate(wanted)
    names = {f"{name}_{which}": name for name, which in told}
    return table.rename_columns([names.get(name, name) for name in table.column_names])


def segment_columns(events: pa.Table, names: Iterable[str] = tuple(SEGMENTS)) -> dict[str, Any]:
    """The column of each segment, as text."""
    return {
        name: pc.if_else(events[name], "returning", "new") if name == "returning" else events[name]
        for name in names
    }


def _numbers(column: Any) -> Int64Array:
    return np.asarray(column.to_numpy(), dtype=np.int64)


def codes_of(column: Any) -> tuple[Int64Array, tuple[str, ...]]:
    """A text column as numbers, with what they stand for."""
    encoded = pc.fill_null(column, "").combine_chunks().dictionary_encode()
    return np.asarray(encoded.indices, dtype=np.int64), tuple(encoded.dictionary.to_pylist())


def outcome(checkouts: Checkouts, as_of_ms: int, timeout_s: int) -> tuple[BoolArray, BoolArray]:
    """Which checkouts are completed, and which abandoned, as of an instant."""
    completed = checkouts.purchased_ms <= as_of_ms
    idle = checkouts.last_ms <= as_of_ms - timeout_s * 1_000
    return completed, ~completed & idle


def point(
    at_ms: int, chosen: BoolArray, results: tuple[BoolArray, BoolArray], *, provisional: bool
) -> AbandonmentPoint:
    """The figures of the chosen checkouts."""
    counts = [int(chosen.sum()), *(int((chosen & result).sum()) for result in results)]
    return counted(at_ms, (counts[0], counts[1], counts[2]), provisional=provisional)


def counted(at_ms: int, counts: tuple[int, int, int], *, provisional: bool) -> AbandonmentPoint:
    """The figures of so many that started, completed and were abandoned."""
    started, completed, abandoned = counts
    rate = low = high = None
    if provisional and started:
        low, high = abandoned / started, (started - completed) / started
        rate = high
    elif completed + abandoned:
        rate = abandoned / (completed + abandoned)
        low, high = wilson(abandoned, completed + abandoned)
    return AbandonmentPoint(at_ms, started, completed, abandoned, rate, low, high, provisional)


def by_value(
    checkouts: Checkouts, by: str, results: tuple[BoolArray, BoolArray]
) -> list[tuple[str, tuple[int, int, int]]]:
    """Started, completed and abandoned of each value of a segment, most frequent first.

    What says nothing of the segment is left out.
    """
    codes, values = checkouts.segments[by]
    started = np.bincount(codes, minlength=len(values))
    each = [np.bincount(codes[result], minlength=len(values)) for result in results]
    order = np.argsort(-started, kind="stable")[:_MAX_SEGMENT_VALUES].tolist()
    return [
        (values[code], (int(started[code]), int(each[0][code]), int(each[1][code])))
        for code in order
        if values[code] and started[code]
    ]


def cohorts(
    checkouts: Checkouts, edges_ms: Iterable[int], as_of_ms: int, timeout_s: int
) -> tuple[AbandonmentPoint, ...]:
    """One point for each cohort, from one edge until before the next."""
    matured_ms = as_of_ms - timeout_s * 1_000
    results = outcome(checkouts, as_of_ms, timeout_s)
    points = []
    for start_ms, stop_ms in pairwise(edges_ms):
        chosen = (checkouts.start_ms >= start_ms) & (checkouts.start_ms < stop_ms)
        young = stop_ms > matured_ms
        points.append(point(start_ms, chosen, results, provisional=young))
    return tuple(points)


def split(checkouts: Checkouts, by: str) -> list[tuple[dict[str, str], Checkouts]]:
    """The checkouts of each value of a segment, most frequent first; all of them without `by`."""
    if not by:
        return [({}, checkouts)]
    codes, values = checkouts.segments[by]
    counts = np.bincount(codes, minlength=len(values))
    order = np.argsort(-counts, kind="stable")[: min(_MAX_SEGMENT_VALUES, np.count_nonzero(counts))]
    return [({by: values[code] or "unknown"}, take(checkouts, codes == code)) for code in order]


def take(checkouts: Checkouts, chosen: BoolArray) -> Checkouts:
    """The chosen checkouts."""
    ids = tuple(compress(checkouts.ids, chosen)) if checkouts.ids else ()
    return Checkouts(
        checkouts.start_ms[chosen],
        checkouts.last_ms[chosen],
        checkouts.purchased_ms[chosen],
        {name: (codes[chosen], values) for name, (codes, values) in checkouts.segments.items()},
        ids,
    )
