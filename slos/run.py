"""One SLO from tick to tick: measured, judged, put into words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from slos import budget, statement
from slos.burn_rate import (
    Tier,
    TierDecision,
    WindowReading,
    burn_rate,
    decide_tier,
    period_events,
)
from slos.definition import EventSli, Slo
from slos.durations import format_duration
from slos.measure import Meter, widened
from slos.model import Outlook, SloState, SloStatus, TierReading
from slos.outlook import SaleEvent, look_ahead
from slos.tiers import Searches, TierMemory, burning_since, first_guess

_MAX_SPANS = 200
# A sale's outlook changes slowly, and is read from far back.
_LOOK_AHEAD_EVERY_MS = 600_000
Span = tuple[int, int]


class MaintenanceReader(Protocol):
    """Spans whose events do not count against a budget."""

    def spans(self, slo_id: str, start_ms: int, end_ms: int) -> Sequence[Span]: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an SLO is judged with beside its own events.

    Attributes:
        maintenance: Spans that do not count; None when there are none.
        events: The sales that are coming or have been; asked at each look.
    """

    maintenance: MaintenanceReader | None = None
    events: Callable[[], Sequence[SaleEvent]] = tuple


class SloRun:
    """One SLO: its meter, and what its tiers last said."""

    def __init__(self, slo: Slo, meter: Meter, around: Surroundings) -> None:
        self.slo = slo
        self.meter = meter
        self._around = around
        self._memory = TierMemory(slo.tiers)
        # The error ratios at which a tier begins or ceases to fire.
        self._turns = tuple(sorted({tier.factor * (1 - slo.objective) for tier in slo.tiers}))
        self._excluded: dict[Span, WindowReading] = {}
        self._last: SloStatus | None = None
        self._outlook: Outlook | None = None
        self._looked_ms: int | None = None

    def evaluate(
        self, now_ms: int, searches: Searches | None = None
    ) -> tuple[SloStatus, list[WindowReading]]:
        """The SLO's status, and the readings of its windows, shortest first.

        `searches`: how many are left to this tick, of all SLOs.
        """
        slo = self.slo
        start_ms, end_ms = self._period_at(now_ms)
        spans = self._maintenance(start_ms, now_ms)
        period = self._without(self._period(start_ms, now_ms), start_ms, spans, now_ms)
        longs = {tier.long_s: self._window(tier.long_s, spans, now_ms) for tier in slo.tiers}
        planned = self._planned(start_ms, end_ms)
        left = budget.remaining(period, slo.objective, planned)
        events = period_events(slo.window_s, [period, *longs.values()])
        readings = {slo.window_s: replace(period, window_s=slo.window_s)} | longs
        elapsed_s = self._elapsed_s(start_ms, now_ms)
        judge = _Judge(events, left, elapsed_s, end_ms - start_ms, now_ms, searches or Searches())
        tiers = []
        for tier in slo.tiers:
            long = longs[tier.long_s]
            short = widened(self.meter, tier.short_s, long, now_ms, self._turns)
            short = self._without(short, now_ms - short.window_s * 1_000, spans, now_ms)
            # Shown and recorded under its nominal window, even when it had to widen.
            readings.setdefault(tier.short_s, replace(short, window_s=tier.short_s))
            tiers.append(self._tier(tier, (long, short), judge, spans))
        for window_s in slo.recorded_s:
            if window_s not in readings:
                readings[window_s] = self._window(window_s, spans, now_ms)
        ordered = [readings[window_s] for window_s in sorted(readings)]
        status = self._status(ordered, self._memory.inhibit(tiers), period, judge)
        if slo.calendar is not None:
            length_s = (end_ms - start_ms) // 1_000
            status = replace(
                status, window_s=length_s, period_start_ms=start_ms, resets_at_ms=end_ms
            )
        self._last = status
        return status, ordered

    def failed(self, now_ms: int, error: str) -> SloStatus:
        """The status when the SLO could not be evaluated: what fired keeps firing for a while."""
        tiers = []
        for tier in self.slo.tiers:
            unknown = TierDecision(None, "evaluation_failed")
            decision = self._memory.settle(tier, unknown, now_ms)
            tiers.append(self._reading(tier, (None, None), decision))
        state = SloState.BURNING if any(t.firing for t in tiers) else SloState.NO_DATA
        words = self._last.statement if self._last and state is SloState.BURNING else ""
        marked = self._memory.inhibit(tiers)
        return self._base(now_ms, marked, state, words or "could not be evaluated", error)

    def look_ahead(self, now_ms: int) -> Outlook | None:
        """The outlook for the next sale, as of the last ten minutes.

        Raises:
            QueryError: A query failed.
        """
        due = self._looked_ms is None or now_ms - self._looked_ms >= _LOOK_AHEAD_EVERY_MS
        if due or now_ms < (self._looked_ms or 0):
            self._looked_ms = now_ms
            found = look_ahead(self.slo, self.meter, self._around.events(), now_ms)
            words = statement.ahead(self.slo, found) if found else ""
            self._outlook = replace(found, statement=words) if found else None
        return self._outlook

    def _period_at(self, now_ms: int) -> Span:
        if self.slo.calendar is not None:
            return self.slo.calendar.period(now_ms)
        return now_ms - self.slo.window_s * 1_000, now_ms

    def _elapsed_s(self, start_ms: int, now_ms: int) -> int | None:
        return None if self.slo.calendar is None else (now_ms - start_ms) // 1_000

    def _period(self, start_ms: int, now_ms: int) -> WindowReading:
        if self.slo.calendar is None:
            return self.meter.read(self.slo.window_s, now_ms)
        return self.meter.since(start_ms, now_ms)

    def _planned(self, start_ms: int, end_ms: int) -> float | None:
        """How many slices a calendar period has: its budget is known from its first minute on."""
        sli = self.slo.sli
        if self.slo.calendar is None or not isinstance(sli, EventSli) or not sli.step_s:
            return None
        return (end_ms - start_ms) / 1_000 / sli.step_s

    def _maintenance(self, start_ms: int, now_ms: int) -> list[Span]:
        if self._around.maintenance is None:
            return []
        longest_ms = max((tier.long_s for tier in self.slo.tiers), default=0) * 1_000
        since_ms = min(start_ms, now_ms - longest_ms)
        found = self._around.maintenance.spans(self.slo.id, since_ms, now_ms)
        return list(found)[-_MAX_SPANS:]

    def _window(self, window_s: int, spans: list[Span], now_ms: int) -> WindowReading:
        reading = self.meter.read(window_s, now_ms, self._turns)
        return self._without(reading, now_ms - window_s * 1_000, spans, now_ms)

    def _without(
        self, reading: WindowReading, start_ms: int, spans: list[Span], now_ms: int
    ) -> WindowReading:
        if not spans:
            return reading
        within = [(max(start, start_ms), min(end, now_ms)) for start, end in spans]
        parts = [self._span(span, now_ms) for span in within if span[0] < span[1]]
        return budget.without(reading, parts)

    def _span(self, span: Span, now_ms: int) -> WindowReading:
        """Spans that lie whole in the past do not change; only the rest is read again."""
        known = self._excluded.get(span)
        if known is None:
            known = self.meter.between(*span)
            if span[1] < now_ms:
                if len(self._excluded) > 2 * _MAX_SPANS:
                    self._excluded.clear()
                self._excluded[span] = known
        return known

    def _tier(
        self,
        tier: Tier,
        pair: tuple[WindowReading, WindowReading],
        judge: _Judge,
        spans: list[Span],
    ) -> TierReading:
        long, short = pair
        decision = decide_tier(tier, self.slo.objective, long, short, judge.events)
        decision = self._memory.settle(tier, decision, judge.now_ms)
        if decision.firing and self._memory.open_question(tier):
            self._date(tier, pair, judge, spans)
        burns = (self._burn(long), self._burn(short))
        words = ""
        if decision.firing and burns[0] is not None:
            gone_s = judge.gone_s(self.slo, burns[0])
            words = statement.burning(self.slo, burns[0], long, judge.left, gone_s)
        return replace(self._reading(tier, burns, decision), statement=words)

    def _date(
        self,
        tier: Tier,
        pair: tuple[WindowReading, WindowReading],
        judge: _Judge,
        spans: list[Span],
    ) -> None:
        """Since when it burns: searched for, or guessed until a later tick has time for that."""
        long, short = pair
        now_ms = judge.now_ms
        if judge.searches.take():
            since_ms = burning_since(
                long,
                short.window_s,
                lambda window_s: self._recent(window_s, spans, now_ms),
                now_ms,
                spans,
            )
            self._memory.began(tier, since_ms)
        elif self._memory.since_ms(tier) is None:
            self._memory.began(tier, first_guess(long, short, now_ms), guessed=True)

    def _recent(self, window_s: int, spans: list[Span], now_ms: int) -> WindowReading:
        start_ms = now_ms - window_s * 1_000
        return self._without(self.meter.between(start_ms, now_ms), start_ms, spans, now_ms)

    def _reading(
        self, tier: Tier, burns: tuple[float | None, float | None], decision: TierDecision
    ) -> TierReading:
        return TierReading(
            severity=tier.severity,
            factor=tier.factor,
            long_s=tier.long_s,
            short_s=tier.short_s,
            long_burn=burns[0],
            short_burn=burns[1],
            firing=bool(decision.firing),
            budget=tier.budget,
            reason=decision.reason,
            since_ms=self._memory.since_ms(tier),
        )

    def _burn(self, reading: WindowReading) -> float | None:
        if reading.error_ratio is None:
            return None
        return burn_rate(reading.error_ratio, self.slo.objective)

    def _status(
        self,
        readings: list[WindowReading],
        tiers: tuple[TierReading, ...],
        period: WindowReading,
        judge: _Judge,
    ) -> SloStatus:
        left = judge.left
        firing = next((tier for tier in tiers if tier.firing), None)
        fresh = tiers[0].long_burn is not None if tiers else period.error_ratio is not None
        state = budget.state(has_data=fresh, firing=firing is not None, left=left)
        pace = firing or next((tier for tier in tiers if tier.long_burn is not None), None)
        gone_s = None
        if pace is not None and (pace.long_burn or 0.0) > 1.0:
            gone_s = judge.gone_s(self.slo, pace.long_burn or 0.0)
        words = (firing.statement if firing else "") or statement.quiet(self.slo, period, left)
        burns = {
            format_duration(r.window_s): burn
            for r in readings
            if (burn := self._burn(r)) is not None
        }
        return replace(
            self._base(judge.now_ms, tiers, state, words, ""),
            sli=None if period.error_ratio is None else 1.0 - period.error_ratio,
            error_budget_remaining=left,
            burn_rates=burns,
            exhausts_at_ms=None if gone_s is None else judge.now_ms + round(gone_s * 1_000),
            bad_events=period.bad,
            total_events=period.total,
            period_events=judge.events or None,
        )

    def _base(
        self,
        now_ms: int,
        tiers: tuple[TierReading, ...],
        state: SloState,
        words: str,
        error: str,
    ) -> SloStatus:
        slo = self.slo
        return SloStatus(
            name=slo.name,
            service=slo.service,
            description=slo.description,
            objective=slo.objective,
            window_s=slo.window_s,
            sli=None,
            error_budget_remaining=None,
            burn_rates={},
            tiers=tiers,
            state=state,
            at_ms=now_ms,
            labels=slo.labels,
            statement=words,
            error=error,
            refused_tiers=slo.refused_tiers,
            alert_name=slo.alert_name,
            annotations=slo.annotations,
            severity_labels=slo.severity_labels,
            severity_annotations=slo.severity_annotations,
        )


@dataclass(frozen=True, slots=True)
class _Judge:
    """What the tiers of one tick are judged by.

    Attributes:
        events: Of a whole period.
        left: Of the budget.
        elapsed_s: Of a calendar period.
        length_ms: Of a calendar period, from its beginning to its end.
        searches: For when a burn began.
    """

    events: float
    left: float | None
    elapsed_s: int | None
    length_ms: int
    now_ms: int
    searches: Searches

    def gone_s(self, slo: Slo, burn: float) -> float | None:
        """Seconds until the budget is gone at this pace."""
        if self.left is None:
            return None
        period_s = slo.window_s if self.elapsed_s is None else self.length_ms // 1_000
        return budget.exhausts_in_s(self.left, burn, period_s, self.elapsed_s)
