"""Which message a remote-write request holds, by its headers.

Rules: the remote-write specifications 1.0 and 2.0; where a header is missing, 1.0 and snappy are
meant, as Prometheus's own receiver has it.
"""

from __future__ import annotations

from enum import IntEnum

from collector.body import UnsupportedMedia

_MEDIA_TYPE = "application/x-protobuf"
_V1_MESSAGE = "prometheus.WriteRequest"
_V2_MESSAGE = "io.prometheus.write.v2.Request"
_SHOWN = 80


class Version(IntEnum):
    """Major versions of the protocol."""

    V1 = 1
    V2 = 2


def version_of(content_type: str, content_encoding: str) -> Version:
    """The version that the headers name.

    Raises:
        UnsupportedMedia: They name another media type, message or compression.
    """
    if content_encoding.strip().lower() not in ("", "snappy"):
        raise UnsupportedMedia(
            f"the Content-Encoding {content_encoding[:_SHOWN]!r} is not supported",
            hint="compress with snappy's block format",
        )
    media_type, *parameters = (part.strip() for part in content_type.split(";"))
    if media_type.lower() not in ("", _MEDIA_TYPE):
        raise _unsupported(content_type)
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "proto":
            return _version_of_message(value.strip().strip('"'), content_type)
    return Version.V1


def _version_of_message(message: str, content_type: str) -> Version:
    if message == _V1_MESSAGE:
        return Version.V1
    if message == _V2_MESSAGE:
        return Version.V2
    raise _unsupported(content_type)


def _unsupported(content_type: str) -> UnsupportedMedia:
    return UnsupportedMedia(
        f"the Content-Type {content_type[:_SHOWN]!r} is not supported",
        hint=f"use {_MEDIA_TYPE} with proto={_V2_MESSAGE} or proto={_V1_MESSAGE}",
    )
