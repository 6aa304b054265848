"""Inhibit: alerts that another firing alert explains are held back."""

from __future__ import annotations

from collections.abc import Sequence

from alerts.inhibition import Inhibitor
from alerts.notification import Held
from alerts.state import AlertRecord


def apply(
    alerts: Sequence[AlertRecord], inhibitor: Inhibitor
) -> tuple[list[AlertRecord], list[Held]]:
    """The alerts that pass, and those held back with the alert that does it."""
    passed, held = [], []
    for alert in alerts:
        source = inhibitor.inhibited_by(alert.fingerprint, alert.labels)
        if source is None:
            passed.append(alert)
        else:
            held.append(Held(alert.fingerprint, "inhibit", "inhibited", (source,)))
    return passed, held
