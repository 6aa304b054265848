"""Silence: alerts that an active silence covers are held back."""

from __future__ import annotations

from collections.abc import Sequence

from alerts.notification import Held
from alerts.silences import Silence, silenced_by
from alerts.state import AlertRecord


def apply(
    alerts: Sequence[AlertRecord], silences: Sequence[Silence], now_ms: int
) -> tuple[list[AlertRecord], list[Held]]:
    """The alerts that pass, and those held back with the silences that do it."""
    passed, held = [], []
    for alert in alerts:
        covering = silenced_by(silences, alert.labels, now_ms)
        if covering:
            held.append(Held(alert.fingerprint, "silence", "silenced", covering))
        else:
            passed.append(alert)
    return passed, held
