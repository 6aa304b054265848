"""An SLO as its author wrote it, whatever format it came in."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from slos.burn_rate import Tier
from slos.calendar_window import CalendarWindow
from slos.durations import format_duration

WINDOW = "{{.window}}"
_PLACEHOLDER = re.compile(r"\{\{-?\s*\.window\s*-?\}\}")
_RATE = re.compile(r"\b(?:rate|irate|deriv)\s*\(")
_COUNT = re.compile(r"\b(?:increase|delta|changes|sum_over_time|count_over_time)\s*\(")


def render(query: str, window_s: int) -> str:
    """A query with its window filled in.

    >>> render("sum(rate(x[{{ .window }}]))", 8640)
    'sum(rate(x[2h24m]))'
    """
    return _PLACEHOLDER.sub(format_duration(window_s), query)


def has_placeholder(query: str) -> bool:
    """Whether a query says where its window goes."""
    return _PLACEHOLDER.search(query) is not None


@dataclass(frozen=True, slots=True)
class EventSli:
    """Events counted by two PromQL queries with the window's placeholder.

    Attributes:
        query: Counts the bad events, or the good ones when `counts_good`.
        counted: The queries answer counts, whatever they are made of. Otherwise what they answer
            is read off their functions, see `per_unit`.
        noun: What is counted, for people: requests, time slices, measurements.
        step_s: Each event stands for so much time; 0 where events come as they like.
    """

    query: str
    total_query: str
    counts_good: bool = False
    counted: bool = False
    noun: str = "requests"
    step_s: int = 0

    def per_unit(self, query: str, window_s: int) -> float | None:
        """What turns a query's answer into a count: a rate is by second, an increase is a count.

        None where it cannot be told, as of a mean of recorded figures: only ratios are known then.
        """
        if self.counted:
            return 1.0
        if _RATE.search(query):
            return float(window_s)
        return 1.0 if _COUNT.search(query) else None


@dataclass(frozen=True, slots=True)
class RatioSli:
    """A query that answers the error ratio itself; events cannot be counted."""

    query: str


@dataclass(frozen=True, slots=True)
class Member:
    """One SLO of a composite, by its id, and how much it weighs."""

    slo_id: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class CompositeSli:
    """An error ratio made of those of other SLOs; `method` is one of `slos.composite.METHODS`."""

    members: tuple[Member, ...]
    method: str


Sli = EventSli | RatioSli | CompositeSli


@dataclass(frozen=True, slots=True)
class Slo:
    """One objective with the tiers that guard it.

    Attributes:
        objective: The share of good events, between 0 and 1.
        window_s: The period of the budget; of a calendar window its usual length.
        calendar: When the periods begin; None when the window rolls.
        tiers: Those that can fire; `refused_tiers` says why the others cannot.
        labels: On the series and the alerts.
        annotations: For the alerts, as the author wrote them.
        severity_labels: More labels for the alerts of one severity; likewise annotations.
        recorded_s: Windows that are recorded, whether a tier of theirs can fire or not.
        spec: The format that it was written in, as Sloth names formats.
        info_labels: More labels on `sloth_slo_info`.
    """

    name: str
    service: str
    objective: float
    window_s: int
    sli: Sli
    tiers: tuple[Tier, ...]
    refused_tiers: tuple[str, ...] = ()
    calendar: CalendarWindow | None = None
    description: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    alert_name: str = ""
    annotations: dict[str, str] = field(default_factory=dict)
    severity_labels: dict[str, dict[str, str]] = field(default_factory=dict)
    severity_annotations: dict[str, dict[str, str]] = field(default_factory=dict)
    recorded_s: tuple[int, ...] = ()
    spec: str = ""
    info_labels: dict[str, str] = field(default_factory=dict)
    file: str = ""
    line: int | None = None

    @property
    def id(self) -> str:
        """Sloth's id: service and name."""
        return f"{self.service}-{self.name}"

    @property
    def noun(self) -> str:
        """What its events are called."""
        return self.sli.noun if isinstance(self.sli, EventSli) else "events"
