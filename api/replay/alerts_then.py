"""Alerts as they stood at an earlier instant: their states, who had taken them, what they said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alerts import ack_timeout
from alerts.incidents import Incident, IncidentAlert, IncidentEvent
from alerts.silences import Silence, silenced_by
from alerts.state import fingerprint
from store.model import Labels
from store.ports import Querier
from store.timestamps import rfc3339

Json = dict[str, Any]
_RANK = {"firing": 0, "pending": 1}
_GIVEN_BACK = frozenset({"reopened", ack_timeout.EVENT})


@dataclass(frozen=True, slots=True)
class IncidentLog:
    """Where incidents and their timelines are kept.

    Attributes:
        running: Incidents that ran at an instant.
        lines: The timelines of incidents by their ids, oldest line first.
    """

    running: Callable[[int], Sequence[Incident]]
    lines: Callable[[Sequence[str]], Mapping[str, Sequence[IncidentEvent]]]


@dataclass(slots=True)
class _Then:
    """An incident as its timeline leaves it at an instant.

    Attributes:
        acknowledged_by: Who had taken it.
        firing: What fired, by fingerprint.
        began: With which line each alert last began to fire.
    """

    acknowledged_by: str = ""
    firing: set[str] = field(default_factory=set)
    began: dict[str, IncidentEvent] = field(default_factory=dict)

    def take(self, line: IncidentEvent) -> None:
        """One more line."""
        if line.kind == "ack":
            self.acknowledged_by = self.acknowledged_by or line.ref
        elif line.kind in _GIVEN_BACK:
            self.acknowledged_by = ""
        elif line.kind == "alert":
            self.firing.add(line.ref)
            self.began[line.ref] = line
        elif line.kind == "resolved":
            self.firing.discard(line.ref)
        elif line.kind == "closed":
            # By hand, perhaps. Which of them fire on if that is taken back, their parts say.
            self.firing.clear()


@dataclass(frozen=True, slots=True)
class _Told:
    """What an incident says of one of its alerts."""

    incident_id: str
    acknowledged_by: str
    annotations: Mapping[str, str]
    summary: str
    since_ms: int
    fires_on: bool


def alerts_at(
    querier: Querier, log: IncidentLog, silences: Sequence[Silence], at_ms: int
) -> list[Json]:
    """Alerts that were pending or firing then, with what their incident says of them.

    The summary is the one with which the alert began to fire. The other words are its last ones: of
    those that it had before nothing is kept, and `words_known_later` says that they may be younger.
    """
    told = _told(log, at_ms)
    states = dict.fromkeys(told, "firing")
    vector = querier.instant("ALERTS", at_ms)
    for labels in vector.series:
        fields = labels.to_dict()
        state = fields.pop("alertstate", "firing")
        fields.pop("__name__", None)
        states.setdefault(Labels.of(fields), state)
    found = [
        _alert(labels, state, told.get(labels), silenced=bool(silenced_by(silences, labels, at_ms)))
        for labels, state in states.items()
    ]
    return sorted(found, key=lambda a: (a["silenced"], _RANK.get(a["state"], 2), a["name"]))


def _told(log: IncidentLog, at_ms: int) -> dict[Labels, _Told]:
    running = log.running(at_ms)
    lines = log.lines([incident.id for incident in running])
    found: dict[Labels, _Told] = {}
    for incident in running:
        then = _Then()
        # A line that was told late stands where it belongs.
        for line in sorted(lines.get(incident.id, ()), key=lambda line: line.at_ms):
            if line.at_ms <= at_ms:
                then.take(line)
        for part in _firing(incident.alerts, then, at_ms):
            line_of = then.began.get(part.fingerprint)
            found[part.labels] = _Told(
                incident.id,
                then.acknowledged_by,
                part.annotations,
                line_of.title if line_of else part.annotations.get("summary", ""),
                line_of.at_ms if line_of else part.fired_ms,
                fires_on=part.resolved_ms is None or part.resolved_ms > at_ms,
            )
    return found


def _firing(parts: Iterable[IncidentAlert], then: _Then, at_ms: int) -> list[IncidentAlert]:
    """Those that fired then: by the timeline, which names the first of very many only."""
    return [
        part
        for part in parts
        if part.fingerprint in then.firing
        or (part.fired_ms <= at_ms and (part.resolved_ms is None or part.resolved_ms > at_ms))
    ]


def _alert(labels: Labels, state: str, told: _Told | None, *, silenced: bool) -> Json:
    notes = dict(told.annotations) if told else {}
    name = labels.get("alertname")
    summary = (told.summary if told else "") or name
    if notes:
        notes["summary"] = summary
    return {
        "fingerprint": fingerprint(labels),
        "labels": labels.to_dict(),
        "annotations": notes,
        "name": name,
        "severity": labels.get("severity"),
        "state": state,
        "summary": summary,
        "cause": notes.get("cause", ""),
        "impact": notes.get("impact", ""),
        "fix": notes.get("fix", ""),
        "evidence_url": notes.get("evidence_url", ""),
        "since": rfc3339(told.since_ms) if told else None,
        "incident_id": told.incident_id if told else "",
        "acknowledged_by": told.acknowledged_by if told else "",
        "silenced": silenced,
        "words_known_later": told is not None and told.fires_on,
    }
