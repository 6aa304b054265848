"""Business events: what the shop sold, as CloudEvents 1.0 with GA4's e-commerce names.

`EventTracker.track` never blocks and never raises for a receiver that is away. An event's id makes
it idempotent, so a repeated post counts once.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal

from opentelemetry import trace

from collector.instrument.posting import BatchPoster, Destination, PostLimits

EventType = Literal[
    "view_item",
    "add_to_cart",
    "begin_checkout",
    "add_shipping_info",
    "add_payment_info",
    "purchase",
    "payment_failed",
    "refund",
]
CheckoutStep = Literal["begin_checkout", "add_shipping_info", "add_payment_info", "payment_failed"]
# An order or a failed payment happens once for its key: the same id again is the same event.
_NAMESPACE = uuid.UUID("6c1f0f0e-6d5a-5f0e-9a55-2f8f1c1b7a10")


@dataclass(frozen=True, slots=True)
class Visit:
    """Who is shopping, and where from. Empty means unknown."""

    session_id: str = ""
    checkout_id: str = ""
    device: str = ""
    channel: str = ""
    country: str = ""


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in a currency of ISO 4217."""

    value: Decimal
    currency: str

    def __post_init__(self) -> None:
        if not self.value.is_finite():
            raise ValueError(f"{self.value} is no amount of money")


class EventTracker:
    """Sends the shop's business events.

    >>> tracker = EventTracker("shop", None)  # no endpoint: events are dropped at once
    >>> tracker.track("view_item", Visit(session_id="s-1"))
    False
    """

    def __init__(
        self,
        source: str,
        endpoint: str | None,
        limits: PostLimits | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`headers` are sent with every batch, for a token."""
        self._source = source
        self._poster: BatchPoster | None = None
        if endpoint:
            told = dict(headers or {})
            destination = Destination(endpoint, "application/x-ndjson", b"\n".join, told)
            self._poster = BatchPoster(destination, limits)

    def track(
        self,
        event_type: EventType,
        visit: Visit,
        money: Money | None = None,
        data: Mapping[str, str | int | Sequence[Mapping[str, str | int]]] | None = None,
        event_id: str = "",
    ) -> bool:
        """Queue one event. False: no endpoint, or the queue is full.

        Args:
            event_type: GA4's name of it.
            visit: The session, and the checkout if it has begun.
            money: Its value, where it has one.
            data: More fields, such as `transaction_id` or `items`.
            event_id: Makes a repeat count once; a random one by default.
        """
        if self._poster is None:
            return False
        body = {
            "specversion": "1.0",
            "id": event_id or str(uuid.uuid4()),
            "source": self._source,
            "type": event_type,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "datacontenttype": "application/json",
            "data": _data(visit, money, data or {}),
        }
        return self._poster.put(json.dumps(body, separators=(",", ":")).encode())

    def track_checkout(
        self, step: CheckoutStep, visit: Visit, money: Money, reason: str = ""
    ) -> bool:
        """One step of a checkout. `reason` says why a payment failed."""
        return self.track(step, visit, money, {"reason": reason} if reason else None)

    def track_order(
        self,
        order_id: str,
        visit: Visit,
        money: Money,
        items: Sequence[Mapping[str, str | int]] = (),
    ) -> bool:
        """A purchase. The id is derived from `order_id`, so calling it twice counts one order."""
        data: dict[str, str | int | Sequence[Mapping[str, str | int]]] = {
            "order_id": order_id,
            "transaction_id": order_id,
        }
        if items:
            data["items"] = list(items)
        event_id = str(uuid.uuid5(_NAMESPACE, f"{self._source} {order_id}"))
        return self.track("purchase", visit, money, data, event_id)

    def flush(self, timeout_s: float = 3.0) -> bool:
        """Wait until everything is sent. False: time ran out."""
        return self._poster is None or self._poster.flush(timeout_s)

    def close(self) -> None:
        """Send what is queued and stop."""
        if self._poster is not None:
            self._poster.close()


def _data(visit: Visit, money: Money | None, more: Mapping[str, object]) -> dict[str, object]:
    data: dict[str, object] = {
        item.name: value for item in fields(visit) if (value := getattr(visit, item.name))
    }
    if money is not None:
        data["value"] = str(money.value)
        data["currency"] = money.currency
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        data["trace_id"] = f"{context.trace_id:032x}"
    data.update(more)
    return data
