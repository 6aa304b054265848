"""The one frozen Alert that every source of trouble is turned into."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from store.model import Labels


class AlertState(StrEnum):
    """Prometheus's states, and resolved for what has ended."""

    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Alert:
    """A condition that holds at this tick, from a rule, a finding, a burn rate or a KPI.

    Attributes:
        labels: Its identity, with `alertname`; `severity` is "page", "ticket" or "info" by default.
        annotations: summary, cause, since, impact, fix, evidence_url, … for people.
        since_ms: Since when the condition holds by the data (not by detection), if known.
        hold_s: How long it must hold before it fires (`for`).
        keep_firing_s: How long it keeps firing after the condition ended.
        source: Who says so: "rule", "finding", "burn_rate", "kpi", "api".
        unit: What was evaluated, `rule:<file>;<group>;<name>`, `slo:<name>`, …: while it fails,
            the alert's state stays as it is.
    """

    labels: Labels
    annotations: dict[str, str] = field(default_factory=dict)
    value: float = 0.0
    since_ms: int | None = None
    hold_s: float = 0.0
    keep_firing_s: float = 0.0
    source: str = "rule"
    generator_url: str = ""
    unit: str = ""

    @property
    def name(self) -> str:
        return self.labels.get("alertname")
