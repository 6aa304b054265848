"""An SLO's tiers from tick to tick: what fires, since when, and which of it is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from slos.burn_rate import Tier, TierDecision, WindowReading
from slos.measure import Meter, weights
from slos.model import TierReading

_RANK = {"page": 0, "ticket": 1}
_MOST = 0.9
_NARROWEST_S = 4


@dataclass(slots=True)
class _Memory:
    firing: bool = False
    decided_ms: int = 0
    since_ms: int | None = None
    told: bool = False


class TierMemory:
    """What the tiers of one SLO last said."""

    def __init__(self, tiers: Sequence[Tier]) -> None:
        self._memory = {tier: _Memory() for tier in tiers}

    def since_ms(self, tier: Tier) -> int | None:
        """Since when the budget burns so; None when the tier does not fire."""
        return self._memory[tier].since_ms

    def began(self, tier: Tier, since_ms: int) -> None:
        self._memory[tier].since_ms = since_ms

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


def burning_since(long: WindowReading, meter: Meter, now_ms: int) -> int:
    """When the burn began, by the data.

    Of a sudden, steady fault the narrowest window with nine tenths of the long window's bad events
    is nine tenths as long as the fault. That holds for a service that is younger than the long
    window, too. Costs some twenty readings, once.
    """
    bad = weights(long)[0]
    if bad <= 0:
        return now_ms

    def holds(window_s: int) -> bool:
        found = weights(meter.between(now_ms - window_s * 1_000, now_ms))[0]
        return found >= _MOST * bad * (1 - 1e-9)

    low, high = 0, min(_NARROWEST_S, long.window_s)
    while high < long.window_s and not holds(high):
        low, high = high, min(high * 2, long.window_s)
    while high - low > max(high // 100, 1):
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return now_ms - round(min(high / _MOST, float(long.window_s)) * 1_000)
