"""What a panel may look at when it is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from business_metrics.model import KpiReading
from store.errors import WarroomError
from store.ports import Querier

Json = dict[str, Any]


class NotRecorded(WarroomError):
    """What a panel would show was not kept for the instant that is asked for."""


@dataclass(frozen=True, slots=True)
class EarlierSale:
    """The instant of an earlier sale that matches an instant of today."""

    name: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class PanelSources:
    """The rooms' answers. Lists are already in the shapes of the API.

    Attributes:
        kpi_then: A KPI at an earlier instant, for what no series tells: events may be older.
    """

    querier: Querier
    kpis: Callable[[], Sequence[KpiReading]]
    slos: Callable[[], list[Json]]
    alerts: Callable[[], list[Json]]
    findings: Callable[[], list[Json]]
    timeline: Callable[[int, int], list[Json]]
    sources: Callable[[int], list[Json]]
    earlier_sale: Callable[[int], EarlierSale | None] = lambda _now_ms: None
    kpi_then: Callable[[str, int], float | None] = lambda _kpi, _at_ms: None


@dataclass(frozen=True, slots=True)
class View:
    """One tick's look at the world.

    Attributes:
        now_ms: The tick's instant, on the grid of `step_ms`.
        range_ms: How far back graphs reach.
        step_ms: The distance of two points.
    """

    sources: PanelSources
    now_ms: int
    range_ms: int
    step_ms: int

    @property
    def start_ms(self) -> int:
        return self.now_ms - self.range_ms


def newest_value_ms(times_ms: Sequence[int], lines: Sequence[Sequence[float | None]]) -> int | None:
    """The last instant at which any line has a value; None where none ever had one."""
    for place in range(len(times_ms) - 1, -1, -1):
        if any(line[place] is not None for line in lines):
            return times_ms[place]
    return None
