"""A figure of the wall at an earlier instant, counted from the events alone.

For the time before Warroom ran: no series tells of it, but a shop may have brought its events in.
What happened after the instant does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa

from business_metrics import queries
from business_metrics.checkout_watch import KPI as ABANDONMENT
from business_metrics.events import genuine, instants_of
from business_metrics.payment_watch import KPI as PAYMENTS
from business_metrics.payment_watch import WINDOWS_S
from business_metrics.settings import BusinessSettings
from store.ports import EventReader

_LEAST_CHECKOUTS = 20
_LEAST_ATTEMPTS = 10


class _UpTo:
    """A reader that knows nothing of what happened after an instant."""

    def __init__(self, reader: EventReader, at_ms: int) -> None:
        self._reader = reader
        self._at_ms = at_ms

    def events(
        self, start_ms: int, end_ms: int, *, types: Sequence[str] = (), columns: Sequence[str] = ()
    ) -> pa.Table:
        until_ms = max(min(end_ms, self._at_ms), start_ms)
        return self._reader.events(start_ms, until_ms, types=types, columns=columns)

    def events_after(self, seq: int, *, limit: int = 100_000) -> pa.Table:
        return self._reader.events_after(seq, limit=limit)


def figure_at(
    reader: EventReader, kpi: str, at_ms: int, settings: BusinessSettings
) -> float | None:
    """A KPI by its name; None for one that is not known here, or of too few events."""
    known = _KNOWN.get(kpi)
    return known(_UpTo(reader, at_ms), at_ms, settings) if known else None


def _paid(reader: EventReader, at_ms: int, settings: BusinessSettings) -> float | None:
    """The share of the payments that went through, of the widest window."""
    del settings
    start_ms = at_ms - WINDOWS_S[-1] * 1_000
    sold = queries.sold(reader, start_ms, at_ms)
    paid = len(instants_of(sold, "purchase"))
    columns = ("type", "bot", "test")
    failed = reader.events(start_ms, at_ms, types=("payment_failed",), columns=columns)
    tried = paid + genuine(failed).num_rows
    return paid / tried if tried >= _LEAST_ATTEMPTS else None


def _abandoned(reader: EventReader, at_ms: int, settings: BusinessSettings) -> float | None:
    """The rate of the cohort that had matured just then, as it was known then."""
    matured_ms = at_ms - settings.checkout_timeout_s * 1_000
    edges = (matured_ms - settings.abandonment_window_s * 1_000, matured_ms)
    as_of = at_ms, settings.checkout_timeout_s
    readers = (reader, queries.NoRequests())
    found = queries.abandonment(readers, edges, "", as_of, settings.slow_page_s)
    point = found.series[0].points[0]
    return point.rate if point.completed + point.abandoned >= _LEAST_CHECKOUTS else None


_KNOWN: Mapping[str, Callable[[EventReader, int, BusinessSettings], float | None]] = {
    PAYMENTS: _paid,
    ABANDONMENT: _abandoned,
}
