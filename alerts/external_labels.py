"""External labels: which Warroom it was, on every alert that is sent, as Prometheus does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from alerts.model import Alert
from store.model import Labels


def with_external(alerts: Sequence[Alert], external: Mapping[str, str]) -> Sequence[Alert]:
    """The alerts with the labels that they do not have themselves."""
    if not external:
        return alerts
    return [
        replace(alert, labels=Labels({**external, **alert.labels.to_dict()}.items()))
        for alert in alerts
    ]
