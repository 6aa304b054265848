"""Which notifier delivers which kind of integration: one literal table."""

from __future__ import annotations

from alerts.notification import Notifier
from alerts.notifiers import email, msteamsv2, opsgenie, pagerduty, slack, webhook

NOTIFIERS: dict[str, Notifier] = {
    "pagerduty": pagerduty.deliver,
    "webhook": webhook.deliver,
    "slack": slack.deliver,
    "msteamsv2": msteamsv2.deliver,
    "opsgenie": opsgenie.deliver,
    "email": email.deliver,
}
