"""Watches the order rate from tick to tick: when a drop began, how deep it is, when it is over."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np

from business_metrics import order_rate
from business_metrics.baseline import LEVEL_MIN, Baseline, Interval, Season
from business_metrics.coverage import FeedCoverage
from business_metrics.events import EventFeed, money
from business_metrics.expectation import NOTHING_EXPECTED, Expectation
from business_metrics.memory import Breach, BreachMemory
from business_metrics.minute_history import DAY_MIN, MINUTE_MS
from business_metrics.model import KpiReading
from business_metrics.order_rate import WINDOWS_S, Evidence, OrderVerdict
from business_metrics.settings import BusinessSettings
from business_metrics.significance import lower_tail, quantile

KPI = "order_rate"
_REMEMBER_MS = 90 * 86_400_000
_GUARD_MIN = 10
_OPEN_GUARD_MIN = 2
_GUARD_MAX_MIN = WINDOWS_S[-1] // 60
_SEASON_MIN = 10
_RECOVERY_S = (30, 60, 120, 300, 900, 3_600)
_RATE_S = 60
_BAND = 0.005
_MAX_INTERVALS = 500
_AVERAGE_OVER_MIN = 1_440


@dataclass(frozen=True, slots=True)
class OrdersNow:
    """What one tick says of the orders.

    Attributes:
        revenue_per_minute: Less refunds; below zero when more was given back than taken.
        expected_per_minute: None while nothing is expected yet; `low` and `high` bound a minute.
    """

    reading: KpiReading
    orders_per_minute: float
    revenue_per_minute: Decimal
    expected_per_minute: float | None
    low: float | None
    high: float | None


class OrderWatch:
    """The order rule with its memory. One tick at a time."""

    def __init__(
        self, feed: EventFeed, baseline: Baseline, settings: BusinessSettings, memory: BreachMemory
    ) -> None:
        self._feed = feed
        self._baseline = baseline
        self._settings = settings
        self._memory = memory
        self._coverage = FeedCoverage()
        self._past: list[Interval] = []
        self._open: Breach | None = None
        self._recovered_ms = 0
        self._loaded = False
        self._cached: tuple[tuple[object, ...], Expectation] | None = None
        self._season: tuple[tuple[object, ...], Season] | None = None

    @property
    def excluded(self) -> Sequence[Interval]:
        """Past spans with missing orders, in milliseconds."""
        return tuple(self._past)

    def undisturbed_until(self, minute: int) -> int:
        """Up to then, the last minute that tells the level of the day: before an open breach."""
        since_ms = self._open.start_ms if self._open else None
        return minute if since_ms is None else min(minute, since_ms // MINUTE_MS - _OPEN_GUARD_MIN)

    def tick(self, now_ms: int) -> OrdersNow:
        """Judge the orders up to now, less the time events usually take to arrive."""
        end_ms, expectation = self._look(now_ms)
        verdict = self._decide(expectation, end_ms, now_ms)
        return self._now(verdict, expectation, end_ms, now_ms)

    def judge(self, now_ms: int) -> Breach | None:
        """A tick that says only whether orders are missing; much cheaper while they are not."""
        end_ms, expectation = self._look(now_ms)
        if self._open is not None or self._suspicious(expectation, end_ms):
            self._decide(expectation, end_ms, now_ms)
        return self._open

    def _look(self, now_ms: int) -> tuple[int, Expectation]:
        self._load(now_ms)
        self._coverage.observe(self._feed, now_ms)
        end_ms = now_ms - self._feed.lateness_ms
        return end_ms, self.expectation(end_ms)

    def _decide(self, expectation: Expectation, end_ms: int, now_ms: int) -> OrderVerdict:
        verdict = self._judge(expectation, end_ms, now_ms)
        if self._open is None and verdict.breached:
            self._begin(verdict, expectation, end_ms)
        elif self._open is not None:
            verdict = self._still(verdict, expectation, end_ms)
        return verdict

    def _suspicious(self, expectation: Expectation, end_ms: int) -> bool:
        """Whether any window could be significant at all; what it passes over never is."""
        starts = self._starts(end_ms)
        seen = self._seen_since(starts, end_ms)
        expected = [expectation.expected(start, end_ms) for start in starts]
        if any(map(order_rate.unlikely, seen, expected, itertools.repeat(expectation.cv))):
            return True
        latest_ms = max(self._latest_ms(end_ms), starts[-1])
        due = expectation.expected(latest_ms, end_ms)
        return lower_tail(0, due, expectation.cv) < self._settings.alpha

    def expectation(self, end_ms: int) -> Expectation:
        """What is expected up to now; kept for a minute."""
        minute = end_ms // MINUTE_MS
        since = self._open.start_ms if self._open else None
        key = (minute, since, len(self._past), self._coverage.hole(self._feed))
        if self._cached is None or self._cached[0] != key:
            self._cached = (key, self._expect(minute, since))
        return self._cached[1]

    def _expect(self, minute: int, since_ms: int | None) -> Expectation:
        excluded = [*self._past[-_MAX_INTERVALS:]]
        hole = self._coverage.hole(self._feed)
        if hole is not None:
            excluded.append(hole)
        start = minute - 61
        until = minute - self._guard_min()
        if since_ms is not None:
            excluded.append((since_ms, (minute + 1) * MINUTE_MS))
            until = since_ms // MINUTE_MS - _OPEN_GUARD_MIN
            start = max(min(start, since_ms // MINUTE_MS), minute - DAY_MIN)
        season = self._season_of(minute, min(start, until - LEVEL_MIN), until, excluded)
        return self._baseline.at_level(season, start, minute + 2, until, excluded)

    def _season_of(
        self, minute: int, first: int, until: int, excluded: Sequence[Interval]
    ) -> Season:
        """What earlier weeks say, read anew every few minutes: today moves only their holes."""
        key = (minute // _SEASON_MIN, self._open is None, len(self._past))
        known = self._season
        if known is None or known[0] != key or not known[1].covers(first, minute + 2):
            end = minute - minute % _SEASON_MIN + _SEASON_MIN + 2
            season = self._baseline.season(first - _GUARD_MAX_MIN, end, until, excluded)
            self._season = known = (key, season)
        return known[1]

    def _guard_min(self) -> int:
        """The latest minutes are on trial: as many as it takes to prove a drop by half."""
        known = self._cached[1] if self._cached else NOTHING_EXPECTED
        if not len(known.per_minute):
            return 1
        if known.source == "own_recent":
            seen_min = (self._coverage.since_ms or 0) // MINUTE_MS
            return min(_GUARD_MIN, max((known.start_minute + 61 - seen_min) // 3, 1))
        rate = float(known.per_minute[-1])
        for window_s in WINDOWS_S:
            if rate * window_s / 60 >= 90:
                return max(window_s // 60, _GUARD_MIN)
        return WINDOWS_S[-1] // 60

    def _judge(self, expectation: Expectation, end_ms: int, now_ms: int) -> OrderVerdict:
        if self._coverage.since_ms is None:
            return OrderVerdict(breached=False, reason="waiting_for_first_event")
        if expectation.source == "none":
            return OrderVerdict(breached=False, reason="no_history_yet")
        starts, cv = self._starts(end_ms), expectation.cv
        windows = [
            Evidence((end_ms - start) / 1_000, seen, expectation.expected(start, end_ms), cv)
            for start, seen in zip(starts, self._seen_since(starts, end_ms), strict=True)
        ]
        gap = replace(self._evidence(expectation, self._latest_ms(end_ms), end_ms), observed=0)
        settings = self._settings
        verdict = order_rate.judge(windows, gap, settings.alpha, settings.false_alarms_per_month)
        if verdict.breached and now_ms < self._coverage.quiet_until_ms:
            return replace(verdict, breached=False, reason="just_started")
        if verdict.breached and expectation.raised > 1:
            # The widest window tells most of what came since; the shortest was only the first.
            widest = order_rate.widest(windows, settings.alpha, settings.false_alarms_per_month)
            since_ms = end_ms - round((widest or gap).window_s * 1_000)
            if widest:
                between = (1 + 1 / expectation.raised) / 2
                since_ms = self._onset(expectation, since_ms, end_ms, between)
            whole = self._evidence(expectation, since_ms, end_ms)
            if order_rate.back_to_usual(whole, expectation.raised):
                return OrderVerdict(breached=False, reason="back_to_usual", evidence=whole)
        return verdict

    def _latest_ms(self, end_ms: int) -> int:
        """The latest order; where none is kept, the beginning of the widest window."""
        last = int(np.searchsorted(self._feed.order_ms, end_ms))
        return int(self._feed.order_ms[last - 1]) if last else end_ms - WINDOWS_S[-1] * 1_000

    def _starts(self, end_ms: int) -> list[int]:
        """Where each window begins, none before the feed is known to be whole."""
        since_ms = self._coverage.since_ms
        first = max(self._recovered_ms, end_ms if since_ms is None else since_ms)
        return [min(max(end_ms - window_s * 1_000, first), end_ms) for window_s in WINDOWS_S]

    def _seen_since(self, starts: Sequence[int], end_ms: int) -> list[int]:
        places: list[int] = np.searchsorted(self._feed.order_ms, [*starts, end_ms]).tolist()
        return [places[-1] - place for place in places[:-1]]

    def _evidence(
        self, expectation: Expectation, start_ms: int, end_ms: int, *, watched: bool = True
    ) -> Evidence:
        """Counts since `start_ms`, or a recovery after it.

        What is `watched` begins no earlier than the feed is known to be whole.
        """
        first = max(start_ms, self._recovered_ms)
        if watched:
            since_ms = self._coverage.since_ms
            first = max(first, end_ms if since_ms is None else since_ms)
        start_ms = min(first, end_ms)
        expected = expectation.expected(start_ms, end_ms)
        observed = self._observed(start_ms, end_ms)[0]
        return Evidence((end_ms - start_ms) / 1_000, observed, expected, expectation.cv)

    def _observed(self, start_ms: int, end_ms: int) -> tuple[int, int]:
        """Orders and money units; by whole minutes before what is kept exactly."""
        kept_ms = end_ms - WINDOWS_S[-1] * 1_000
        orders, units = self._feed.orders_between(max(start_ms, kept_ms), end_ms)
        if start_ms < kept_ms:
            old = self._feed.history.slice(start_ms // MINUTE_MS, kept_ms // MINUTE_MS).sum(axis=1)
            orders, units = orders + int(old[0]), units + int(old[1])
        return orders, units

    def _begin(self, verdict: OrderVerdict, expectation: Expectation, end_ms: int) -> None:
        since_ms = self._onset_of(verdict, expectation, end_ms)
        depth = self._evidence(expectation, since_ms, end_ms).ratio
        self._open = Breach(KPI, since_ms, None, order_rate.severity(depth))
        self._memory.save(self._open)

    def _onset_of(self, verdict: OrderVerdict, expectation: Expectation, end_ms: int) -> int:
        window_s = verdict.evidence.window_s if verdict.evidence else _RATE_S
        since_ms = end_ms - round(window_s * 1_000)
        if verdict.reason == "no_orders":
            return since_ms
        return self._onset(expectation, since_ms, end_ms)

    def _onset(
        self, expectation: Expectation, start_ms: int, end_ms: int, share: float = 1.0
    ) -> int:
        """When the drop began: where the surplus over that share of the expected was highest."""
        first, last = np.searchsorted(self._feed.order_ms, [start_ms, end_ms])
        instants = np.append(start_ms, self._feed.order_ms[first:last])
        # The surplus is highest right after an order, or at the beginning.
        surplus = np.arange(len(instants)) - share * expectation.expected_until(start_ms, instants)
        return int(instants[int(np.argmax(surplus))])

    def _still(self, verdict: OrderVerdict, expectation: Expectation, end_ms: int) -> OrderVerdict:
        """The open breach: over when orders are proven back, graver when it got deeper."""
        breach = self._open
        if breach is None:
            return verdict
        whole = self._evidence(expectation, breach.start_ms, end_ms, watched=False)
        back = order_rate.recovered(self._recent(expectation, breach, end_ms), whole.ratio)
        if back is not None:
            self._end(replace(breach, end_ms=end_ms - round(back.window_s * 1_000)), end_ms)
            return OrderVerdict(breached=False, reason="orders_are_back", evidence=back)
        told = (verdict.evidence or whole, whole) if verdict.breached else ()
        if breach.severity == "ticket" and any(map(order_rate.graver, told)):
            self._open = replace(breach, severity="page")
            self._memory.save(self._open)
        if verdict.breached:
            return verdict
        return OrderVerdict(breached=True, reason="orders_not_yet_back", evidence=whole)

    def _recent(self, expectation: Expectation, breach: Breach, end_ms: int) -> list[Evidence]:
        starts = [max(end_ms - span * 1_000, breach.start_ms) for span in _RECOVERY_S]
        return [self._evidence(expectation, start, end_ms) for start in dict.fromkeys(starts)]

    def _end(self, breach: Breach, end_ms: int) -> None:
        stop_ms = max(breach.end_ms or end_ms, breach.start_ms + 1)
        self._memory.save(replace(breach, end_ms=stop_ms))
        self._past.append((breach.start_ms, stop_ms))
        self._past = self._past[-_MAX_INTERVALS:]
        self._recovered_ms = stop_ms
        self._open = None

    def _load(self, now_ms: int) -> None:
        if self._loaded:
            return
        for breach in self._memory.breaches(KPI, now_ms - _REMEMBER_MS):
            if breach.end_ms is None:
                self._open = breach
            else:
                self._past.append((breach.start_ms, breach.end_ms))
                self._recovered_ms = max(self._recovered_ms, breach.end_ms)
        self._loaded = True

    def _now(
        self, verdict: OrderVerdict, expectation: Expectation, end_ms: int, now_ms: int
    ) -> OrdersNow:
        orders, units = self._feed.orders_between(end_ms - MINUTE_MS, end_ms)
        due = expectation.expected(end_ms - MINUTE_MS, end_ms)
        known = len(expectation.per_minute) > 0
        band = [float(quantile(q, due, expectation.cv)) for q in (_BAND, 1 - _BAND)]
        return OrdersNow(
            reading=self._reading(verdict, expectation, end_ms, now_ms),
            orders_per_minute=float(orders),
            revenue_per_minute=money(
                units - self._feed.refunded_between(end_ms - MINUTE_MS, end_ms)
            ),
            expected_per_minute=due if known else None,
            low=band[0] if known else None,
            high=band[1] if known else None,
        )

    def _reading(
        self, verdict: OrderVerdict, expectation: Expectation, end_ms: int, now_ms: int
    ) -> KpiReading:
        evidence = verdict.evidence
        if evidence is None or evidence.window_s <= 0:
            # Also while a breach is open and nothing can be judged: what held holds.
            orders = self._feed.orders_between(end_ms - MINUTE_MS, end_ms)[0]
            value = float(orders) if self._feed.history.first_minute is not None else None
            bare = KpiReading(
                kpi=KPI,
                at_ms=now_ms,
                value=value,
                unit="orders/min",
                reason=order_rate.in_words(verdict),
                window_s=_RATE_S,
                detail={"decision": verdict.reason},
            )
            return self._with_breach(bare, expectation, end_ms)
        minutes = evidence.window_s / 60
        low, high = (
            quantile(q, evidence.expected, evidence.cv) / minutes for q in (_BAND, 1 - _BAND)
        )
        reading = KpiReading(
            kpi=KPI,
            at_ms=now_ms,
            value=evidence.observed / minutes,
            unit="orders/min",
            expected=evidence.expected / minutes,
            low=low,
            high=high,
            reason=order_rate.in_words(verdict),
            window_s=round(evidence.window_s),
            detail={
                "decision": verdict.reason,
                "baseline": expectation.source,
                "level": round(expectation.level, 3),
            },
        )
        return self._with_breach(reading, expectation, end_ms)

    def _with_breach(
        self, reading: KpiReading, expectation: Expectation, end_ms: int
    ) -> KpiReading:
        breach = self._open
        if breach is None:
            return reading
        risk, low, high = self.at_risk(expectation, breach.start_ms, end_ms)
        orders = expectation.expected(breach.start_ms, end_ms)
        missing = max(orders - self._observed(breach.start_ms, end_ms)[0], 0.0)
        detail: dict[str, float | str] = {
            "missing_orders": round(missing, 1),
            "revenue_at_risk_low": str(low),
            "revenue_at_risk_high": str(high),
        }
        return replace(
            reading,
            breached=True,
            severity=breach.severity,
            since_ms=breach.start_ms,
            revenue_at_risk=risk,
            currency=self._settings.currency,
            detail=dict(reading.detail) | detail,
        )

    def at_risk(
        self, expectation: Expectation, start_ms: int, end_ms: int
    ) -> tuple[Decimal, Decimal, Decimal]:
        """Expected less actual revenue with its band (95 %), at what an order usually brings."""
        average = self.average_units(start_ms)
        due = expectation.expected(start_ms, end_ms)
        units = self._observed(start_ms, end_ms)[1]
        bounds = [quantile(q, due, expectation.cv) for q in (0.025, 0.975)]
        figures = [money(max(orders * average - units, 0.0)) for orders in (due, *bounds)]
        return figures[0], figures[1], figures[2]

    def average_units(self, before_ms: int) -> float:
        """Money units of an average order in the day before an instant."""
        minute = before_ms // MINUTE_MS
        history = self._feed.history
        day = history.slice(minute - _AVERAGE_OVER_MIN, minute).sum(axis=1)
        return float(day[1] / day[0]) if day[0] else 0.0
