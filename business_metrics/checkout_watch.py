"""Watches checkout abandonment from tick to tick."""

from __future__ import annotations

from dataclasses import dataclass, replace

from business_metrics.abandonment import (
    SEGMENTS,
    AbandonmentPoint,
    Checkouts,
    by_value,
    counted,
    outcome,
)
from business_metrics.checkout_table import CheckoutTable
from business_metrics.memory import Breach, BreachMemory
from business_metrics.model import KpiReading
from business_metrics.settings import BusinessSettings
from store.model import BoolArray

KPI = "checkout_abandonment"
LIVE_KPI = "checkout_abandonment_live"
_REMEMBER_MS = 7 * 86_400_000


@dataclass(frozen=True, slots=True)
class SegmentShare:
    """The matured figure of one value of one segment."""

    segment: str
    value: str
    figure: AbandonmentPoint


class CheckoutWatch:
    """The 40 % rule with its memory: proven above the limit to begin, at or below it to end.

    Attributes:
        as_of_ms: The instant of the last tick.
        segments: The matured figures by device, channel and country.
    """

    def __init__(
        self, table: CheckoutTable, settings: BusinessSettings, memory: BreachMemory
    ) -> None:
        self._table = table
        self._settings = settings
        self._memory = memory
        self._open: Breach | None = None
        self._loaded = False
        self.as_of_ms = 0
        self.segments: tuple[SegmentShare, ...] = ()

    def tick(self, now_ms: int) -> tuple[KpiReading, ...]:
        """The matured figure, which is judged, and the live one, which is not."""
        if not self._loaded:
            known = self._memory.breaches(KPI, now_ms - _REMEMBER_MS)
            self._open = next((breach for breach in known if breach.end_ms is None), None)
            self._loaded = True
        self.as_of_ms = now_ms
        timeout_ms = self._settings.checkout_timeout_s * 1_000
        window_ms = self._settings.abandonment_window_s * 1_000
        matured_ms = now_ms - timeout_ms
        begin_ms = matured_ms - window_ms
        results, mature = self._since(begin_ms, matured_ms)
        matured = counted(begin_ms, _counts(results), provisional=False)
        young, _ = self._since(matured_ms, now_ms + 1)
        live = counted(matured_ms, _counts(young), provisional=True)
        self.segments = tuple(
            SegmentShare(by, value, counted(begin_ms, counts, provisional=False))
            for by in SEGMENTS
            for value, counts in by_value(mature, by, results)
        )
        self._judge(matured, now_ms)
        return self._reading(matured, now_ms), self._live(live, now_ms)

    def _since(self, start_ms: int, end_ms: int) -> tuple[tuple[BoolArray, BoolArray], Checkouts]:
        """The checkouts started in a span, and which are completed and abandoned."""
        checkouts = self._table.started(start_ms, end_ms)
        return outcome(checkouts, self.as_of_ms, self._settings.checkout_timeout_s), checkouts

    def _judge(self, figure: AbandonmentPoint, now_ms: int) -> None:
        limit = self._settings.abandonment_max
        if self._open is None and figure.low is not None and figure.low > limit:
            self._open = Breach(KPI, now_ms, None, "ticket")
            self._memory.save(self._open)
        elif self._open is not None and figure.rate is not None and figure.rate <= limit:
            self._memory.save(replace(self._open, end_ms=now_ms))
            self._open = None

    def _reading(self, figure: AbandonmentPoint, now_ms: int) -> KpiReading:
        decided = figure.completed + figure.abandoned
        words = f"{figure.abandoned:,} of {decided:,} matured checkouts abandoned"
        if figure.low is not None:
            words += f", at least {figure.low:.1%} with 99 % certainty"
        detail: dict[str, float | str] = {"started": figure.started, "decided": decided}
        worst = self._worst()
        if worst is not None:
            detail["worst_segment"] = f"{worst.segment}={worst.value}"
            detail["worst_segment_rate"] = round(worst.figure.rate or 0.0, 4)
        return KpiReading(
            kpi=KPI,
            at_ms=now_ms,
            value=figure.rate,
            unit="ratio",
            low=figure.low,
            high=figure.high,
            breached=self._open is not None,
            severity=self._open.severity if self._open else "",
            since_ms=self._open.start_ms if self._open else None,
            reason=words if decided else "no checkout is old enough to be judged",
            window_s=self._settings.abandonment_window_s,
            detail=detail,
        )

    def _worst(self) -> SegmentShare | None:
        return max(
            (share for share in self.segments if share.figure.low is not None),
            key=lambda share: share.figure.low or 0.0,
            default=None,
        )

    def _live(self, figure: AbandonmentPoint, now_ms: int) -> KpiReading:
        return KpiReading(
            kpi=LIVE_KPI,
            at_ms=now_ms,
            value=figure.rate,
            unit="ratio",
            low=figure.low,
            high=figure.high,
            reason=f"{figure.completed:,} of {figure.started:,} young checkouts completed so far",
            provisional=True,
            window_s=self._settings.checkout_timeout_s,
        )


def _counts(results: tuple[BoolArray, BoolArray]) -> tuple[int, int, int]:
    completed, abandoned = results
    return len(completed), int(completed.sum()), int(abandoned.sum())
