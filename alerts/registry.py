"""Which notifier delivers which kind of integration: one literal table."""

from __future__ import annotations

from alerts.notification import Notifier
from alerts.notifiers import (
    apprise,
    email,
    msteamsv2,
    newrelic,
    opsgenie,
    pagerduty,
    slack,
    webhook,
)

NOTIFIERS: dict[str, Notifier] = {
    "pagerduty": pagerduty.deliver,
    "webhook": webhook.deliver,
    "slack": slack.deliver,
    "msteamsv2": msteamsv2.deliver,
    "opsgenie": opsgenie.deliver,
    "newrelic": newrelic.deliver,
    "email": email.deliver,
    "apprise": apprise.deliver,
}
