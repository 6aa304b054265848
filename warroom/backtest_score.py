"""How good alerts were: pages a day, precision, recall and delay against marked incidents. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

DAY_MS = 86_400_000
# An alert may come a little before what people noted, and hang on a little after.
EARLY_MS = 5 * 60_000
LATE_MS = 5 * 60_000


@dataclass(frozen=True, slots=True)
class Mark:
    """A time at which something was wrong, as people know it."""

    start_ms: int
    end_ms: int
    title: str = ""
    service: str = ""


@dataclass(frozen=True, slots=True)
class Episode:
    """One alert from its beginning to fire to its end.

    Attributes:
        unit: The rule or detector that said so.
        pages: Its severity wakes somebody.
        ended_ms: None while it still fires.
    """

    unit: str
    title: str
    fired_ms: int
    pages: bool
    service: str = ""
    severity: str = ""
    ended_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """One rule or detector, or all of them.

    Attributes:
        alerts: How often it fired; `pages` of those woke somebody.
        right: Pages that fall into a marked incident.
        precision: `right / pages`; None without pages or without any marks.
        found: Marked incidents with a page.
        delay_s: Median time from the beginning of an incident to its first page.
    """

    unit: str
    alerts: int
    pages: int
    pages_a_day: float
    right: int
    precision: float | None
    found: int
    delay_s: float | None


def hits(episode: Episode, mark: Mark) -> bool:
    """The episode belongs to the incident: it began with it, and not in another service."""
    in_time = mark.start_ms - EARLY_MS <= episode.fired_ms <= mark.end_ms + LATE_MS
    elsewhere = mark.service and episode.service and mark.service != episode.service
    return in_time and not elsewhere


def figures(unit: str, episodes: Iterable[Episode], marks: Sequence[Mark], days: float) -> Figures:
    """The figures of some episodes."""
    fired = list(episodes)
    pages = [episode for episode in fired if episode.pages]
    right = [page for page in pages if any(hits(page, mark) for mark in marks)]
    delays = [
        max(0.0, (min(page.fired_ms for page in mine) - mark.start_ms) / 1_000)
        for mark in marks
        if (mine := [page for page in pages if hits(page, mark)])
    ]
    return Figures(
        unit=unit,
        alerts=len(fired),
        pages=len(pages),
        pages_a_day=len(pages) / days if days > 0 else 0.0,
        right=len(right),
        precision=len(right) / len(pages) if pages and marks else None,
        found=len(delays),
        delay_s=median(delays) if delays else None,
    )


def by_unit(episodes: Sequence[Episode], marks: Sequence[Mark], days: float) -> list[Figures]:
    """Figures of each rule and detector that fired, the noisiest first."""
    units: dict[str, list[Episode]] = {}
    for episode in episodes:
        units.setdefault(episode.unit, []).append(episode)
    rows = [figures(unit, mine, marks, days) for unit, mine in units.items()]
    return sorted(rows, key=lambda row: (-row.pages, -row.alerts, row.unit))


def missed(episodes: Sequence[Episode], marks: Sequence[Mark]) -> list[Mark]:
    """Marked incidents that nobody was paged for."""
    pages = [episode for episode in episodes if episode.pages]
    return [mark for mark in marks if not any(hits(page, mark) for page in pages)]
