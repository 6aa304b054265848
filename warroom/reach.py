"""Whether the receivers' addresses answer: a connection is opened and closed, nothing is sent."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from typing_extensions import override

from alerts.route_tree import Integration, Routing
from store.documents import Document, parse_document
from warroom.config import Settings

_TIMEOUT_S = 3.0
_MAX_ADDRESSES = 200
_MAX_AT_ONCE = 16
_ADDRESSES = ("smarthost", "url", "api_url", "webhook_url")
_PORTS = {"http": 80, "https": 443}
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Unreached:
    """A receiver whose address does not answer; `where` is its place in the file."""

    where: str
    receiver: str
    kind: str
    address: Address
    reason: str

    @override
    def __str__(self) -> str:
        host, port = self.address
        return (
            f"{self.where}: the receiver {self.receiver!r} ({self.kind}) is not reached at "
            f"{host}:{port}: {self.reason} (check the address, the name server and the firewall)"
        )


def unreached(settings: Settings, routing: Routing) -> list[Unreached]:
    """Every receiver that does not answer within three seconds. Only hosts and ports are told."""
    wanted = list(_integrations(routing))[:_MAX_ADDRESSES]
    addresses = sorted({address for _, _, address in wanted})
    with ThreadPoolExecutor(_MAX_AT_ONCE) as pool:
        reasons = dict(zip(addresses, pool.map(_failure, addresses), strict=True))
    document = _document(settings)
    return [
        Unreached(_where(document, name, one.kind), name, one.kind, address, reasons[address])
        for name, one, address in wanted
        if reasons[address]
    ]


def _integrations(routing: Routing) -> Iterator[tuple[str, Integration, Address]]:
    for name, receiver in sorted(routing.receivers.items()):
        for integration in receiver.integrations:
            address = address_of(integration)
            if address is not None:
                yield name, integration, address


def address_of(integration: Integration) -> Address | None:
    """Where an integration connects to; None when it cannot be told."""
    for key in _ADDRESSES:
        secret = integration.secrets.get(key)
        text = integration.options.get(key) or (secret.value if secret else "")
        if not text:
            continue
        if key == "smarthost":
            host, _, port = text.rpartition(":")
            return (host, int(port)) if host and port.isdecimal() else None
        parts = urlsplit(text)
        if parts.scheme in _PORTS and parts.hostname:
            return parts.hostname, parts.port or _PORTS[parts.scheme]
    return None


def _failure(address: Address) -> str:
    """Why an address does not answer; empty when it does."""
    try:
        with socket.create_connection(address, timeout=_TIMEOUT_S):
            return ""
    except TimeoutError:
        return f"no answer within {_TIMEOUT_S:g} s"
    except OSError as exc:
        return exc.strerror or type(exc).__name__


def _document(settings: Settings) -> tuple[Document, tuple[str, ...]]:
    """The document that the receivers stand in, and the path above them."""
    if settings.alertmanager is not None:
        return parse_document(settings.alertmanager.text, settings.alertmanager.name), ()
    return settings.document, ("alerting",)


def _where(place: tuple[Document, tuple[str, ...]], name: str, kind: str) -> str:
    document, above = place
    data = document.data if isinstance(document.data, dict) else {}
    for step in above:
        data = data.get(step) or {}
    listed = data.get("receivers") or ()
    index = next((i for i, r in enumerate(listed) if r.get("name") == name), None)
    line = None
    if index is not None:
        line = document.line_of((*above, "receivers", index, f"{kind}_configs"))
    return document.file if line is None else f"{document.file}:{line}"
