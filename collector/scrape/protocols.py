"""The formats of a metrics page: which are asked for, and which one came.

Names and preferences are Prometheus's own `scrape_protocols`.
"""

from __future__ import annotations

from collections.abc import Sequence
from email.message import Message
from enum import StrEnum

from store.errors import BadInput

_PROTO_MESSAGE = "io.prometheus.client.MetricFamily"


class Protocol(StrEnum):
    """A format of a page, as `scrape_protocols` names it."""

    PROTO = "PrometheusProto"
    OPENMETRICS_1 = "OpenMetricsText1.0.0"
    OPENMETRICS_0 = "OpenMetricsText0.0.1"
    TEXT_1 = "PrometheusText1.0.0"
    TEXT_0 = "PrometheusText0.0.4"

    @property
    def is_openmetrics(self) -> bool:
        return self in (Protocol.OPENMETRICS_1, Protocol.OPENMETRICS_0)


TEXT_PROTOCOLS = (
    Protocol.OPENMETRICS_1,
    Protocol.OPENMETRICS_0,
    Protocol.TEXT_1,
    Protocol.TEXT_0,
)
ALL_PROTOCOLS = (Protocol.PROTO, *TEXT_PROTOCOLS)
_MEDIA = {
    Protocol.PROTO: f"application/vnd.google.protobuf;proto={_PROTO_MESSAGE};encoding=delimited",
    Protocol.OPENMETRICS_1: "application/openmetrics-text;version=1.0.0",
    Protocol.OPENMETRICS_0: "application/openmetrics-text;version=0.0.1",
    Protocol.TEXT_1: "text/plain;version=1.0.0",
    Protocol.TEXT_0: "text/plain;version=0.0.4",
}
# Formats that can carry names of any characters have to be asked for them.
_ESCAPED = frozenset({Protocol.PROTO, Protocol.OPENMETRICS_1, Protocol.TEXT_1})


def accept_header(protocols: Sequence[Protocol], *, utf8_names: bool) -> str:
    """What is asked for: the first protocol is the most wanted.

    >>> accept_header((Protocol.TEXT_0,), utf8_names=True)
    'text/plain;version=0.0.4;q=0.6,*/*;q=0.1'
    """
    escaping = "allow-utf-8" if utf8_names else "underscores"
    parts = []
    for place, protocol in enumerate(protocols):
        media = _MEDIA[protocol]
        if protocol in _ESCAPED:
            media += f";escaping={escaping}"
        parts.append(f"{media};q=0.{len(ALL_PROTOCOLS) + 1 - place}")
    return ",".join([*parts, "*/*;q=0.1"])


def protocol_of(content_type: str, fallback: Protocol) -> Protocol:
    """The format of a page by its Content-Type; the fallback where that names none of them.

    Raises:
        BadInput: It is protobuf, of another message or framing than asked for.
    """
    header = Message()
    header["content-type"] = content_type
    media = header.get_content_type()
    if media == "application/vnd.google.protobuf":
        framing = header.get_param("encoding"), header.get_param("proto")
        if framing != ("delimited", _PROTO_MESSAGE):
            raise BadInput(
                f"the page is protobuf, but not {_PROTO_MESSAGE} delimited",
                hint="serve the text format",
            )
        return Protocol.PROTO
    if media == "application/openmetrics-text":
        return Protocol.OPENMETRICS_1
    # Without a header, or with an unreadable one, email's own answer is text/plain.
    plain = media == "text/plain" and content_type.strip().lower().startswith("text/plain")
    return Protocol.TEXT_0 if plain else fallback
