"""The lane of what a step tells a receiver: one for each service that knows it by its dedup key.

Two people may be reached by one PagerDuty service. What it is told under one key must arrive in
order, or one person's late trigger would open again what another's end has resolved.
"""

from __future__ import annotations

import hashlib

from alerts.notification import Notice
from alerts.route_tree import Integration, Routing

# Kinds of services that keep one incident under a dedup key.
KEYED = frozenset({"pagerduty", "opsgenie"})


def lane_to(notice: Notice, receiver: str, index: int, routing: Routing) -> str:
    """Where an escalation's message to a receiver's integration stands in line.

    Args:
        notice: What is said; its lane is that of the group at the policy.
        receiver: Who is told.
        index: By which of its integrations.
        routing: The configuration in force.
    """
    integration = routing.receivers[receiver].integrations[index]
    if integration.kind not in KEYED:
        return f"{notice.lane}/to/{index}/{receiver}"
    service = _service(integration)
    # The receiver with the policy may tell the same service itself, in a lane of its own.
    own = routing.receivers.get(notice.receiver)
    of_policy = f"/{notice.integration}/{notice.receiver}"
    for place, one in enumerate(own.integrations if own else ()):
        if _service(one) == service and notice.lane.endswith(of_policy):
            return f"{notice.lane.removesuffix(of_policy)}/{place}/{notice.receiver}"
    return f"{notice.lane}/to/{integration.kind}-{service}"


def _service(integration: Integration) -> str:
    secrets = sorted((name, secret.value) for name, secret in integration.secrets.items())
    address = integration.options.get("url") or integration.options.get("api_url", "")
    seed = repr((integration.kind, address, secrets))
    return hashlib.sha256(seed.encode()).hexdigest()[:16]
