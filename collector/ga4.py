"""GA4's Measurement Protocol as CloudEvents, for a shop whose server reports to Google.

An event of GA4 has no id. A purchase is known by its transaction, as GA4 knows it; another event by
all that it says, where it says when it was. What says neither counts each time it is sent. Who the
customer is (`client_id`, `user_id`, `user_properties`) is not kept.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

_SENDERS = ("client_id", "app_instance_id")
_SOURCE = "ga4"
_LONGEST_TIME = 20  # digits: microseconds of the last year that there is have 18


def is_measurement(document: Any) -> bool:
    """Whether a JSON value is a body of the Measurement Protocol."""
    return (
        isinstance(document, dict)
        and "specversion" not in document
        and isinstance(document.get("events"), list)
        and any(name in document for name in _SENDERS)
    )


def cloud_events(document: Mapping[str, Any]) -> list[Any]:
    """Its events as CloudEvents; one that is no object stays as it is, to be refused."""
    sender = "/".join(str(document.get(name, ""))[:256] for name in _SENDERS)
    return [
        _cloud_event(event, sender, event.get("timestamp_micros", document.get("timestamp_micros")))
        if isinstance(event, dict)
        else event
        for event in document["events"]
    ]


def _cloud_event(event: Mapping[str, Any], sender: str, micros: Any) -> dict[str, Any]:
    told = event.get("params")
    data = dict(told) if isinstance(told, dict) else {}
    if "session_id" not in data and "ga_session_id" in data:
        data["session_id"] = data.pop("ga_session_id")
    name = event.get("name")
    return {
        "specversion": "1.0",
        "id": _id(name, data, sender, micros),
        "source": _SOURCE,
        "type": name,
        "time": None if micros is None else _time(micros),
        "data": data,
    }


def _id(name: Any, data: Mapping[str, Any], sender: str, micros: Any) -> str:
    order = data.get("transaction_id")
    if name == "purchase" and order:
        return f"purchase-{order}"
    if micros is None:
        return str(uuid.uuid4())
    said = json.dumps([sender, micros, name, data], default=str, sort_keys=True)
    return hashlib.sha256(said.encode(errors="surrogatepass")).hexdigest()


def _time(micros: Any) -> str:
    """RFC 3339; what is no time stays as it is, to be refused."""
    if isinstance(micros, Decimal) and micros.adjusted() > _LONGEST_TIME:
        # A few characters may stand for a million digits, which an int would write out.
        return str(micros)[:40]
    try:
        return datetime.fromtimestamp(int(micros) / 1e6, UTC).isoformat()
    except (TypeError, ValueError, OverflowError, OSError):
        return str(micros)[:40]
