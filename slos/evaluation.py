"""Every SLO at one tick: measured, judged, put into words, recorded. Each fails alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from slos import budget, recording, statement
from slos.burn_rate import (
    Tier,
    TierDecision,
    WindowReading,
    burn_rate,
    decide_tier,
    exhaustion_s,
    period_events,
)
from slos.definition import Slo
from slos.durations import format_duration
from slos.measure import WindowMeter
from slos.model import SloState, SloStatus, TierReading
from store.errors import WarroomError
from store.model import UnitHealth
from store.ports import Appender, Querier

_log = structlog.get_logger()
_APPEND_TIMEOUT_S = 10.0
_MAX_SPANS = 200


@dataclass(frozen=True, slots=True)
class SloTick:
    """What one tick found: a status for each SLO, in the order of the files, and how each fared."""

    statuses: tuple[SloStatus, ...]
    health: tuple[UnitHealth, ...]


class MaintenanceReader(Protocol):
    """Spans whose events do not count against a budget."""

    def spans(self, slo_id: str, start_ms: int, end_ms: int) -> Sequence[tuple[int, int]]: ...


class SloEvaluator:
    """Evaluates a list of SLOs. Not thread-safe: one tick at a time."""

    def __init__(
        self,
        querier: Querier,
        appender: Appender,
        slos: Sequence[Slo],
        maintenance: MaintenanceReader | None = None,
    ) -> None:
        self._querier = querier
        self._appender = appender
        self._maintenance = maintenance
        self._runs: tuple[SloRun, ...] = ()
        self.reload(slos)

    def reload(self, slos: Sequence[Slo]) -> None:
        """Judge other SLOs from the next tick on; those that did not change go on as they were."""
        before = {run.slo.id: run for run in self._runs}
        self.slos = tuple(slos)
        self._runs = tuple(
            kept
            if (kept := before.get(slo.id)) is not None and kept.slo == slo
            else SloRun(slo, self._querier, self._maintenance)
            for slo in self.slos
        )

    def tick(self, now_ms: int) -> SloTick:
        """Judge every SLO at one instant and record its series."""
        statuses: list[SloStatus] = []
        health: list[UnitHealth] = []
        rows: list[recording.Row] = []
        for run in self._runs:
            started = time.perf_counter()
            error = ""
            try:
                status, readings = run.evaluate(now_ms)
                rows.extend(recording.rows(run.slo, status, readings))
            except Exception as exc:  # noqa: BLE001  # an SLO fails alone; its health says so
                error = f"{type(exc).__name__}: {exc}"
                _log.warning("slo_failed", slo=run.slo.id, error=error)
                status = run.failed(now_ms, error)
            statuses.append(status)
            health.append(_health(run.slo, now_ms, time.perf_counter() - started, error))
        if rows:
            health.append(self._record(rows, now_ms))
        return SloTick(tuple(statuses), tuple(health))

    def _record(self, rows: list[recording.Row], now_ms: int) -> UnitHealth:
        started = time.perf_counter()
        error = ""
        try:
            self._appender.append(recording.batch(rows)).result(timeout=_APPEND_TIMEOUT_S)
        except (WarroomError, TimeoutError) as exc:
            error = f"{type(exc).__name__}: {exc}"
            _log.warning("slo_series_not_recorded", error=error)
        duration_s = time.perf_counter() - started
        return UnitHealth("slo-recording", not error, now_ms, duration_s, error)


def _health(slo: Slo, now_ms: int, duration_s: float, error: str) -> UnitHealth:
    detail = {"refused_tiers": list(slo.refused_tiers)} if slo.refused_tiers else {}
    return UnitHealth(f"slo:{slo.id}", not error, now_ms, duration_s, error, detail)


@dataclass(slots=True)
class _TierMemory:
    firing: bool = False
    decided_ms: int = 0
    since_ms: int | None = None


class SloRun:
    """One SLO from tick to tick: its meter, and what its tiers last said."""

    def __init__(self, slo: Slo, querier: Querier, maintenance: MaintenanceReader | None) -> None:
        self.slo = slo
        self._meter = WindowMeter(slo, querier)
        self._maintenance = maintenance
        self._memory = {tier: _TierMemory() for tier in slo.tiers}
        self._excluded: dict[tuple[int, int], WindowReading] = {}
        self._last: SloStatus | None = None

    def evaluate(self, now_ms: int) -> tuple[SloStatus, list[WindowReading]]:
        """The SLO's status, and the readings of its windows, shortest first."""
        longs = {tier.long_s: self._meter.read(tier.long_s, now_ms) for tier in self.slo.tiers}
        period = self._period(now_ms)
        left = budget.remaining(period, self.slo.objective)
        events = period_events(self.slo.window_s, [period, *longs.values()])
        readings = {period.window_s: period} | longs
        tiers = []
        for tier in self.slo.tiers:
            short = self._meter.read_short(tier.short_s, longs[tier.long_s], now_ms)
            # Shown and recorded under its nominal window, even when it had to widen.
            readings.setdefault(tier.short_s, replace(short, window_s=tier.short_s))
            pair = (longs[tier.long_s], short)
            tiers.append(self._tier(tier, pair, events, left, now_ms))
        ordered = [readings[window_s] for window_s in sorted(readings)]
        status = self._status(ordered, tuple(tiers), period, now_ms)
        self._last = status
        return status, ordered

    def failed(self, now_ms: int, error: str) -> SloStatus:
        """The status when the SLO could not be evaluated: what fired keeps firing for a while."""
        tiers = []
        for tier in self.slo.tiers:
            decision = self._settle(tier, TierDecision(None, "evaluation_failed"), now_ms)
            tiers.append(self._reading(tier, (None, None), decision))
        state = SloState.BURNING if any(t.firing for t in tiers) else SloState.NO_DATA
        words = self._last.statement if self._last and state is SloState.BURNING else ""
        return self._base(now_ms, tuple(tiers), state, words or "could not be evaluated", error)

    def _period(self, now_ms: int) -> WindowReading:
        reading = self._meter.read(self.slo.window_s, now_ms)
        if self._maintenance is None:
            return reading
        start_ms = now_ms - self.slo.window_s * 1_000
        found = self._maintenance.spans(self.slo.id, start_ms, now_ms)[-_MAX_SPANS:]
        spans = [(max(start, start_ms), min(end, now_ms)) for start, end in found]
        # Spans that lie whole in the past do not change; only the rest is read again.
        self._excluded = {
            span: self._excluded.get(span) or self._meter.between(*span) for span in spans
        }
        return budget.without(reading, list(self._excluded.values()))

    def _tier(
        self,
        tier: Tier,
        pair: tuple[WindowReading, WindowReading],
        events: float,
        left: float | None,
        now_ms: int,
    ) -> TierReading:
        long, short = pair
        decision = decide_tier(tier, self.slo.objective, long, short, events)
        decision = self._settle(tier, decision, now_ms)
        memory = self._memory[tier]
        if decision.firing and memory.since_ms is None:
            memory.since_ms = _burning_since(long, short, self._latest(now_ms), now_ms)
        burns = (self._burn(long), self._burn(short))
        words = ""
        if decision.firing and burns[0] is not None:
            words = statement.burning(self.slo, burns[0], long, left)
        return replace(self._reading(tier, burns, decision), statement=words)

    def _latest(self, now_ms: int) -> WindowReading:
        return self._meter.read(min(tier.short_s for tier in self.slo.tiers), now_ms)

    def _settle(self, tier: Tier, decision: TierDecision, now_ms: int) -> TierDecision:
        """Missing data neither fires nor resolves: what fired is held, for one long window."""
        memory = self._memory[tier]
        if decision.firing is None:
            held = memory.firing and now_ms - memory.decided_ms <= tier.long_s * 1_000
            if not held:
                memory.firing, memory.since_ms = False, None
            return TierDecision(held, "held_without_data" if held else decision.reason)
        memory.firing, memory.decided_ms = decision.firing, now_ms
        if not decision.firing:
            memory.since_ms = None
        return decision

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
            since_ms=self._memory[tier].since_ms,
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
        now_ms: int,
    ) -> SloStatus:
        left = budget.remaining(period, self.slo.objective)
        firing = next((tier for tier in tiers if tier.firing), None)
        fresh = tiers[0].long_burn is not None if tiers else period.error_ratio is not None
        state = budget.state(has_data=fresh, firing=firing is not None, left=left)
        pace = firing or next((tier for tier in tiers if tier.long_burn is not None), None)
        gone_s = None
        if left is not None and pace is not None and (pace.long_burn or 0.0) > 1.0:
            gone_s = exhaustion_s(left, self.slo.window_s, pace.long_burn or 0.0)
        words = (firing.statement if firing else "") or statement.quiet(self.slo, period, left)
        base = self._base(now_ms, tiers, state, words, "")
        burns = {
            format_duration(r.window_s): burn
            for r in readings
            if (burn := self._burn(r)) is not None
        }
        return replace(
            base,
            sli=None if period.error_ratio is None else 1.0 - period.error_ratio,
            error_budget_remaining=left,
            burn_rates=burns,
            exhausts_at_ms=None if gone_s is None else now_ms + round(gone_s * 1_000),
            bad_events=period.bad,
            total_events=period.total,
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
        )


def _burning_since(
    long: WindowReading, short: WindowReading, latest: WindowReading, now_ms: int
) -> int:
    """When the burn began, by the data.

    At the short window's ratio, the long window's bad events took
    `long x long_ratio / short_ratio` seconds to come about. A service that is younger than the
    window cannot have burned before it was there: at the latest rate of events the long window's
    took `long_total / latest_rate` seconds.
    """
    if not long.error_ratio or not short.error_ratio:
        return now_ms
    covered_s = float(long.window_s)
    if latest.total and long.total:
        covered_s = min(covered_s, long.total * latest.window_s / latest.total)
    took_s = covered_s * min(long.error_ratio / short.error_ratio, 1.0)
    return now_ms - round(took_s * 1_000)
