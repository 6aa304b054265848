"""What the story sees of the demo from outside: pages received, findings and alerts shown."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

_FINDINGS = "/api/warroom/v1/findings"
_ALERTS = "/api/v2/alerts"


@dataclass(frozen=True, slots=True)
class PageEvent:
    """One event that the PagerDuty double received. Times are unix seconds."""

    received_at: float
    action: str
    dedup_key: str
    kind: str
    summary: str


@dataclass(slots=True)
class Witness:
    """Polls the double and Warroom's API.

    Attributes:
        first_seen: When each open finding's kind and each active alert's name was first shown.
        events: Every page event so far, in order.
        incidents: The double's account by dedup key.
    """

    warroom: httpx.Client
    pagerduty: httpx.Client
    first_seen: dict[str, float] = field(default_factory=dict)
    events: list[PageEvent] = field(default_factory=list)
    incidents: dict[str, dict[str, Any]] = field(default_factory=dict)

    def look(self) -> list[PageEvent]:
        """Look once; the page events that are new."""
        known = len(self.events)
        log = self.pagerduty.get("/log", params={"since": known}).raise_for_status().json()
        self.incidents = log["incidents"]
        self.events.extend(_page_event(event) for event in log["events"])
        # A busy service may answer late once; the pages above are what counts.
        with contextlib.suppress(httpx.HTTPError):
            self._look_at_warroom()
        return self.events[known:]

    def _look_at_warroom(self) -> None:
        findings = self.warroom.get(_FINDINGS, params={"status": "open"}).raise_for_status().json()
        alerts = self.warroom.get(_ALERTS).raise_for_status().json()
        now = time.time()
        for finding in findings["findings"]:
            self.first_seen.setdefault(str(finding["kind"]), now)
        for alert in alerts:
            self.first_seen.setdefault(str(alert["labels"].get("alertname", "")), now)

    def open_keys(self) -> list[str]:
        """Incidents that are not resolved."""
        return [key for key, incident in self.incidents.items() if incident["state"] != "resolved"]


def _page_event(event: dict[str, Any]) -> PageEvent:
    payload = event.get("payload") or {}
    return PageEvent(
        received_at=float(event["received_at"]),
        action=str(event["event_action"]),
        dedup_key=str(event["dedup_key"]),
        kind=str(payload.get("class", "")),
        summary=str(payload.get("summary", "")),
    )
