"""Which notifier delivers which kind of integration: one literal table."""

from __future__ import annotations

from alerts.notification import Notifier
from alerts.notifiers import pagerduty, webhook

NOTIFIERS: dict[str, Notifier] = {
    "pagerduty": pagerduty.deliver,
    "webhook": webhook.deliver,
}
