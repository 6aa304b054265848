"""An SLO's tiers from tick to tick: what fires, since when, and which of it is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from slos.burn_rate import Tier, TierDecision, WindowReading
from slos.measure import weights
from slos.model import TierReading

_RANK = {"page": 0, "ticket": 1}
_MOST = 0.9
_NARROWEST_S = 4
_STRIDE = 4
_STEADY_TURNS = 4
_MAX_READINGS = 12
MAX_SEARCHES = 20


@dataclass(slots=True)
class _Memory:
    firing: bool = False
    decided_ms: int = 0
    since_ms: int | None = None
    told: bool = False
    guessed: bool = False


class TierMemory:
    """What the tiers of one SLO last said."""

    def __init__(self, tiers: Sequence[Tier]) -> None:
        self._memory = {tier: _Memory() for tier in tiers}

    def since_ms(self, tier: Tier) -> int | None:
        """Since when the budget burns so; None when the tier does not fire."""
        return self._memory[tier].since_ms

    def open_question(self, tier: Tier) -> bool:
        """Since when it burns is not known, or only guessed."""
        return self._memory[tier].since_ms is None or self._memory[tier].guessed

    def began(self, tier: Tier, since_ms: int, *, guessed: bool = False) -> None:
        self._memory[tier].since_ms, self._memory[tier].guessed = since_ms, guessed

    def settle(self, tier: Tier, decision: TierDecision, now_ms: int) -> TierDecision:
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

    def inhibit(self, readings: Sequence[TierReading]) -> tuple[TierReading, ...]:
        """Mark slower tiers that have nothing to add.

        A tier that begins to fire while one of a graver severity fires is inhibited until that one
        ends. One that was told before goes on: taking it back would look like a recovery.
        """
        firing = [reading for reading in readings if reading.firing]
        gravest = min((_rank(reading) for reading in firing), default=0)
        marked = []
        for tier, reading in zip(self._memory, readings, strict=True):
            memory = self._memory[tier]
            inhibited = reading.firing and not memory.told and _rank(reading) > gravest
            memory.told = reading.firing and not inhibited
            marked.append(replace(reading, inhibited=True) if inhibited else reading)
        return tuple(marked)


def _rank(reading: TierReading) -> int:
    return _RANK.get(reading.severity, len(_RANK))


class Searches:
    """How many times within one tick it may be searched when a burn began.

    When much breaks at once the page does not wait for that: it says a first guess.
    """

    def __init__(self, left: int = MAX_SEARCHES) -> None:
        self._left = left

    def take(self) -> bool:
        """Whether one more may be made."""
        self._left -= 1
        return self._left >= 0


def first_guess(long: WindowReading, short: WindowReading, now_ms: int) -> int:
    """When the burn began, by the two windows alone: as long ago as the short one's pace needs."""
    bad, recent = weights(long)[0], weights(short)[0]
    if bad <= 0:
        return now_ms
    length_s = short.window_s * max(bad / recent, 1.0) if recent > 0 else long.window_s
    return now_ms - round(min(length_s, float(long.window_s)) * 1_000)


def burning_since(
    long: WindowReading,
    start_s: int,
    read: Callable[[int], WindowReading],
    now_ms: int,
    planned: Sequence[tuple[int, int]] = (),
) -> int:
    """When the burn began, by the data.

    Of a sudden, steady fault the narrowest window with nine tenths of the long window's bad events
    is nine tenths as long as the fault. That holds for a service that is younger than the long
    window, too. Of planned work neither the events nor the time count.

    Args:
        long: The long window.
        start_s: The width to try first.
        read: A window of a width that ends now.
        now_ms: The tick.
        planned: Spans that do not count, apart from each other; `long` and `read` are without them.
    """
    bad = weights(long)[0]
    if bad <= 0:
        return now_ms
    longest_s = long.window_s
    bracket = _Bracket(_MOST * bad * (1 - 1e-9), longest_s, read)
    bracket.attempt(min(max(start_s, _NARROWEST_S), longest_s))
    while bracket.high == longest_s and bracket.low * _STRIDE < longest_s:
        bracket.attempt(bracket.low * _STRIDE)
    while not bracket.low and bracket.high > _NARROWEST_S:
        bracket.attempt(max(bracket.high // _STRIDE, _NARROWEST_S))
    for turn in range(_MAX_READINGS):
        fine_s = max(bracket.high // 100, 1)
        if bracket.high - bracket.low <= fine_s:
            break
        bracket.attempt(bracket.next(turn, fine_s))
    start_ms = now_ms - bracket.high * 1_000
    cut = [(max(a, start_ms), min(b, now_ms)) for a, b in planned]
    burning_ms = now_ms - start_ms - sum(b - a for a, b in cut if a < b)
    since_ms = _back(now_ms, round(burning_ms / _MOST), planned)
    return max(since_ms, now_ms - longest_s * 1_000)


class _Bracket:
    """The widest window that is known to hold too little, and the narrowest that holds enough."""

    def __init__(self, enough: float, longest_s: int, read: Callable[[int], WindowReading]) -> None:
        self.low, self.high = 0, longest_s
        self._enough, self._read = enough, read
        self._low_bad = 0.0

    def attempt(self, window_s: int) -> None:
        if not self.low < window_s < self.high:
            return
        found = weights(self._read(window_s))[0]
        if found >= self._enough:
            self.high = window_s
        else:
            self.low, self._low_bad = window_s, found

    def next(self, turn: int, fine_s: int) -> int:
        """Of a steady fault the lower end's pace tells the width; one just below proves it."""
        middle = (self.low + self.high) // 2
        if turn > _STEADY_TURNS or (turn % 2 == 0 and self._low_bad <= 0):
            return middle
        if turn % 2:
            return self.high - fine_s
        wanted = math.ceil(min(self.low * self._enough / self._low_bad, float(self.high)))
        return wanted if self.low < wanted < self.high else middle


def _back(now_ms: int, length_ms: int, planned: Sequence[tuple[int, int]]) -> int:
    """So long ago, by a clock that stands still within planned work."""
    at_ms = now_ms
    for start_ms, end_ms in sorted(planned, reverse=True):
        free_ms = at_ms - min(end_ms, at_ms)
        if length_ms <= free_ms:
            break
        length_ms -= free_ms
        at_ms = min(start_ms, at_ms)
    return at_ms - length_ms
