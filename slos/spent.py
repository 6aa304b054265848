"""What a span of time, such as an incident, took of an SLO's error budget."""

from __future__ import annotations

from dataclasses import dataclass

from slos.burn_rate import burn_rate
from slos.definition import CompositeSli, Slo
from slos.measure import query_reader
from store.ports import Querier


@dataclass(frozen=True, slots=True)
class Spent:
    """Of one SLO within a span.

    Attributes:
        bad, total: Events; None where the SLI is a bare ratio.
        error_ratio: 0 to 1.
        share: Of the whole period's budget, 1 is all of it.
    """

    name: str
    service: str
    noun: str
    bad: float | None
    total: float | None
    error_ratio: float
    share: float


def spent(
    slo: Slo, querier: Querier, start_ms: int, end_ms: int, period_events: float
) -> Spent | None:
    """What went between two instants; None without events, and of composites.

    Args:
        slo: The objective.
        querier: Where its events are counted.
        start_ms: The span's beginning, and
        end_ms: its end.
        period_events: Events of a whole period, as far as is known.

    Raises:
        QueryError: A query failed.
    """
    if isinstance(slo.sli, CompositeSli):
        return None
    window_s = max((end_ms - start_ms) // 1_000, 1)
    found = query_reader(slo.name, slo.sli, querier)(window_s, end_ms)
    if found.error_ratio is None:
        return None
    part = window_s / slo.window_s
    if found.total is not None and period_events > 0:
        part = found.total / max(period_events, found.total)
    share = burn_rate(found.error_ratio, slo.objective) * part
    return Spent(slo.name, slo.service, slo.noun, found.bad, found.total, found.error_ratio, share)
