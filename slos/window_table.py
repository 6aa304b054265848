"""Tables of multiwindow tiers, shipped as data in `slos/windows`, and the tiers of any period."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources

from slos.burn_rate import Tier, infeasible_reason, tier_factor
from slos.durations import format_duration, parse_duration_s

DEFAULT_TABLE = "google-30d"
_SHORTEST_UNSCALED_S = 7 * 86_400


@dataclass(frozen=True, slots=True)
class WindowTable:
    """Tiers of one reference period. Their factors are for that period."""

    name: str
    source: str
    period_s: int
    tiers: tuple[Tier, ...]


def table_names() -> tuple[str, ...]:
    """The tables that are shipped."""
    folder = resources.files("slos") / "windows"
    return tuple(sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".toml")))


@cache
def load_table(name: str) -> WindowTable:
    """A shipped table.

    Raises:
        KeyError: There is none of that name.
    """
    if name not in table_names():
        raise KeyError(name)
    text = (resources.files("slos") / "windows" / f"{name}.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)
    period_s = parse_duration_s(data["period"])
    tiers = []
    for entry in data["tier"]:
        long_s, budget = parse_duration_s(entry["long"]), float(entry["budget"])
        factor = tier_factor(budget, period_s, long_s)
        short_s = parse_duration_s(entry["short"])
        tiers.append(Tier(entry["severity"], long_s, short_s, budget, factor))
    return WindowTable(name, data["source"], period_s, tuple(tiers))


class WindowTables:
    """The shipped tables, and those that the files bring (Sloth's AlertWindows)."""

    def __init__(self, own: Iterable[WindowTable] = ()) -> None:
        self._own = {table.name: table for table in own}
        self._by_period = {table.period_s: table for table in self._own.values()}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted({*self._own, *table_names()}))

    def __contains__(self, name: str) -> bool:
        return name in self._own or name in table_names()

    def named(self, name: str) -> WindowTable:
        """A table by name; the empty name is the default, or what the files have for a month."""
        if not name:
            default = load_table(DEFAULT_TABLE)
            return self._by_period.get(default.period_s, default)
        return self._own.get(name) or load_table(name)

    def for_period(self, name: str, period_s: int) -> WindowTable:
        """The table that was named; otherwise what the files have for this period."""
        return self.named(name) if name else self._by_period.get(period_s, self.named(name))


def tiers_for(table: WindowTable, period_s: int, *, scaled: bool) -> tuple[Tier, ...]:
    """The tiers of a table for another period.

    Long and short windows stay and the factors follow the period. A period under a week cannot
    hold windows of days: with `scaled` the windows shrink with it, and the factors stay.
    """
    shrink = scaled and period_s < min(_SHORTEST_UNSCALED_S, table.period_s)
    ratio = period_s / table.period_s if shrink else 1.0
    tiers = []
    for tier in table.tiers:
        long_s = max(round(tier.long_s * ratio), 2)
        short_s = max(round(tier.short_s * ratio), 1)
        factor = tier_factor(tier.budget, period_s, long_s)
        tiers.append(Tier(tier.severity, long_s, short_s, tier.budget, factor))
    return tuple(tiers)


def windows_of(tiers: Iterable[Tier]) -> tuple[int, ...]:
    """All their windows, shortest first, in seconds."""
    return tuple(sorted({window_s for tier in tiers for window_s in (tier.short_s, tier.long_s)}))


def feasible(tiers: tuple[Tier, ...], objective: float) -> tuple[tuple[Tier, ...], tuple[str, ...]]:
    """The tiers that can fire, and for each of the others the reason why it cannot."""
    kept, refused = [], []
    for tier in tiers:
        reason = infeasible_reason(tier, objective)
        if reason:
            windows = f"{format_duration(tier.long_s)}/{format_duration(tier.short_s)}"
            refused.append(f"{tier.severity} tier {windows} {reason}")
        else:
            kept.append(tier)
    return tuple(kept), tuple(refused)
