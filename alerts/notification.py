"""What travels from a group of alerts to a receiver, and what is remembered of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import httpx

from alerts.route_tree import Integration
from alerts.state import AlertRecord
from store.errors import WarroomError
from store.model import Labels

# The reason of a group's first notice in an episode.
FIRST_NOTIFICATION = "first_notification"


class EventAction(StrEnum):
    """What a message does to the incident at the other side."""

    TRIGGER = "trigger"
    ACKNOWLEDGE = "acknowledge"
    RESOLVE = "resolve"


@dataclass(frozen=True, slots=True)
class Held:
    """An alert that a stage kept back: which stage, its reason, and by what."""

    fingerprint: str
    stage: str
    reason: str
    by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NotificationEntry:
    """What one integration of one group was told last (Alertmanager's notification log)."""

    lane: str
    group_id: str
    receiver: str
    integration: int
    firing: frozenset[str]
    resolved: frozenset[str]
    at_ms: int
    reason: str
    dedup_key: str = ""


@dataclass(frozen=True, slots=True)
class NoticeAlert:
    """One alert as a receiver sees it."""

    fingerprint: str
    firing: bool
    labels: Labels
    annotations: dict[str, str]
    starts_ms: int
    ends_ms: int | None
    generator_url: str = ""

    @classmethod
    def of(cls, record: AlertRecord, *, firing: bool, ends_ms: int | None) -> NoticeAlert:
        """An alert's state, told as firing or not: a message may speak of another instant."""
        return cls(
            fingerprint=record.fingerprint,
            firing=firing,
            labels=record.labels,
            annotations=record.annotations,
            starts_ms=record.starts_ms,
            ends_ms=ends_ms,
            generator_url=record.generator_url,
        )


@dataclass(frozen=True, slots=True)
class Notice:
    """One message to one integration, complete: it can be sent after a restart.

    Attributes:
        id: Stays the same over retries.
        lane: One group at one integration; its notices go out in order.
        dedup_key: Stays the same from trigger to resolve.
        reason: The named decision behind it.
        earlier: The receipt's detail of what the lane was told last, while it is not resolved.
    """

    id: str
    lane: str
    action: EventAction
    receiver: str
    integration: int
    group_key: str
    dedup_key: str
    group_labels: Labels
    alerts: tuple[NoticeAlert, ...]
    reason: str
    created_ms: int
    external_url: str = ""
    incident_id: str = ""
    who: str = ""
    earlier: str = ""

    @property
    def firing(self) -> tuple[NoticeAlert, ...]:
        return tuple(alert for alert in self.alerts if alert.firing)

    def to_json(self) -> dict[str, Any]:
        """Plain data, for the outbox."""
        return {
            "action": str(self.action),
            "receiver": self.receiver,
            "integration": self.integration,
            "group_key": self.group_key,
            "dedup_key": self.dedup_key,
            "group_labels": self.group_labels.to_dict(),
            "alerts": [
                {
                    "fingerprint": alert.fingerprint,
                    "firing": alert.firing,
                    "labels": alert.labels.to_dict(),
                    "annotations": alert.annotations,
                    "starts_ms": alert.starts_ms,
                    "ends_ms": alert.ends_ms,
                    "generator_url": alert.generator_url,
                }
                for alert in self.alerts
            ],
            "reason": self.reason,
            "created_ms": self.created_ms,
            "external_url": self.external_url,
            "incident_id": self.incident_id,
            "who": self.who,
        }

    @classmethod
    def from_json(cls, notice_id: str, lane: str, data: Mapping[str, Any]) -> Notice:
        """The notice that `to_json` made plain."""
        alerts = tuple(
            NoticeAlert(**{**alert, "labels": Labels.of(alert["labels"])})
            for alert in data["alerts"]
        )
        return cls(
            **{
                **data,
                "id": notice_id,
                "lane": lane,
                "action": EventAction(data["action"]),
                "group_labels": Labels.of(data["group_labels"]),
                "alerts": alerts,
            }
        )


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the other side said of a delivery that it took."""

    status: int
    detail: str = ""
    sent: Mapping[str, Any] = field(default_factory=dict)


class DeliveryError(WarroomError):
    """A delivery failed; `permanent` when sending it again will not help."""

    def __init__(
        self,
        message: str,
        *,
        permanent: bool,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.status = status
        self.retry_after_s = retry_after_s


class Notifier(Protocol):
    """Sends a notice over one integration."""

    async def __call__(
        self, notice: Notice, integration: Integration, client: httpx.AsyncClient, now_ms: int
    ) -> Receipt:
        """Deliver once.

        Raises:
            DeliveryError: It was not taken; says whether to try again, and when.
        """
        ...


def lane_of(group_id: str, receiver: str, integration: int) -> str:
    """The name of one group at one integration."""
    return f"{group_id}/{integration}/{receiver}"
