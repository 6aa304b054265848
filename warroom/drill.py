"""`warroom drill`: ask the running service for a drill, and wait for its receipts."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from store.errors import BadInput
from warroom.client import Print, ask

_LOOK_EVERY_S = 0.5
_PATH = "/api/warroom/v1/drills"


@dataclass(frozen=True, slots=True)
class DrillCommand:
    """What was asked on the command line; `timeout_s` bounds the wait for receipts."""

    url: str
    token: str
    labels: tuple[str, ...]
    timeout_s: float


def drill(command: DrillCommand, show: Print) -> int:
    """Print where it goes and what came of it.

    Returns:
        0 when every receiver took it, 1 when one did not, or not within the time.
    """
    begun = ask("POST", command.url, command.token, _PATH, json={"labels": _labels(command.labels)})
    for route in begun["routes"]:
        kinds = ", ".join(route["kinds"]) or "nobody"
        show(f"route {route['route']} to {route['receiver']} ({kinds})")
        for reason in route["held_by"]:
            show(f"  note: a real alert would be held back here: {reason}")
    told = _wait(command, begun["id"])
    for one in told["deliveries"]:
        show(_line(one))
    if not told["done"]:
        show(f"not every receiver answered within {command.timeout_s:g} s")
    return 0 if told["ok"] else 1


def _wait(command: DrillCommand, drill_id: str) -> Any:
    deadline = time.monotonic() + command.timeout_s
    pause = threading.Event()
    while True:
        told = ask("GET", command.url, command.token, f"{_PATH}/{drill_id}")
        if told["done"] or time.monotonic() >= deadline:
            return told
        pause.wait(_LOOK_EVERY_S)


def _line(one: dict[str, Any]) -> str:
    name = f"{one['receiver']}/{one['kind'] or one['integration']}"
    took = "" if one["milliseconds"] is None else f" after {one['milliseconds']} ms"
    status = "" if one["status"] is None else f" {one['status']}"
    return f"{one['state']:8} {one['action']:8} {name}{status}{took} {one['detail']}".rstrip()


def _labels(texts: Sequence[str]) -> dict[str, str]:
    labels = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise BadInput(f"{text!r} is no label", hint="write it like severity=page")
        labels[name] = value
    return labels
