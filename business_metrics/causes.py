"""Why checkouts were abandoned: what the session itself met, as far as it was seen.

A checkout has the gravest trouble that its own visitor met between its start and the timeout after
its last activity: a payment that failed, an article that was out of stock, a request that failed, a
request that was slow. Trouble is tied to a checkout by its id, by the trace in which one of its
events happened, or by the session. It is what came before, not a proof: without trouble that was
seen the cause is `none_seen`, and the visitor may just have changed their mind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from business_metrics.abandonment import AbandonmentPoint, Checkouts, outcome
from business_metrics.significance import wilson
from store.model import BoolArray, Int64Array

# The stubs of the compute functions know no chunked columns.
pc: Any = pyarrow.compute

# The gravest first.
CAUSES = ("payment", "stock", "error", "slow_page", "none_seen")
TROUBLE_TYPES = ("payment_failed", "out_of_stock")
_PAYMENT, _STOCK, _ERROR, _SLOW, _NONE = range(len(CAUSES))


@dataclass(frozen=True, slots=True)
class _Trouble:
    """One row a trouble, of one cause: when it was, and the session that met it."""

    cause: Int64Array
    ts_ms: Int64Array
    session: tuple[str | None, ...]


def causes_of(
    checkouts: Checkouts, events: pa.Table, requests: pa.Table, timeout_s: int
) -> Int64Array:
    """The place in `CAUSES` of each checkout.

    Args:
        checkouts: Folded with their ids.
        events: The events that were folded, `TROUBLE_TYPES` among them.
        requests: `TROUBLED_SCHEMA`: the visitors' requests that failed or were slow.
        timeout_s: How long after its last activity a checkout is still somebody's.
    """
    place = {checkout: n for n, checkout in enumerate(checkouts.ids)}
    found: Int64Array = np.full(len(checkouts), _NONE, dtype=np.int64)
    _mark_by_checkout(found, place, events)
    _mark_by_trace(found, place, events, requests)
    troubles = (_of_events(events), _of_requests(requests))
    _mark_by_session(found, place, (checkouts, events, timeout_s), troubles)
    return found


def cohorts_by_cause(
    checkouts: Checkouts,
    causes: Int64Array,
    edges_ms: Iterable[int],
    as_of: tuple[int, int],
) -> list[tuple[dict[str, str], tuple[AbandonmentPoint, ...]]]:
    """Cohorts of each cause, from one edge until before the next.

    Each counts all that started and completed, and its own abandoned. So the rates of the causes
    add up to the rate without `by`. `as_of` is the instant in milliseconds and the timeout in
    seconds.
    """
    as_of_ms, timeout_s = as_of
    results = outcome(checkouts, as_of_ms, timeout_s)
    matured_ms = as_of_ms - timeout_s * 1_000
    spans = tuple(pairwise(edges_ms))
    inside = [(checkouts.start_ms >= start) & (checkouts.start_ms < stop) for start, stop in spans]
    told = []
    for code, cause in enumerate(CAUSES):
        points = tuple(
            _point(start, chosen, results, causes == code, young=stop > matured_ms)
            for (start, stop), chosen in zip(spans, inside, strict=True)
        )
        told.append(({"cause": cause}, points))
    return told


def _point(
    at_ms: int,
    chosen: BoolArray,
    results: tuple[BoolArray, BoolArray],
    own: BoolArray,
    *,
    young: bool,
) -> AbandonmentPoint:
    started = int(chosen.sum())
    completed, lost = (int((chosen & result).sum()) for result in results)
    abandoned = int((chosen & results[1] & own).sum())
    rate = low = high = None
    if young and started:
        # Every open checkout may still be lost to this cause, or to none.
        undecided = started - completed - lost
        low, high = abandoned / started, (abandoned + undecided) / started
        rate = low
    elif completed + lost:
        rate = abandoned / (completed + lost)
        low, high = wilson(abandoned, completed + lost)
    return AbandonmentPoint(at_ms, started, completed, abandoned, rate, low, high, young)


def _mark_by_checkout(found: Int64Array, place: dict[str, int], events: pa.Table) -> None:
    for kind, cause in (("payment_failed", _PAYMENT), ("out_of_stock", _STOCK)):
        met = events.filter(pc.equal(events["type"], kind))["checkout_id"]
        _lower(found, [place[c] for c in met.to_pylist() if c in place], cause)


def _mark_by_trace(
    found: Int64Array, place: dict[str, int], events: pa.Table, requests: pa.Table
) -> None:
    if not requests.num_rows:
        return
    failed = dict(_pairs(requests, "trace_id", "failed"))
    known = pc.is_in(events["trace_id"], value_set=requests["trace_id"].combine_chunks())
    met = events.filter(pc.and_(known, pc.is_valid(events["checkout_id"])))
    for checkout, trace in _pairs(met, "checkout_id", "trace_id"):
        if checkout in place:
            _lower(found, [place[checkout]], _ERROR if failed[trace] else _SLOW)


def _mark_by_session(
    found: Int64Array,
    place: dict[str, int],
    known: tuple[Checkouts, pa.Table, int],
    troubles: tuple[_Trouble, ...],
) -> None:
    checkouts, events, timeout_s = known
    sessions = {name for trouble in troubles for name in trouble.session if name}
    by_session = _places_by_session(place, events, sessions)
    until_ms = checkouts.last_ms + timeout_s * 1_000
    for trouble in troubles:
        rows = zip(trouble.session, trouble.ts_ms.tolist(), trouble.cause.tolist(), strict=True)
        for session, ts_ms, cause in rows:
            near = by_session.get(session or "", ())
            met = [n for n in near if checkouts.start_ms[n] <= ts_ms <= until_ms[n]]
            _lower(found, met, cause)


def _places_by_session(
    place: dict[str, int], events: pa.Table, sessions: set[str]
) -> dict[str, set[int]]:
    known = pc.is_in(events["session_id"], value_set=pa.array(sorted(sessions), pa.string()))
    own = events.filter(pc.and_(known, pc.is_valid(events["checkout_id"])))
    found: dict[str, set[int]] = {}
    for session, checkout in _pairs(own, "session_id", "checkout_id"):
        if checkout in place:
            found.setdefault(session, set()).add(place[checkout])
    return found


def _of_events(events: pa.Table) -> _Trouble:
    """Trouble that names its session only."""
    code = pc.index_in(events["type"], value_set=pa.array(TROUBLE_TYPES))
    loose = pc.and_(pc.is_valid(code), pc.is_null(events["checkout_id"]))
    chosen = events.filter(loose)
    causes = np.asarray(code.filter(loose).to_numpy(), dtype=np.int64)
    return _Trouble(causes, _numbers(chosen["ts_ms"]), tuple(chosen["session_id"].to_pylist()))


def _of_requests(requests: pa.Table) -> _Trouble:
    chosen = requests.filter(pc.is_valid(requests["session_id"]))
    failed = np.asarray(chosen["failed"].to_numpy(), dtype=np.bool_)
    causes = np.where(failed, _ERROR, _SLOW).astype(np.int64)
    return _Trouble(causes, _numbers(chosen["ts_ms"]), tuple(chosen["session_id"].to_pylist()))


def _pairs(table: pa.Table, *names: str) -> Iterator[tuple[Any, ...]]:
    return zip(*(table[name].to_pylist() for name in names), strict=True)


def _lower(found: Int64Array, places: list[int], cause: int) -> None:
    if places:
        found[places] = np.minimum(found[places], cause)


def _numbers(column: Any) -> Int64Array:
    return np.asarray(column.to_numpy(), dtype=np.int64)
