"""Do payments go through? Attempts of the last minutes against the least share, and the usual one.

A share is proven too low by the exact binomial tail: few attempts of which nearly all go through
are nothing like normal. The usual share is that of the two hours before what is judged, at its
lower bound (Wilson, 99 %), and without the time in which payments failed already.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from business_metrics.events import EventFeed
from business_metrics.memory import Breach, BreachMemory
from business_metrics.model import KpiReading
from business_metrics.settings import BusinessSettings
from business_metrics.significance import binomial_lower_tail, wilson
from store.model import Int64Array

KPI = "payment_success"
WINDOWS_S = (60, 300, 900)
_LEAST_ATTEMPTS = 10
# The windows are looked at every few seconds: together they cost a false alarm in many months.
_ALPHA = 1e-7
# One-sided certainty of 99.9 %.
_Z = 3.09
_USUAL_MS = 7_200_000
_USUAL_LEAST_ATTEMPTS = 100
# Shares stray by less from hour to hour.
_LEAST_FALL = 0.05
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

    def below(self, share: float) -> bool:
        """Whether fewer go through than this share, proven."""
        return (
            self.tried >= _LEAST_ATTEMPTS
            and self.paid < share * self.tried
            and binomial_lower_tail(self.paid, self.tried, share) < _ALPHA
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """What is normal: at least `least`, and what is `usual`, proven, where it is known."""

    least: float
    usual: float | None = None

    @property
    def normal(self) -> float:
        """From here on nothing is wrong."""
        return max(self.least, (self.usual or 0.0) - _LEAST_FALL)

    def broken(self, window: Attempts) -> bool:
        """Below the least; or below the usual, and by five points and more."""
        if window.below(self.least):
            return True
        fallen = (window.share or 0.0) <= self.normal
        return self.usual is not None and fallen and window.below(self.usual)


def failing(windows: tuple[Attempts, ...], limits: Limits) -> Attempts | None:
    """The shortest window that proves that too few go through."""
    return next((window for window in windows if limits.broken(window)), None)


def healthy(
    windows: tuple[Attempts, ...], normal: float, before: tuple[Attempts, ...]
) -> Attempts | None:
    """The shortest window that proves that payments go through again; the widest needs no proof.

    Its share is normal, and lies for sure on the better side of the middle between that and what
    went through from the beginning of the breach until the window.

    Args:
        windows: Those that lie within the breach; the widest of all is the last if it does.
        normal: The least share with which nothing is wrong.
        before: The attempts of the breach before each window.
    """
    for window, broken in zip(windows, before, strict=True):
        share = window.share or 0.0
        worse = normal if broken.share is None else min(broken.share, normal)
        proven = window.bounds[0] > (worse + normal) / 2
        if window.tried >= _LEAST_ATTEMPTS and share >= normal and proven:
            return window
    widest = windows[-1] if len(windows) == len(WINDOWS_S) else None
    if widest is None or widest.tried < _LEAST_ATTEMPTS:
        return None
    return widest if widest.paid >= normal * widest.tried else None


class PaymentWatch:
    """The rule with its memory: proven below what is normal to begin, above it to end.

    A shop without attempts says nothing: what held holds.
    """

    def __init__(self, feed: EventFeed, settings: BusinessSettings, memory: BreachMemory) -> None:
        self._feed = feed
        self._settings = settings
        self._memory = memory
        self._open: Breach | None = None
        self._loaded = False
        self._clean_ms = 0
        self._past: list[tuple[int, int]] = []
        # That of the breach, while one is open: it must not become usual.
        self._usual: float | None = None

    def tick(self, now_ms: int) -> KpiReading:
        """The share of the last 15 minutes, or of the window that decides."""
        if not self._loaded:
            known = self._memory.breaches(KPI, now_ms - _REMEMBER_MS)
            self._open = next((breach for breach in known if breach.end_ms is None), None)
            self._past = [(b.start_ms, b.end_ms) for b in known if b.end_ms is not None]
            self._clean_ms = max((end_ms for _, end_ms in self._past), default=0)
            if self._open is not None:
                self._usual = self._usual_before(self._open.start_ms)
            self._loaded = True
        windows = self._windows(now_ms)
        shown = self._judge(windows, now_ms) or windows[-1]
        low, high = shown.bounds if shown.tried else (None, None)
        failed = shown.tried - shown.paid
        words = f"{failed:,} of {shown.tried:,} payments failed in the last {_span(shown.window_s)}"
        detail: dict[str, float | str] = {"attempts": shown.tried, "failed": failed}
        if self._usual is not None:
            detail["usual"] = round(self._usual, 4)
            if self._open is not None:
                words += f"; usually {self._usual:.1%} and more go through"
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
            detail=detail,
        )

    def _judge(self, windows: tuple[Attempts, ...], now_ms: int) -> Attempts | None:
        """Open or close the breach; the window to show while it is open."""
        if self._open is None:
            self._usual = self._usual_before(now_ms - WINDOWS_S[-1] * 1_000)
        limits = Limits(self._settings.payment_success_min, self._usual)
        bad = failing(windows, limits)
        if self._open is None and bad is not None:
            since_ms = now_ms - bad.window_s * 1_000
            self._open = Breach(KPI, since_ms, None, self._settings.payment_severity)
            self._memory.save(self._open)
        elif self._open is not None and windows[0] is not bad:
            self._end(self._back(windows, limits.normal, now_ms), now_ms)
        if self._open is None:
            return None
        return bad or next((w for w in windows if w.tried), None)

    def _end(self, proof: Attempts | None, now_ms: int) -> None:
        """Windows begin anew with the proof, so that the same failures cannot count twice."""
        if self._open is None or proof is None:
            return
        self._clean_ms = max(now_ms - proof.window_s * 1_000, self._open.start_ms + 1)
        self._memory.save(replace(self._open, end_ms=self._clean_ms))
        self._past = [
            *((a, b) for a, b in self._past if b > now_ms - 2 * _USUAL_MS),
            (self._open.start_ms, self._clean_ms),
        ]
        self._open = None

    def _usual_before(self, end_ms: int) -> float | None:
        """The share that goes through at least; None where too little is known."""
        begin_ms = end_ms - _USUAL_MS
        paid, failed = self._between(begin_ms, end_ms)
        for start_ms, stop_ms in self._past:
            gone = self._between(max(start_ms, begin_ms), min(stop_ms, end_ms))
            paid, failed = paid - gone[0], failed - gone[1]
        tried = paid + failed
        return wilson(paid, tried)[0] if tried >= _USUAL_LEAST_ATTEMPTS else None

    def _windows(self, now_ms: int) -> tuple[Attempts, ...]:
        starts = [max(now_ms - window_s * 1_000, self._clean_ms) for window_s in WINDOWS_S]
        return tuple(
            self._attempts(window_s, start_ms, now_ms)
            for window_s, start_ms in zip(WINDOWS_S, starts, strict=True)
        )

    def _back(self, windows: tuple[Attempts, ...], normal: float, now_ms: int) -> Attempts | None:
        start_ms = self._open.start_ms if self._open else now_ms
        begun = [(window, now_ms - window.window_s * 1_000) for window in windows]
        within = [(window, begin_ms) for window, begin_ms in begun if begin_ms >= start_ms]
        before = tuple(
            self._attempts((begin_ms - start_ms) // 1_000, start_ms, begin_ms)
            for _, begin_ms in within
        )
        return healthy(tuple(window for window, _ in within), normal, before)

    def _attempts(self, window_s: int, start_ms: int, end_ms: int) -> Attempts:
        paid, failed = self._between(start_ms, end_ms)
        return Attempts(window_s, paid, paid + failed)

    def _between(self, begin_ms: int, end_ms: int) -> tuple[int, int]:
        """Payments that went through, and that failed."""
        feed = self._feed
        return _count(feed.order_ms, begin_ms, end_ms), _count(feed.failed_ms, begin_ms, end_ms)


def _count(instants: Int64Array, begin_ms: int, end_ms: int) -> int:
    first, last = np.searchsorted(instants, [begin_ms, max(end_ms, begin_ms)])
    return int(last - first)


def _span(window_s: int) -> str:
    return f"{window_s} s" if window_s < 120 else f"{window_s // 60} min"
