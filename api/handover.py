"""Notes for whoever takes over, as Markdown: what runs, ended, burns, changed, is kept quiet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alerts.incidents import Incident, IncidentState
from alerts.matchers import format_matchers
from alerts.on_call.model import OnCall
from alerts.on_call.who import current
from alerts.quality import History
from alerts.silences import Silence, SilenceState
from alerts.state import AlertRecord
from slos.model import SloState, SloStatus
from store.timestamps import rfc3339

_MAX_LISTED = 50
_MAX_NOTES = 5
_MAX_NAMES = 10
_LITTLE_LEFT = 0.25
# Kinds of the timeline that say what was changed.
CHANGES = frozenset({"deploy", "flag", "promotion", "policy"})
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Watch:
    """What the notes are drawn from."""

    history: History
    silences: Sequence[Silence]
    on_call: OnCall
    records: Mapping[str, AlertRecord]
    slos: Sequence[SloStatus] = ()
    changes: Sequence[Json] = ()


def handover(watch: Watch, since_ms: int, now_ms: int) -> str:
    """The notes of the span from `since_ms` until now."""
    incidents = watch.history.incidents
    running = [one for one in incidents if one.state is not IncidentState.RESOLVED]
    ended = [one for one in incidents if one.state is IncidentState.RESOLVED]
    parts = [
        f"# Handover, {rfc3339(since_ms)} to {rfc3339(now_ms)}",
        _section("Still running", (_running(one, watch) for one in running)),
        _section("Ended", (_ended(one, watch) for one in ended)),
        _section("Error budgets", _budgets(watch.slos)),
        _section("Changes", _changes(watch.changes)),
        _section("Pages", _pages(watch.history)),
        _section("Silences", _silences(watch.silences, now_ms)),
        _section("On call", _on_call(watch.on_call, now_ms)),
    ]
    return "\n\n".join(parts) + "\n"


def _section(title: str, lines: Iterable[str]) -> str:
    told = list(lines)
    rest = len(told) - _MAX_LISTED
    more = [f"- and {rest} more"] if rest > 0 else []
    return "\n".join([f"## {title}", "", *(told[:_MAX_LISTED] or ["- nothing"]), *more])


def _running(incident: Incident, watch: Watch) -> str:
    by = f", taken by {plain(incident.acknowledged_by)}" if incident.acknowledged_by else ""
    firing = [
        part.labels.get("alertname")
        for part in incident.alerts
        if part.fingerprint in watch.records and watch.records[part.fingerprint].firing
    ]
    names = ", ".join(plain(name) for name in sorted(set(firing))[:_MAX_NAMES])
    more = ", …" if len(set(firing)) > _MAX_NAMES else ""
    count = "1 alert fires" if len(firing) == 1 else f"{len(firing)} alerts fire"
    head = (
        f"- **{plain(incident.title)}** ({incident.id}, {incident.severity}, "
        f"{incident.state}{by}), since {rfc3339(incident.started_ms)}, {count}"
        f"{f': {names}{more}' if names else ''}"
    )
    return "\n".join([head, *_notes(incident, watch)])


def _ended(incident: Incident, watch: Watch) -> str:
    took_s = ((incident.resolved_ms or 0) - incident.started_ms) // 1000
    by = f"taken by {plain(incident.acknowledged_by)}" if incident.acknowledged_by else "not taken"
    head = (
        f"- {plain(incident.title)} ({incident.id}, {incident.severity}): "
        f"{rfc3339(incident.started_ms)}, lasted {took_s // 60} min {took_s % 60} s, {by}"
    )
    return "\n".join([head, *_notes(incident, watch)])


def _notes(incident: Incident, watch: Watch) -> list[str]:
    events = watch.history.events.get(incident.id, ())
    notes = [e for e in events if e.kind == "note"]
    return [f"  - {rfc3339(e.at_ms)} {plain(e.ref)}: {plain(e.title)}" for e in notes[-_MAX_NOTES:]]


def _budgets(slos: Iterable[SloStatus]) -> list[str]:
    """Those that burn, are spent or nearly so, or of which nothing is known."""
    told = []
    for slo in slos:
        left = slo.error_budget_remaining
        if slo.state is SloState.OK and (left is None or left > _LITTLE_LEFT):
            continue
        outlook = f"; {slo.outlook.statement}" if slo.outlook else ""
        state = slo.state.value.replace("_", " ")
        told.append(
            f"- {plain(f'{slo.service}/{slo.name}')}: {state}; {plain(slo.statement + outlook)}"
        )
    return told


def _changes(changes: Iterable[Json]) -> list[str]:
    ordered = sorted(changes, key=lambda change: str(change["at"]))
    return [f"- {c['at']} {plain(str(c['kind']))}: {plain(str(c['title']))}" for c in ordered]


def _pages(history: History) -> list[str]:
    counts = Counter(page.receiver for page in history.pages)
    return [f"- {plain(name)}: {count}" for name, count in counts.most_common()]


def _silences(silences: Iterable[Silence], now_ms: int) -> list[str]:
    active = [s for s in silences if s.state(now_ms) is SilenceState.ACTIVE]
    return [
        f"- `{format_matchers(s.matchers)}` until {rfc3339(s.ends_ms)}, "
        f"by {plain(s.created_by)}: {plain(s.comment)}"
        for s in sorted(active, key=lambda s: s.ends_ms)
    ]


def _on_call(on_call: OnCall, now_ms: int) -> list[str]:
    shifts = {name: current(schedule, now_ms) for name, schedule in on_call.schedules.items()}
    return [
        f"- {name}: {shift.duty.user or 'nobody'} until {rfc3339(shift.end_ms)}"
        for name, shift in shifts.items()
    ]


def plain(text: str) -> str:
    """One line that Markdown takes as it is."""
    line = " ".join(text.split())
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>#|" else sign for sign in line)[:500]
