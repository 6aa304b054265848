"""The text of a page: what broke since when, why, what it costs, what to try, where the proof is.

Built once, used by every notifier, so that all channels say the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from alerts.notification import Notice, NoticeAlert
from store.timestamps import rfc3339

MAX_SUMMARY = 1024
_MAX_FIELD = 8_000
_LINKS = (
    ("evidence_url", "Evidence"),
    ("cause_url", "Probable cause"),
    ("runbook_url", "Runbook"),
    ("dashboard_url", "Dashboard"),
)


@dataclass(frozen=True, slots=True)
class Page:
    """A page's parts; texts that are unknown are empty.

    Attributes:
        summary: One line, at most `MAX_SUMMARY` characters.
        links: (text, absolute address) pairs.
        others: One line for each further alert of the group.
    """

    summary: str
    severity: str
    cause: str
    since: str
    impact: str
    fix: str
    evidence_url: str
    links: tuple[tuple[str, str], ...]
    others: tuple[str, ...]
    labels: Mapping[str, str]
    started_ms: int

    def text(self) -> str:
        """The whole page as plain text."""
        parts = (
            ("Cause", self.cause),
            ("Since", self.since),
            ("Impact", self.impact),
            ("Try", self.fix),
            ("Evidence", self.evidence_url),
        )
        lines = [self.summary, *(f"{name}: {text}" for name, text in parts if text)]
        if self.others:
            lines += ["Also firing:", *(f"- {line}" for line in self.others)]
        return "\n".join(lines)


def page_of(notice: Notice) -> Page:
    """The page of a notice: its first alert leads, the others are listed."""
    if not notice.alerts:
        return Page("", "", "", "", "", "", "", (), (), notice.group_labels.to_dict(), 0)
    firing = notice.firing or notice.alerts
    lead = firing[0]
    notes = lead.annotations
    since = _since(lead)
    return Page(
        summary=_summary(notice, lead, since, len(firing) - 1),
        severity=lead.labels.get("severity"),
        cause=notes.get("cause", "")[:_MAX_FIELD],
        since=since,
        impact=notes.get("impact", "")[:_MAX_FIELD],
        fix=notes.get("fix", "")[:_MAX_FIELD],
        evidence_url=_absolute(notes.get("evidence_url", ""), notice.external_url),
        links=_links(notice, notes),
        others=tuple(_line(alert)[:300] for alert in firing[1:21]),
        labels=lead.labels.to_dict(),
        started_ms=lead.starts_ms,
    )


def _summary(notice: Notice, lead: NoticeAlert, since: str, others: int) -> str:
    line = _line(lead)
    clock = _clock(since)
    if clock and clock not in line:
        line = f"{line} since {clock}"
    if not notice.firing:
        line = f"Resolved: {line}"
    more = f" (+{others} more)" if others else ""
    room = MAX_SUMMARY - len(more)
    return (line if len(line) <= room else f"{line[: room - 1]}…") + more


def _line(alert: NoticeAlert) -> str:
    summary = alert.annotations.get("summary") or alert.annotations.get("title")
    if summary:
        return " ".join(summary.split())
    name = alert.labels.get("alertname") or "Alert"
    inner = ", ".join(
        f"{key}={value}" for key, value in alert.labels if key not in {"alertname", "severity"}
    )
    return f"{name} ({inner})" if inner else name


def _since(alert: NoticeAlert) -> str:
    return alert.annotations.get("since") or rfc3339(alert.starts_ms)


def _clock(since: str) -> str:
    try:
        at = datetime.fromisoformat(since)
    except ValueError:
        return ""
    return f"{at.astimezone(UTC):%H:%M:%S} UTC" if at.tzinfo else ""


def _absolute(url: str, external_url: str) -> str:
    if url.startswith("/") and external_url:
        return external_url.rstrip("/") + url
    return url


def _links(notice: Notice, notes: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    found = [(text, _absolute(notes.get(name, ""), notice.external_url)) for name, text in _LINKS]
    if notice.external_url and notice.incident_id:
        incident = f"{notice.external_url.rstrip('/')}/incidents/{notice.incident_id}"
        found.append(("Incident", incident))
    return tuple((text, url) for text, url in found if url.startswith(("http://", "https://")))
