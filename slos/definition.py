"""An SLO as its author wrote it, whatever format it came in."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from slos.burn_rate import Tier
from slos.durations import format_duration

WINDOW = "{{.window}}"
_PLACEHOLDER = re.compile(r"\{\{-?\s*\.window\s*-?\}\}")
_RATE = re.compile(r"\brate\s*\(")


def render(query: str, window_s: int) -> str:
    """A query with its window filled in.

    >>> render("sum(rate(x[{{ .window }}]))", 8640)
    'sum(rate(x[2h24m]))'
    """
    return _PLACEHOLDER.sub(format_duration(window_s), query)


def has_placeholder(query: str) -> bool:
    """Whether a query says where its window goes."""
    return _PLACEHOLDER.search(query) is not None


def events_per_unit(query: str, window_s: int) -> float:
    """What turns a query's answer into a count: a rate is by second, an increase is a count."""
    return float(window_s) if _RATE.search(query) else 1.0


@dataclass(frozen=True, slots=True)
class EventSli:
    """Events counted by two PromQL queries with the window's placeholder.

    Attributes:
        query: Counts the bad events, or the good ones when `counts_good`.
    """

    query: str
    total_query: str
    counts_good: bool = False


@dataclass(frozen=True, slots=True)
class RatioSli:
    """A query that answers the error ratio itself; events cannot be counted."""

    query: str


Sli = EventSli | RatioSli


@dataclass(frozen=True, slots=True)
class Slo:
    """One objective with the tiers that guard it.

    Attributes:
        objective: The share of good events, between 0 and 1.
        window_s: The period of the budget.
        tiers: Those that can fire; `refused_tiers` says why the others cannot.
        annotations: For the alerts, as the author wrote them.
        severity_labels: More labels for the alerts of one severity.
    """

    name: str
    service: str
    objective: float
    window_s: int
    sli: Sli
    tiers: tuple[Tier, ...]
    refused_tiers: tuple[str, ...] = ()
    description: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    alert_name: str = ""
    annotations: dict[str, str] = field(default_factory=dict)
    severity_labels: dict[str, dict[str, str]] = field(default_factory=dict)
    file: str = ""
    line: int | None = None

    @property
    def id(self) -> str:
        """Sloth's id: service and name."""
        return f"{self.service}-{self.name}"
