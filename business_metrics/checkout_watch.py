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
from business_metrics.abandonment_usual import BUCKET_MS, UsualAbandonment, UsualShare
from business_metrics.checkout_table import CheckoutTable
from business_metrics.memory import Breach, BreachMemory
from business_metrics.model import KpiReading
from business_metrics.settings import BusinessSettings
from store.model import BoolArray

KPI = "checkout_abandonment"
LIVE_KPI = "checkout_abandonment_live"
_REMEMBER_MS = 7 * 86_400_000
# Once the usual share is known, a jump is looked for in the latest parts of the window too.
_PARTS = (1, 2, 4)


# Of the whole window, and of its latest parts.
Figures = tuple[AbandonmentPoint, ...]


@dataclass(frozen=True, slots=True)
class SegmentShare:
    """The matured figure of one value of one segment."""

    segment: str
    value: str
    figure: AbandonmentPoint


class CheckoutWatch:
    """The 40 % rule with its memory: proven above the limit to begin, at or below it to end.

    Where it is known what the shop usually loses, it must be proven to be more than that too, by as
    much as chance does not bring within months of looks.

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
        self._usual = UsualAbandonment(settings.abandonment_window_s)
        self._learned_ms: int | None = None
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
        latest = [
            self._latest(mature, results, matured_ms - window_ms // part) for part in _PARTS[1:]
        ]
        self._learn(begin_ms)
        self._judge((matured, *latest), now_ms)
        return self._reading((matured, *latest), now_ms), self._live(live, now_ms)

    def _since(self, start_ms: int, end_ms: int) -> tuple[tuple[BoolArray, BoolArray], Checkouts]:
        """The checkouts started in a span, and which are completed and abandoned."""
        checkouts = self._table.started(start_ms, end_ms)
        return outcome(checkouts, self.as_of_ms, self._settings.checkout_timeout_s), checkouts

    def _latest(
        self, mature: Checkouts, results: tuple[BoolArray, BoolArray], since_ms: int
    ) -> AbandonmentPoint:
        late = mature.start_ms >= since_ms
        return counted(since_ms, _counts((results[0][late], results[1][late])), provisional=False)

    def _learn(self, until_ms: int) -> None:
        """Count what is too old for the window, before the table lets go of it."""
        if self._learned_ms is None or self._learned_ms < until_ms - 2 * BUCKET_MS:
            self._learned_ms = until_ms - until_ms % BUCKET_MS - BUCKET_MS
        while self._learned_ms + BUCKET_MS <= until_ms:
            results, _ = self._since(self._learned_ms, self._learned_ms + BUCKET_MS)
            _, completed, abandoned = _counts(results)
            trouble = self._open is not None
            self._usual.add(*((0, 0) if trouble else (abandoned, completed + abandoned)))
            self._learned_ms += BUCKET_MS

    def _judge(self, figures: Figures, now_ms: int) -> None:
        if self._open is None and self._met(figures):
            self._open = Breach(KPI, now_ms, None, "ticket")
            self._memory.save(self._open)
        elif self._open is not None and self._over(figures):
            self._memory.save(replace(self._open, end_ms=now_ms))
            self._open = None

    def _met(self, figures: Figures) -> bool:
        """Whether the whole window proves it, or against a usual share a part of it."""
        usual, window_s = self._usual.usual(), self._settings.abandonment_window_s
        if usual is None:
            return self._above(figures[0])
        return any(
            self._above(figure) and self._unusual(usual, figure, span_s)
            for figure, span_s in zip(figures, [window_s / part for part in _PARTS], strict=True)
        )

    def _above(self, figure: AbandonmentPoint) -> bool:
        return figure.low is not None and figure.low > self._settings.abandonment_max

    def _unusual(self, usual: UsualShare, figure: AbandonmentPoint, span_s: float) -> bool:
        decided = figure.completed + figure.abandoned
        return usual.exceeded(figure.abandoned, decided, span_s, self._settings.abandonment_max)

    def _over(self, figures: Figures) -> bool:
        limit = self._settings.abandonment_max
        known = [figure.rate for figure in figures if figure.rate is not None]
        return bool(known) and all(rate <= limit for rate in known)

    def _reading(self, figures: Figures, now_ms: int) -> KpiReading:
        figure = figures[0]
        decided = figure.completed + figure.abandoned
        words = f"{figure.abandoned:,} of {decided:,} matured checkouts abandoned"
        if figure.low is not None:
            words += f", at least {figure.low:.1%} with 99 % certainty"
        if self._open is not None and not self._above(figure):
            parts = zip(figures, _PARTS, strict=True)
            words += "".join(self._part(late, part) for late, part in parts if self._above(late))
        detail: dict[str, float | str] = {"started": figure.started, "decided": decided}
        usual = self._usual.usual()
        if usual is not None:
            detail["usual"] = round(usual.share, 4)
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

    def _part(self, figure: AbandonmentPoint, part: int) -> str:
        minutes = self._settings.abandonment_window_s / 60 / part
        return f"; {figure.rate or 0:.0%} of the latest {minutes:g} min"

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
