"""Who must know, wired: routing, alert engine, outbox, and what the tick tells them."""

from __future__ import annotations

import socket
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import httpx

from alerts import rule_evaluation
from alerts.engine import AlertEngine
from alerts.escalation.steps import EscalationState
from alerts.external_labels import with_external
from alerts.fields import Fields
from alerts.ledger.repository import OutboxRepository
from alerts.model import Alert
from alerts.outbox import Outbox
from alerts.registry import NOTIFIERS
from alerts.repository import AlertRepository
from alerts.route_tree import Routing
from alerts.routing import default_routing, parse_alertmanager, read_alertmanager
from alerts.sources import burn_rate, finding, kpi
from alerts.state import fingerprint
from alerts.state_series import AlertSeries
from detectors.repository import FindingRepository
from detectors.topology import Topology
from store.annotations.repository import AnnotationRepository
from store.model import UnitHealth
from store.ports import Appender
from store.sql import SessionFactory
from warroom.alerting_section import alertmanager_part, read_secret, with_own_settings
from warroom.config import OWN_ALERTING_KEYS, Settings
from warroom.suspects import Suspects
from warroom.tick import Readings


@dataclass(frozen=True, slots=True)
class Paging:
    """The alerting half of the service."""

    engine: AlertEngine
    repository: AlertRepository
    outbox: Outbox
    ledger: OutboxRepository
    alerts_of: Callable[[Readings], tuple[Alert, ...]]
    suspects: Suspects
    external_labels: Mapping[str, str]

    def escalation_counts(self) -> dict[str, int]:
        """How many escalations that have not ended are in each state."""
        states = Counter(str(one.state) for one in self.engine.escalations())
        return {str(state): states[str(state)] for state in EscalationState}

    def explained(self, alerts: Sequence[Alert], now_ms: int) -> Sequence[Alert]:
        """The alerts with the external labels, those of rules with their likeliest cause."""
        alerts = with_external(alerts, self.external_labels)
        if not any(alert.source == "rule" for alert in alerts):
            return alerts
        records = self.engine.snapshot().records
        return self.suspects.explained(
            alerts, lambda labels: records.get(fingerprint(labels)), now_ms
        )


@dataclass(frozen=True, slots=True)
class PagingInputs:
    """What alerting reads from and writes to; `external_url` is where its links lead."""

    sessions: SessionFactory
    appender: Appender
    client: httpx.AsyncClient
    annotations: AnnotationRepository
    external_url: str
    findings: FindingRepository
    topology: Callable[[int], Topology]


def build_paging(settings: Settings, inputs: PagingInputs) -> Paging:
    """Wire alerting.

    Raises:
        ConfigError: A mistake in the Alertmanager configuration.
    """
    external_url = inputs.external_url
    repository = AlertRepository(inputs.sessions)
    engine = AlertEngine(
        repository,
        read_routing(settings),
        external_url=external_url,
        series=AlertSeries(inputs.appender),
    )
    ledger = OutboxRepository(inputs.sessions)
    outbox = Outbox(
        ledger,
        lambda: engine.routing,
        inputs.client,
        NOTIFIERS,
        worker=f"{socket.gethostname()}:{uuid.uuid4().hex[:8]}",
    )

    suspects = Suspects(inputs.findings, inputs.annotations, inputs.topology)

    def alerts_of(readings: Readings) -> tuple[Alert, ...]:
        suspects.gather(readings.at_ms, readings.findings)
        known = (suspects.findings, suspects.changes, suspects.topology)
        return (
            *finding.alerts_of(readings.findings, external_url, *known[1:]),
            *burn_rate.alerts_of(readings.slos, external_url, *known),
            *kpi.alerts_of(readings.kpis, external_url, *known),
        )

    external_labels = settings.file.external_labels
    return Paging(engine, repository, outbox, ledger, alerts_of, suspects, external_labels)


def read_routing(settings: Settings) -> Routing:
    """The configured routing, or the default one that reaches nobody but the wall.

    Raises:
        ConfigError: A mistake in it.
    """

    def secret(source: str, name: str) -> str:
        return read_secret(settings, source, name)

    inline = alertmanager_part(settings)
    if settings.alertmanager is not None:
        file = settings.alertmanager
        routing = parse_alertmanager(file.text, file.name, read_secret=secret)
    elif inline:
        top = Fields(settings.document, ("alerting",), "alerting")
        top.ignore(*OWN_ALERTING_KEYS)
        routing = read_alertmanager(top, inline, secret)
    else:
        routing = default_routing()
    return with_own_settings(settings, routing)


def unknown_units(readings: Readings, health: Sequence[UnitHealth]) -> frozenset[str]:
    """Units that could not look at this tick: what they said before still holds."""
    return (
        finding.unknown_units(health)
        | burn_rate.unknown_units(readings.slos, health)
        | rule_evaluation.unknown_units(health)
        | kpi.unknown_units(readings.kpis, health)
    )
