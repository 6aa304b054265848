"""External labels: on every alert that is sent, unless it has a label of that name itself."""

from __future__ import annotations

from alerts.external_labels import with_external
from alerts.model import Alert
from store.model import Labels


def test_an_alert_takes_the_external_labels_that_it_does_not_have() -> None:
    alerts = [
        Alert(Labels.of(alertname="A", site="own"), value=2.0),
        Alert(Labels.of(alertname="B")),
    ]
    sent = with_external(alerts, {"site": "eu", "replica": "1"})
    assert [alert.labels.to_dict() for alert in sent] == [
        {"alertname": "A", "replica": "1", "site": "own"},
        {"alertname": "B", "replica": "1", "site": "eu"},
    ]
    assert sent[0].value == 2.0


def test_without_external_labels_alerts_are_sent_as_they_are() -> None:
    alerts = [Alert(Labels.of(alertname="A"))]
    assert with_external(alerts, {}) is alerts
