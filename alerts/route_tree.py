"""The routing tree and its receivers, as frozen values; which routes take an alert."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from typing_extensions import override

from alerts.matchers import format_matchers, matches_all, quote
from alerts.on_call.model import OnCall
from alerts.time_intervals import TimeInterval
from store.model import Labels, Matcher

# The kind of the integration that an escalation policy is for dispatch; nothing delivers it.
ESCALATION = "escalation"


@dataclass(frozen=True, slots=True)
class Secret:
    """A text that never shows itself in logs or answers."""

    value: str

    @override
    def __repr__(self) -> str:
        return "Secret(<hidden>)"

    @override
    def __str__(self) -> str:
        return repr(self)


@dataclass(frozen=True, slots=True)
class Integration:
    """One way to reach a receiver.

    Attributes:
        kind: A key of the notifier table: `pagerduty`, `webhook`.
        send_resolved: Resolutions are sent too.
        send_updates: A group that changed or repeats while it fires is sent again.
        options: What the notifier of this kind reads; texts only.
        secrets: Keys and signing secrets, kept apart so that they are never shown.
    """

    kind: str
    send_resolved: bool = True
    send_updates: bool = True
    options: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, Secret] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Receiver:
    """A named list of integrations; an empty one is a hole that alerts vanish in, on purpose.

    `escalation_policy`: people are told by its steps, beside the integrations.
    """

    name: str
    integrations: tuple[Integration, ...] = ()
    escalation_policy: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """A node of the routing tree, with everything inherited filled in.

    Attributes:
        key: Alertmanager's route key: the matchers from the root down, `{}/{severity="page"}`.
        id: The key, made unique among siblings with the same matchers.
        group_by: Label names; None stands for `...`, every label.
    """

    key: str
    receiver: str
    id: str = "{}"
    matchers: tuple[Matcher, ...] = ()
    group_by: tuple[str, ...] | None = ()
    group_wait_ms: int = 30_000
    group_interval_ms: int = 300_000
    repeat_interval_ms: int = 4 * 3_600_000
    go_on: bool = False
    mute_time_intervals: tuple[str, ...] = ()
    active_time_intervals: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()

    def match(self, labels: Labels) -> list[Route]:
        """The routes that take an alert, in Alertmanager's order; empty when this one does not."""
        if not matches_all(self.matchers, labels):
            return []
        taken: list[Route] = []
        for child in self.routes:
            found = child.match(labels)
            taken.extend(found)
            if found and not child.go_on:
                break
        return taken or [self]

    def walk(self) -> Iterator[Route]:
        """This route and all below it."""
        yield self
        for child in self.routes:
            yield from child.walk()

    def group_labels(self, labels: Labels) -> Labels:
        """The labels that name the alert's group."""
        return labels if self.group_by is None else labels.keep(self.group_by)

    def group_key(self, group_labels: Labels) -> str:
        """Alertmanager's group key."""
        inner = ", ".join(f"{name}={quote(value)}" for name, value in group_labels)
        return f"{self.key}:{{{inner}}}"


def route_key(parent: str, matchers: tuple[Matcher, ...]) -> str:
    """The key of a route below `parent` (empty for the root)."""
    own = format_matchers(sorted(matchers, key=lambda m: (m.name, m.value, m.op)))
    return f"{parent}/{own}" if parent else own


@dataclass(frozen=True, slots=True)
class InhibitRule:
    """While a source fires, targets with the same `equal` labels are held back."""

    source: tuple[Matcher, ...]
    target: tuple[Matcher, ...]
    equal: tuple[str, ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class StormLimit:
    """After `max_pages` first pages within the window, one page counts the rest."""

    max_pages: int = 10
    window_ms: int = 60_000


@dataclass(frozen=True, slots=True)
class Routing:
    """A whole Alertmanager configuration.

    Attributes:
        text: What it was read from, secrets left out.
        ends_pass: The end of an alert that a receiver was told of passes silences, inhibition and
            mute times; in Alertmanager it does not.
        ack_timeout_ms: An acknowledged incident is open again after so long; 0 for never.
        silence_reminder_ms: So long before a silence ends its receivers are told; 0 for never.
        on_call: People and their escalation policies.
        inbound: Secrets by which messages of "slack" and "pagerduty" are known, newest first.
    """

    route: Route
    receivers: dict[str, Receiver]
    inhibit_rules: tuple[InhibitRule, ...] = ()
    time_intervals: dict[str, tuple[TimeInterval, ...]] = field(default_factory=dict)
    resolve_timeout_ms: int = 300_000
    text: str = ""
    storm: StormLimit = StormLimit()
    ends_pass: bool = True
    ack_timeout_ms: int = 0
    silence_reminder_ms: int = 0
    on_call: OnCall = field(default_factory=OnCall)
    inbound: dict[str, tuple[Secret, ...]] = field(default_factory=dict)
