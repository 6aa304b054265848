"""What a span of time, such as an incident, took of an SLO's error budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slos.budget import without
from slos.burn_rate import WindowReading, burn_rate
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


@dataclass(frozen=True, slots=True)
class Stretch:
    """A span of time, in milliseconds, without those within it that do not count."""

    start_ms: int
    end_ms: int
    excluded: Sequence[tuple[int, int]] = ()

    def within(self) -> list[tuple[int, int]]:
        """What is excluded of it."""
        cut = [(max(a, self.start_ms), min(b, self.end_ms)) for a, b in self.excluded]
        return [(a, b) for a, b in cut if a < b]


def spent(
    slo: Slo, querier: Querier, stretch: Stretch, period_events: float | None
) -> Spent | None:
    """What went within a stretch; None without events, and of composites.

    Args:
        slo: The objective.
        querier: Where its events are counted.
        stretch: When.
        period_events: Events of a whole period, estimated: those that came so far would let the
            share depend on when it is asked for.

    Raises:
        QueryError: A query failed.
    """
    if isinstance(slo.sli, CompositeSli):
        return None
    read = query_reader(slo.name, slo.sli, querier)

    def between(start_ms: int, end_ms: int) -> WindowReading:
        return read(max((end_ms - start_ms) // 1_000, 1), end_ms)

    planned = [between(*span) for span in stretch.within()]
    found = without(between(stretch.start_ms, stretch.end_ms), planned)
    if found.error_ratio is None:
        return None
    part = (found.window_s - sum(one.window_s for one in planned)) / slo.window_s
    if found.total is not None and period_events:
        part = found.total / max(period_events, found.total)
    share = burn_rate(found.error_ratio, slo.objective) * max(part, 0.0)
    return Spent(slo.name, slo.service, slo.noun, found.bad, found.total, found.error_ratio, share)
