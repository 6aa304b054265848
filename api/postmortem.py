"""The draft of a post-mortem: an incident as Markdown, with what is known already filled in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alerts.incidents import Incident, IncidentEvent
from alerts.ledger.repository import Delivery
from api.alert_shapes import incident_json
from api.damage import Damage, lines_of
from store.timestamps import rfc3339

Json = dict[str, Any]
_MAX_ROWS = 300
NO_DAMAGE = Damage()
# Changes this long before the first alert may be the cause.
LOOK_BACK_MS = 30 * 60_000


def postmortem(
    incident: Incident,
    events: Sequence[IncidentEvent],
    changes: Sequence[Json],
    deliveries: Sequence[Delivery],
    damage: Damage = NO_DAMAGE,
) -> str:
    """Markdown. Times are UTC; what only people know stands as a question.

    Args:
        incident: Whose it is.
        events: Its timeline, oldest first.
        changes: What else happened around it: `{at, kind, title}` of deploys, flags, findings.
        deliveries: Attempts to tell people, in any order.
        damage: What it cost.
    """
    shown = incident_json(incident)
    parts = [
        f"# Post-mortem: {_text(incident.title)}",
        "",
        f"Incident `{incident.id}`, {_text(incident.severity)}, {incident.state.value}.",
        "",
        *_figures(incident),
        *_impact(incident, shown, damage),
        *_causes(shown),
        *_timeline(incident, events, changes, deliveries),
        *_alerts(incident),
        *_questions(),
    ]
    return "\n".join(parts)


def _figures(incident: Incident) -> list[str]:
    """MTTD: start to detection; MTTA: detection to acknowledgement; MTTR: start to the end."""
    taken = f" by {_text(incident.acknowledged_by)}" if incident.acknowledged_by else ""
    rows = [
        ("Started", rfc3339(incident.started_ms)),
        ("Detected", rfc3339(incident.detected_ms)),
        ("Acknowledged", _at(incident.acknowledged_ms) + taken),
        ("Resolved", _at(incident.resolved_ms)),
        ("MTTD", _between(incident.started_ms, incident.detected_ms)),
        ("MTTA", _between(incident.detected_ms, incident.acknowledged_ms)),
        ("MTTR", _between(incident.started_ms, incident.resolved_ms)),
    ]
    return ["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows), ""]


def _impact(incident: Incident, shown: Json, damage: Damage) -> list[str]:
    """What was measured over the incident's time, then what its alerts said while they fired."""
    lines = ["## Impact", "", *(f"- {_text(line[2:])}" for line in lines_of(damage))]
    risk = shown["revenue_at_risk"]
    if risk and damage.revenue is None:
        lines.append(f"- Revenue at risk: {_text(risk['amount'])} {_text(risk['currency'])}")
    told: dict[str, None] = {}
    for part in incident.alerts:
        impact = part.annotations.get("impact")
        if impact:
            name = part.labels.get("slo") or part.labels.get("alertname")
            what = "SLO " if part.labels.get("slo") else ""
            told[f"- {what}{_text(name)}: {_text(impact)}"] = None
    lines += list(told)[:_MAX_ROWS]
    if len(lines) == 2:
        lines.append("Not measured: no SLO counts its services' requests, and no orders are known.")
    return [*lines, ""]


def _causes(shown: Json) -> list[str]:
    lines = ["## Probable causes", ""]
    for cause in shown["probable_causes"][:20]:
        sure = "" if cause["confidence"] is None else f" ({cause['confidence']:.0%})"
        lines.append(f"- {_text(cause['kind'])}{sure}: {_text(cause['why'])}")
    return [*(lines if len(lines) > 2 else [*lines, "None was found."]), ""]


