"""Watches the order rate from tick to tick: when a drop began, how deep it is, when it is over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from business_metrics import order_rate
from business_metrics.baseline import LEVEL_MIN, Baseline, Interval
from business_metrics.coverage import FeedCoverage
from business_metrics.events import EventFeed
from business_metrics.expectation import NOTHING_EXPECTED, Expectation
from business_metrics.memory import Breach, BreachMemory
from business_metrics.minute_history import DAY_MIN, MINUTE_MS
from business_metrics.order_counts import OrderCounts
from business_metrics.order_rate import LONG_WINDOWS_S, WINDOWS_S, Evidence, OrderVerdict
from business_metrics.order_reading import KPI, OrdersNow, OrderTeller
from business_metrics.season import DOUBT_APART, Season
from business_metrics.settings import BusinessSettings
from business_metrics.significance import lower_tail
from store.model import BoolArray, Int64Array

_REMEMBER_MS = 90 * 86_400_000
_GUARD_MIN = 10
_OPEN_GUARD_MIN = 2
_PROVEN_ORDERS = 90
_WIDEST_MIN = LONG_WINDOWS_S[-1] // 60
_HOUR_MIN = WINDOWS_S[-1] // 60
_SEASON_MIN = 30
# Today's level is read anew as often; it rests on hours.
_LEVEL_EVERY_MIN = 5
_RECOVERY_S = (30, 60, 120, 300, 900, 3_600, 7_200, 14_400, 36_000)
_RATE_S = 60
_MAX_INTERVALS = 500
# Without a season the shop's last minutes are all that is known: read anew each minute.
_FRESH = frozenset({"none", "own_recent"})
_UNLIKE = frozenset({"unlike_day", "unlike_sale"})
# A holiday sells a fifth of a plain day.
_HOLIDAY = 0.2
_SILENCE_ALPHA = 1e-4


class OrderWatch:
    """The order rule with its memory. One tick at a time."""

    def __init__(
        self, feed: EventFeed, baseline: Baseline, settings: BusinessSettings, memory: BreachMemory
    ) -> None:
        self._feed = feed
        self._baseline = baseline
        self._settings = settings
        self._memory = memory
        self._counts = OrderCounts(feed)
        self._rule = (settings.alpha, settings.false_alarms_per_month)
        self._teller = OrderTeller(feed, self._counts, settings)
        self._coverage = FeedCoverage()
        self._reach_min = _HOUR_MIN
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
        return self._teller.now(verdict, expectation, (end_ms, now_ms), self._open)

    def judge(self, now_ms: int) -> Breach | None:
        """A tick that says only whether orders are missing; cheaper."""
        end_ms, expectation = self._look(now_ms)
        self._decide(expectation, end_ms, now_ms)
        return self._open

    def pass_over(self, now_ms: int) -> None:
        """A tick that is not judged; for simulations."""
        self._load(now_ms)
        self._coverage.observe(self._feed, now_ms)

    def suspicious(self, instants_ms: Int64Array) -> BoolArray:
        """At which of these instants any window could be significant at all; for simulations.

        They lie within one refresh of the expectation, and the feed holds the orders of them all.
        """
        since_ms = self._coverage.since_ms
        expectation = self.expectation(int(instants_ms[0]))
        if self._open is not None or since_ms is None or expectation.source in _FRESH:
            return np.ones(len(instants_ms), dtype=np.bool_)
        last_ms = int(instants_ms[-1])
        ends = instants_ms[:, np.newaxis]
        spans = np.asarray(self._windows_s(expectation, last_ms), dtype=np.int64) * 1_000
        starts = np.minimum(np.maximum(ends - spans, max(self._recovered_ms, since_ms)), ends)
        first_ms = int(starts.min())
        orders = self._counts.instants(first_ms, last_ms)
        places = np.searchsorted(orders, ends)
        latest = np.append(first_ms, orders)[places]
        starts = np.concatenate([starts, np.clip(latest, starts[:, -1:], ends)], axis=1)
        due = expectation.expected_until(first_ms, ends) - expectation.expected_until(
            first_ms, starts
        )
        seen = places - np.searchsorted(orders, starts)
        seen[:, -1] = 0
        found = order_rate.suspicious(due, seen, expectation.cv)
        if expectation.above_least > 1:
            due = due / expectation.above_least
            found |= order_rate.suspicious(due, seen, expectation.at_least().cv)
        return found

    def _look(self, now_ms: int) -> tuple[int, Expectation]:
        self._load(now_ms)
        self._coverage.observe(self._feed, now_ms)
        end_ms = now_ms - self._feed.lateness_ms
        return end_ms, self.expectation(end_ms)

    def _decide(self, expectation: Expectation, end_ms: int, now_ms: int) -> OrderVerdict:
        verdict, against = self._judge(expectation, end_ms, now_ms)
        if self._open is None and verdict.breached:
            self._begin(verdict, against, end_ms)
        elif self._open is not None:
            verdict = self._still(verdict, (expectation, against), end_ms)
        return verdict

    def expectation(self, end_ms: int) -> Expectation:
        """What is expected up to now; kept for some minutes."""
        minute = end_ms // MINUTE_MS
        if self._cached and self._cached[1].source not in _FRESH:
            minute -= minute % _LEVEL_EVERY_MIN
        since = self._open.start_ms if self._open else None
        key = (minute, since, len(self._past), self._coverage.hole(self._feed))
        if self._cached is None or self._cached[0] != key:
            self._cached = (key, self._reaching(minute, since))
        return self._cached[1]

    def _reaching(self, minute: int, since_ms: int | None) -> Expectation:
        """Over the last hour; in a small shop over as many hours as its windows need."""
        found = self._expect(minute, since_ms, self._reach_min)
        if found.source in _FRESH:
            short = self._reach_min == _HOUR_MIN
            return found if short else self._expect(minute, since_ms, _HOUR_MIN)
        needed = self._windows_s(found, minute * MINUTE_MS)[-1] // 60
        if needed > self._reach_min:
            self._reach_min = _WIDEST_MIN
            wide = self._expect(minute, since_ms, _WIDEST_MIN)
            found = found if wide.source in _FRESH else wide
        elif needed < self._reach_min // 4:
            self._reach_min = max(2 * needed, _HOUR_MIN)
        return found

    def _expect(self, minute: int, since_ms: int | None, reach_min: int) -> Expectation:
        excluded = [*self._past[-_MAX_INTERVALS:]]
        hole = self._coverage.hole(self._feed)
        if hole is not None:
            excluded.append(hole)
        start = minute - reach_min - 1
        until = minute - self._guard_min()
        if since_ms is not None:
            excluded.append((since_ms, (minute + 1) * MINUTE_MS))
            until = since_ms // MINUTE_MS - _OPEN_GUARD_MIN
            start = max(min(start, since_ms // MINUTE_MS), minute - DAY_MIN)
        season = self._season_of(minute, min(start, until - LEVEL_MIN), until, excluded)
        end = min(minute + _LEVEL_EVERY_MIN, _block_end(minute))
        return self._baseline.at_level(season, start, end, until, excluded)

    def _season_of(
        self, minute: int, first: int, until: int, excluded: Sequence[Interval]
    ) -> Season:
        """What earlier weeks say, read anew every few minutes: today moves only their holes."""
        key = (minute // _SEASON_MIN, self._open is None, len(self._past))
        known = self._season
        last = min(minute + _LEVEL_EVERY_MIN, _block_end(minute))
        if known is None or known[0] != key or not known[1].covers(first, last):
            season = self._baseline.season(first - _HOUR_MIN, _block_end(minute), until, excluded)
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
        end_ms = (known.start_minute + len(known.per_minute) - 1) * MINUTE_MS
        for window_s in (*WINDOWS_S, *LONG_WINDOWS_S):
            if known.expected(end_ms - window_s * 1_000, end_ms) >= _PROVEN_ORDERS:
                return max(window_s // 60, _GUARD_MIN)
        return _WIDEST_MIN

    def _judge(
        self, expectation: Expectation, end_ms: int, now_ms: int
    ) -> tuple[OrderVerdict, Expectation]:
        """What was decided, and against which expectation."""
        if self._coverage.since_ms is None:
            return OrderVerdict(breached=False, reason="waiting_for_first_event"), expectation
        if expectation.source == "none":
            return OrderVerdict(breached=False, reason="no_history_yet"), expectation
        counted = self._counted(expectation, end_ms)
        verdict = order_rate.judge(*counted.against(expectation), *self._rule)
        expectation = self._least_of(verdict, expectation, end_ms)
        if expectation.above_least > 1:
            least = expectation.at_least()
            below = order_rate.judge_below_usual(*counted.against(least), *self._rule)
            if not below.breached:
                verdict = self._doubted(verdict, counted, expectation)
            elif not verdict.breached:
                verdict, expectation = below, least
        if verdict.breached and now_ms < self._coverage.quiet_until_ms:
            verdict = replace(verdict, breached=False, reason="just_started")
        return verdict, expectation

    def _doubted(
        self, verdict: OrderVerdict, counted: _Counted, expectation: Expectation
    ) -> OrderVerdict:
        """No fewer than on the least of usual days: it may be the end of a promotion."""
        if not verdict.breached:
            return verdict
        windows, gap = counted.against(expectation)
        # The widest window tells most of what came since; the shortest was only the first.
        widest = order_rate.widest(windows, *self._rule)
        since_ms = counted.end_ms - round((widest or gap).window_s * 1_000)
        if widest:
            between = (1 + 1 / expectation.raised) / 2
            since_ms = self._onset(expectation, since_ms, counted.end_ms, between)
        whole = self._evidence(expectation, since_ms, counted.end_ms)
        if order_rate.back_to_usual(whole, expectation.raised, expectation.above_usual):
            return OrderVerdict(breached=False, reason="back_to_usual", evidence=whole)
        return verdict

    def _counted(self, expectation: Expectation, end_ms: int) -> _Counted:
        starts = self._starts(expectation, end_ms)
        seen = self._counts.since(starts, end_ms)
        return _Counted(end_ms, starts, seen, self._counts.latest_ms(end_ms, starts[-1]))

    def _least_of(
        self, verdict: OrderVerdict, expectation: Expectation, end_ms: int
    ) -> Expectation:
        """The same, brought down to the week that sold least in the very window that decides."""
        season, evidence = self._season, verdict.evidence
        if not verdict.breached or evidence is None or season is None:
            return expectation
        if expectation.source in _FRESH or season[1].source == "sale":
            return expectation
        minutes = math.ceil(evidence.window_s / 60) + 1
        above = season[1].above_lowest(end_ms // MINUTE_MS + 1, (minutes,), DOUBT_APART)
        return replace(expectation, least=min(expectation.least, expectation.usual / above))

    def _windows_s(self, expectation: Expectation, end_ms: int) -> tuple[int, ...]:
        if expectation.source in _FRESH:
            return WINDOWS_S
        return order_rate.windows_for(
            lambda window_s: expectation.expected(end_ms - window_s * 1_000, end_ms)
        )

    def _starts(self, expectation: Expectation, end_ms: int) -> list[int]:
        """Where each window begins, none before the feed is known to be whole."""
        since_ms = self._coverage.since_ms
        first = max(self._recovered_ms, end_ms if since_ms is None else since_ms)
        spans = self._windows_s(expectation, end_ms)
        return [min(max(end_ms - window_s * 1_000, first), end_ms) for window_s in spans]

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
        observed = self._counts.between(start_ms, end_ms)[0]
        return _evidence(expectation, start_ms, end_ms, observed)

    def _begin(self, verdict: OrderVerdict, expectation: Expectation, end_ms: int) -> None:
        since_ms = self._onset_of(verdict, expectation, end_ms)
        depth = self._evidence(expectation, since_ms, end_ms).ratio
        severity = order_rate.severity(depth) if _pages(verdict, expectation) else "ticket"
        self._open = Breach(KPI, since_ms, None, severity)
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
        instants = np.append(start_ms, self._counts.instants(start_ms, end_ms))
        # The surplus is highest right after an order, or at the beginning.
        surplus = np.arange(len(instants)) - share * expectation.expected_until(start_ms, instants)
        return int(instants[int(np.argmax(surplus))])

    def _still(
        self, verdict: OrderVerdict, expected: tuple[Expectation, Expectation], end_ms: int
    ) -> OrderVerdict:
        """The open breach: over when orders are proven back, graver when it got deeper.

        `expected` is what is expected, and what the verdict was reached against.
        """
        breach, (expectation, against) = self._open, expected
        if breach is None:
            return verdict
        whole = self._evidence(expectation, breach.start_ms, end_ms, watched=False)
        back = order_rate.recovered(self._recent(expectation, breach, end_ms), whole.ratio)
        if back is not None:
            self._end(replace(breach, end_ms=end_ms - round(back.window_s * 1_000)), end_ms)
            return OrderVerdict(breached=False, reason="orders_are_back", evidence=back)
        depth = self._evidence(against, breach.start_ms, end_ms, watched=False)
        told = (verdict.evidence or depth, depth) if verdict.breached else ()
        graver = _pages(verdict, expectation) and any(map(order_rate.graver, told))
        if breach.severity == "ticket" and graver:
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


@dataclass(frozen=True, slots=True)
class _Counted:
    """Orders in the windows that begin at `starts_ms` and end now, and when the latest came."""

    end_ms: int
    starts_ms: Sequence[int]
    seen: Sequence[int]
    latest_ms: int

    def against(self, expectation: Expectation) -> tuple[list[Evidence], Evidence]:
        """The windows, and the time since the latest order."""
        windows = [
            _evidence(expectation, start_ms, self.end_ms, seen)
            for start_ms, seen in zip(self.starts_ms, self.seen, strict=True)
        ]
        return windows, _evidence(expectation, self.latest_ms, self.end_ms, 0)


def _pages(verdict: OrderVerdict, expectation: Expectation) -> bool:
    """On a sale day or a holiday whose level nobody knows yet, only a long silence is grave."""
    if expectation.source not in _UNLIKE:
        return True
    due = verdict.evidence.expected if verdict.evidence else 0.0
    return verdict.reason == "no_orders" and lower_tail(0, _HOLIDAY * due) < _SILENCE_ALPHA


def _block_end(minute: int) -> int:
    """No further: a sale may begin with the next half hour, and has another season."""
    return minute - minute % _SEASON_MIN + _SEASON_MIN


def _evidence(expectation: Expectation, start_ms: int, end_ms: int, seen: int) -> Evidence:
    due = expectation.expected(start_ms, end_ms)
    cv = expectation.cv_over(due, (end_ms - start_ms) / MINUTE_MS)
    return Evidence((end_ms - start_ms) / 1_000, seen, due, cv)
