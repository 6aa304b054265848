"""What stands under `alerting:` beside Alertmanager's own fields, and under `on_call:`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from alerts.deadman import Deadman, parse_deadman
from alerts.fields import Fields
from alerts.on_call.model import OnCall
from alerts.on_call_file import parse_on_call
from alerts.receiver_fields import secret
from alerts.route_tree import Routing, Secret, StormLimit
from store.documents import Document, parse_document
from store.documents import Path as Place
from warroom.config import OWN_ALERTING_KEYS, Settings


def read_secret(settings: Settings, source: str, name: str) -> str:
    """The secret in a file, or in a variable of the environment."""
    # What goes wrong here is told with file and line by whoever asked.
    if source == "file":
        return Path(name).read_text(encoding="utf-8").strip()
    return settings.environment[name]


def alertmanager_part(settings: Settings) -> dict[str, Any]:
    """The inline Alertmanager configuration; empty when there is none."""
    section = settings.file.alerting or {}
    return {key: value for key, value in section.items() if key not in OWN_ALERTING_KEYS}


def read_deadman(settings: Settings) -> Deadman | None:
    """`alerting.deadman`, if it is there.

    Raises:
        ConfigError: A mistake in it.
    """
    fields = _section(settings, "deadman")
    if fields is None:
        return None
    return parse_deadman(fields, lambda source, name: read_secret(settings, source, name))


def read_storm(settings: Settings) -> StormLimit:
    """`alerting.storm`, or the usual limit.

    Raises:
        ConfigError: A mistake in it.
    """
    fields = _section(settings, "storm")
    usual = StormLimit()
    if fields is None:
        return usual
    limit = StormLimit(
        max_pages=fields.integer("max_pages", usual.max_pages),
        window_ms=fields.duration_ms("window", usual.window_ms),
    )
    if limit.max_pages == 0 or limit.window_ms == 0:
        name = "window" if limit.max_pages else "max_pages"
        raise fields.error(name, f"{name} must be more than zero")
    fields.done()
    return limit


def with_own_settings(settings: Settings, routing: Routing) -> Routing:
    """The routing with what is Warroom's own: storms, time-outs, reminders, people on call.

    Raises:
        ConfigError: A mistake in it.
    """
    usual = Routing(routing.route, {})
    ack_timeout_ms = usual.ack_timeout_ms
    reminder_ms = usual.silence_reminder_ms
    ends_pass = usual.ends_pass
    if settings.file.alerting:
        fields = Fields(settings.document, ("alerting",), "alerting")
        ack_timeout_ms = fields.duration_ms("ack_timeout", ack_timeout_ms)
        reminder_ms = fields.duration_ms("silence_reminder", reminder_ms)
        ends_pass = fields.boolean("ends_pass", default=ends_pass)
    routing = replace(
        routing,
        storm=read_storm(settings),
        ack_timeout_ms=ack_timeout_ms,
        silence_reminder_ms=reminder_ms,
        ends_pass=ends_pass,
        on_call=_read_on_call(settings, routing),
        inbound=_read_inbound(settings),
    )
    for place, receiver in enumerate(routing.receivers.values()):
        policy = receiver.escalation_policy
        if policy and policy not in routing.on_call.policies:
            known = ", ".join(sorted(routing.on_call.policies)) or "none"
            document, path = _receivers_of(settings)
            raise document.error(
                (*path, place, "escalation_policy"),
                f"the receiver {receiver.name!r} names the escalation policy {policy!r}, "
                "which is not defined",
                hint=f"defined under on_call.escalation_policies: {known}",
            )
    return routing


def _receivers_of(settings: Settings) -> tuple[Document, Place]:
    """Where the receivers stand."""
    file = settings.alertmanager
    if file is None:
        return settings.document, ("alerting", "receivers")
    return parse_document(file.text, file.name), ("receivers",)


def _read_on_call(settings: Settings, routing: Routing) -> OnCall:
    if not settings.file.on_call:
        return OnCall()
    fields = Fields(settings.document, ("on_call",), "on_call")
    return parse_on_call(fields, routing.receivers)


def _read_inbound(settings: Settings) -> dict[str, tuple[Secret, ...]]:
    """`alerting.inbound`: several secrets, separated by spaces, hold at once: that is rotation."""
    fields = _section(settings, "inbound")
    if fields is None:
        return {}
    found = {}
    for name in ("slack", "pagerduty"):
        one = secret(
            fields, f"{name}_secret", lambda source, ref: read_secret(settings, source, ref)
        )
        if one is not None:
            found[name] = tuple(Secret(part) for part in one.value.split())
    fields.done()
    return found


def _section(settings: Settings, name: str) -> Fields | None:
    if not settings.file.alerting or name not in settings.file.alerting:
        return None
    return Fields(settings.document, ("alerting",), "alerting").child(name, f"alerting.{name}")
