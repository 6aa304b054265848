"""Do payments go through? Attempts of the last minutes against the least share that is normal."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from business_metrics.events import EventFeed
from business_metrics.memory import Breach, BreachMemory
from business_metrics.model import KpiReading
from business_metrics.settings import BusinessSettings
from business_metrics.significance import wilson
from store.model import Int64Array

KPI = "payment_success"
WINDOWS_S = (60, 300, 900)
_LEAST_ATTEMPTS = 10
# One-sided certainty of 99.9 %: the windows are looked at every few seconds.
_Z = 3.09
_REMEMBER_MS = 7 * 86_400_000


@dataclass(frozen=True, slots=True)
class Attempts:
    """Payments that went through, of all that were tried in a window."""

    window_s: int
    paid: int
    tried: int

    @property
    def share(self) -> float | None:
        return self.paid / self.tried if self.tried else None

    @property
    def bounds(self) -> tuple[float, float]:
        """By Wilson's score; each holds with 99.9 % certainty."""
        return wilson(self.paid, self.tried, _Z)


def failing(windows: tuple[Attempts, ...], least: float) -> Attempts | None:
    """The shortest window that proves a share below `least`."""
    return next((w for w in windows if w.tried >= _LEAST_ATTEMPTS and w.bounds[1] < least), None)


def healthy(windows: tuple[Attempts, ...], least: float) -> Attempts | None:
    """The shortest window that proves a share above `least`; the widest needs no proof."""
    for window in windows:
        if window.tried >= _LEAST_ATTEMPTS and window.bounds[0] > least:
            return window
    widest = windows[-1]
    plain = widest.share is not None and widest.tried >= _LEAST_ATTEMPTS
    return widest if plain and widest.paid >= least * widest.tried else None


class PaymentWatch:
    """The rule with its memory: proven below the limit to begin, above it to end.

    A shop without attempts says nothing: what held holds.
    """

    def __init__(self, feed: EventFeed, settings: BusinessSettings, memory: BreachMemory) -> None:
        self._feed = feed
        self._settings = settings
        self._memory = memory
        self._open: Breach | None = None
        self._loaded = False
        self._clean_ms = 0

    def tick(self, now_ms: int) -> KpiReading:
        """The share of the last 15 minutes, or of the window that decides."""
        if not self._loaded:
            known = self._memory.breaches(KPI, now_ms - _REMEMBER_MS)
            self._open = next((breach for breach in known if breach.end_ms is None), None)
            self._clean_ms = max((breach.end_ms or 0 for breach in known), default=0)
            self._loaded = True
        windows = self._windows(now_ms)
        shown = self._judge(windows, now_ms) or windows[-1]
        low, high = shown.bounds if shown.tried else (None, None)
        failed = shown.tried - shown.paid
        words = f"{failed:,} of {shown.tried:,} payments failed in the last {_span(shown.window_s)}"
        return KpiReading(
            kpi=KPI,
            at_ms=now_ms,
            value=shown.share,
            unit="ratio",
            low=low,
            high=high,
            breached=self._open is not None,
            severity=self._open.severity if self._open else "",
            since_ms=self._open.start_ms if self._open else None,
            reason=words if shown.tried else "no payment was tried in the last 15 min",
            window_s=shown.window_s,
            detail={"attempts": shown.tried, "failed": failed},
        )

    def _judge(self, windows: tuple[Attempts, ...], now_ms: int) -> Attempts | None:
        """Open or close the breach; the window to show while it is open."""
        least = self._settings.payment_success_min
        bad = failing(windows, least)
        if self._open is None and bad is not None:
            since_ms = now_ms - bad.window_s * 1_000
            self._open = Breach(KPI, since_ms, None, self._settings.payment_severity)
            self._memory.save(self._open)
        elif self._open is not None and windows[0] is not bad:
            self._end(healthy(windows, least), now_ms)
        if self._open is None:
            return None
        return bad or next((w for w in windows if w.tried), None)

    def _end(self, proof: Attempts | None, now_ms: int) -> None:
        """Windows begin anew with the proof, so that the same failures cannot count twice."""
        if self._open is None or proof is None:
            return
        self._clean_ms = max(now_ms - proof.window_s * 1_000, self._open.start_ms + 1)
        self._memory.save(replace(self._open, end_ms=self._clean_ms))
        self._open = None

    def _windows(self, now_ms: int) -> tuple[Attempts, ...]:
        paid, failed = self._feed.order_ms, self._feed.failed_ms
        found = []
        for window_s in WINDOWS_S:
            begin_ms = max(now_ms - window_s * 1_000, self._clean_ms)
            went = _between(paid, begin_ms, now_ms)
            found.append(Attempts(window_s, went, went + _between(failed, begin_ms, now_ms)))
        return tuple(found)


def _between(instants: Int64Array, begin_ms: int, end_ms: int) -> int:
    first, last = np.searchsorted(instants, [begin_ms, end_ms])
    return int(last - first)


def _span(window_s: int) -> str:
    return f"{window_s} s" if window_s < 120 else f"{window_s // 60} min"
