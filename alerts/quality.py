"""How good the alerts are: pages per day and person, how many asked for action, what flaps. Pure.

An incident was actionable when somebody took it, wrote a note or ended it by hand. It was noise
when it ended by itself within `NOISE_MS` and nobody did anything; the rest is neither.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from alerts.incidents import Incident, IncidentEvent
from alerts.ledger.repository import Delivery
from alerts.on_call.model import OnCall
from alerts.on_call.who import who_is_on_call

NOISE_MS = 5 * 60_000
FLAP_MS = 60 * 60_000
FLAPS = 3
OFF_SHIFT = "off shift"
_MAX_LISTED = 20
_BY_HAND = frozenset({"ack", "note"})


@dataclass(frozen=True, slots=True)
class History:
    """What happened in the span: incidents with their timelines, and pages that were delivered.

    `cut` says that more happened than is told here.
    """

    incidents: Sequence[Incident]
    events: Mapping[str, Sequence[IncidentEvent]]
    pages: Sequence[Delivery]
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Flapping:
    """An alert that began so often within one hour."""

    alert: str
    times: int


@dataclass(frozen=True, slots=True)
class Quality:
    """The report. Shares are 0 to 1, and None where there was nothing to count.

    Attributes:
        pages_by_shift: By schedule and person: who got the page, and the duty he had then.
        actionable, noise: Shares of the incidents that have ended.
        mttd_s, mtta_s, mttr_s: Mean seconds from the beginning to detection, from detection to
            acknowledgement, and from the beginning to the end.
        cut: More happened in the span than was counted.
        noisiest: Alerts by how often they began, with their incidents' noise among them.
    """

    from_ms: int
    until_ms: int
    cut: bool
    pages: int
    incidents: int
    pages_by_day: dict[str, int]
    pages_by_receiver: dict[str, int]
    pages_by_shift: dict[str, dict[str, int]]
    actionable: float | None
    noise: float | None
    mttd_s: float | None
    mtta_s: float | None
    mttr_s: float | None
    noisiest: tuple[tuple[str, int], ...]
    flapping: tuple[Flapping, ...]


def assess(
    history: History, on_call: OnCall, from_ms: int, until_ms: int, *, time_zone: str
) -> Quality:
    """The report of a span; days are those of `time_zone`."""
    ended = [one for one in history.incidents if one.resolved_ms is not None]
    handled = {one.id for one in ended if acted_on(one, history.events.get(one.id, ()))}
    noise = [
        one
        for one in ended
        if one.id not in handled and (one.resolved_ms or 0) - one.detected_ms < NOISE_MS
    ]
    begun = begins(history)
    zone = ZoneInfo(time_zone)
    days = Counter(
        f"{datetime.fromtimestamp(p.at_ms / 1000, zone):%Y-%m-%d}" for p in history.pages
    )
    return Quality(
        from_ms=from_ms,
        until_ms=until_ms,
        cut=history.cut,
        pages=len(history.pages),
        incidents=len(history.incidents),
        pages_by_day=dict(sorted(days.items())),
        pages_by_receiver=dict(Counter(page.receiver for page in history.pages).most_common()),
        pages_by_shift=_by_shift(history.pages, on_call),
        actionable=len(handled) / len(ended) if ended else None,
        noise=len(noise) / len(ended) if ended else None,
        mttd_s=_mean_s(one.detected_ms - one.started_ms for one in history.incidents),
        mtta_s=_mean_s(
            one.acknowledged_ms - one.detected_ms
            for one in history.incidents
            if one.acknowledged_ms is not None
        ),
        mttr_s=_mean_s((one.resolved_ms or 0) - one.started_ms for one in ended),
        noisiest=tuple(Counter({k: len(v) for k, v in begun.items()}).most_common(_MAX_LISTED)),
        flapping=_flapping(begun),
    )


def acted_on(incident: Incident, events: Iterable[IncidentEvent]) -> bool:
    """Somebody took it, wrote something down, or ended it by hand."""
    return incident.acknowledged_ms is not None or any(
        event.kind in _BY_HAND or (event.kind == "closed" and event.ref) for event in events
    )


def begins(history: History) -> dict[str, list[int]]:
    """When each alert (by name) began, in order: once for each line of a timeline."""
    names = {part.fingerprint: part.labels.get("alertname") for one in history.incidents
             for part in one.alerts}  # fmt: skip
    found: defaultdict[str, list[int]] = defaultdict(list)
    for events in history.events.values():
        for event in events:
            if event.kind == "alert" and event.ref in names:
                found[names[event.ref]].append(event.at_ms)
    return {name: sorted(times) for name, times in sorted(found.items())}


def _flapping(begun: Mapping[str, Sequence[int]]) -> tuple[Flapping, ...]:
    found = []
    for name, times in begun.items():
        most = _most_within_an_hour(times)
        if most >= FLAPS:
            found.append(Flapping(name, most))
    return tuple(sorted(found, key=lambda one: (-one.times, one.alert))[:_MAX_LISTED])


def _most_within_an_hour(times: Sequence[int]) -> int:
    # Instances of one alert that begin at the same instant are no flapping.
    instants = sorted(set(times))
    most = first = 0
    for last, at_ms in enumerate(instants):
        while at_ms - instants[first] >= FLAP_MS:
            first += 1
        most = max(most, last - first + 1)
    return most


def _by_shift(pages: Sequence[Delivery], on_call: OnCall) -> dict[str, dict[str, int]]:
    """Each page once: for the person whose receiver got it, on the schedule that he was on.

    One told by name while on no schedule counts under `OFF_SHIFT`; a receiver that is nobody's
    belongs to no shift.
    """
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for page in pages:
        users = [user.name for user in on_call.users.values() if page.receiver in user.receivers]
        on_duty = (
            (name, duty)
            for name, schedule in on_call.schedules.items()
            if (duty := who_is_on_call(schedule, page.at_ms).user) in users
        )
        if users:
            shift, user = next(on_duty, (OFF_SHIFT, users[0]))
            counts[shift][user] += 1
    return {name: dict(count.most_common()) for name, count in sorted(counts.items())}


def _mean_s(spans_ms: Iterable[int]) -> float | None:
    spans = list(spans_ms)
    return sum(spans) / len(spans) / 1000 if spans else None