def _timeline(
    incident: Incident,
    events: Sequence[IncidentEvent],
    changes: Sequence[Json],
    deliveries: Sequence[Delivery],
) -> list[str]:
    rows = [(rfc3339(incident.started_ms), "fault", "it began, by the data")]
    rows += _told(events, deliveries)
    rows += [(str(c["at"]), str(c["kind"]), str(c["title"])) for c in changes]
    rows.sort(key=lambda row: row[0])
    rows = _merged(rows)
    lines = ["## Timeline", "", "| at | what | |", "|---|---|---|"]
    lines += [f"| {at} | {_text(kind)} | {_text(title)} |" for at, kind, title in rows[:_MAX_ROWS]]
    if len(rows) > _MAX_ROWS:
        lines.append(f"| … | | {len(rows) - _MAX_ROWS} more lines |")
    return [*lines, ""]


def _told(
    events: Sequence[IncidentEvent], deliveries: Sequence[Delivery]
) -> list[tuple[str, str, str]]:
    """The incident's own lines; a page says how it was delivered, other messages have a line."""
    attempts: dict[str, list[Delivery]] = {}
    for delivery in deliveries:
        attempts.setdefault(delivery.notice_id, []).append(delivery)
    rows = []
    for event in events:
        tried = attempts.pop(event.ref, []) if event.kind == "page" else []
        fate = "; ".join(f"{one.kind} {_fate(one)}" for one in tried)
        by = f" ({event.ref})" if event.kind == "note" and event.ref else ""
        title = f"{event.title}: {fate}" if fate else f"{event.title}{by}"
        rows.append((rfc3339(event.at_ms), event.kind, title))
    rows += [
        (rfc3339(d.at_ms), "delivery", f"{d.action} to {d.receiver} ({d.kind}): {_fate(d)}")
        for some in attempts.values()
        for d in some
    ]
    return rows


def _merged(rows: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Lines that say the same within one second, once."""
    counts: dict[tuple[str, str, str], int] = {}
    first: dict[tuple[str, str, str], str] = {}
    for at, kind, title in rows:
        key = at[:19], kind, title
        first.setdefault(key, at)
        counts[key] = counts.get(key, 0) + 1
    times = {key: f" (×{count})" if count > 1 else "" for key, count in counts.items()}
    return [(first[key], key[1], f"{key[2]}{times[key]}") for key in counts]


def _fate(delivery: Delivery) -> str:
    if delivery.ok:
        return "taken" if delivery.attempt <= 1 else f"taken at attempt {delivery.attempt}"
    return f"failed at attempt {delivery.attempt}"


def _alerts(incident: Incident) -> list[str]:
    lines = [
        "## Alerts",
        "",
        "| alert | fired | ended | belongs by | summary |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {_text(part.labels.get('alertname'))} | {rfc3339(part.fired_ms)} "
        f"| {_at(part.resolved_ms)} | {part.reason.replace('_', ' ')} "
        f"| {_text(part.annotations.get('summary', ''))} |"
        for part in incident.alerts[:_MAX_ROWS]
    ]
    return [*lines, ""]


def _questions() -> list[str]:
    return [
        "## To be written",
        "",
        "- What did customers see?",
        "- Why did it happen, and why was it not caught before?",
        "- What went well, what did not, where were we lucky?",
        "- Action items, each with an owner and a date",
        "",
    ]


def _at(at_ms: int | None) -> str:
    return "not yet" if at_ms is None else rfc3339(at_ms)


def _between(start_ms: int, end_ms: int | None) -> str:
    """The span in words.

    >>> _between(0, 3_723_000), _between(0, None)
    ('1 h 2 min 3 s', 'not yet')
    """
    if end_ms is None:
        return "not yet"
    seconds = max(0, end_ms - start_ms) // 1000
    hours, minutes = seconds // 3600, seconds % 3600 // 60
    parts = [(hours, "h"), (minutes, "min"), (seconds % 60, "s")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "0 s"


def _text(text: str) -> str:
    """One line that breaks no table and holds no markup of its own."""
    flat = " ".join(str(text).split())
    for sign in ("\\", "|", "<", "`", "[", "*", "_"):
        flat = flat.replace(sign, f"\\{sign}" if sign != "<" else "&lt;")
    return flat
