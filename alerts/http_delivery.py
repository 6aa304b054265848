"""One bounded HTTP POST, and what its failure means for a delivery."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from alerts.notification import DeliveryError
from store.retry_after import retry_after_s

TIMEOUT_S = 10.0
_MAX_ANSWER = 16_384
_MAX_RETRY_AFTER_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; the body is cut at 16 KiB."""

    status: int
    text: str
    retry_after_s: float | None


async def post(
    client: httpx.AsyncClient, url: str, body: bytes, headers: Mapping[str, str], now_ms: int
) -> Answer:
    """Post a body and read the (bounded) answer. Redirects are not followed.

    Raises:
        DeliveryError: Transient, when no answer came. The address is not in the message: it may
            hold a secret.
    """
    try:
        async with asyncio.timeout(TIMEOUT_S):
            async with client.stream(
                "POST",
                url,
                content=body,
                headers={**headers, "Accept-Encoding": "identity"},
                follow_redirects=False,
            ) as response:
                received = bytearray()
                async for chunk in response.aiter_bytes(_MAX_ANSWER):
                    received += chunk
                    if len(received) >= _MAX_ANSWER:
                        break
                text = bytes(received[:_MAX_ANSWER]).decode("utf-8", "replace")
                retry = retry_after_s(
                    response.headers.get("Retry-After", ""), now_ms, _MAX_RETRY_AFTER_S
                )
                return Answer(response.status_code, text, retry)
    except TimeoutError as exc:
        raise DeliveryError(f"no answer within {TIMEOUT_S:g} s", permanent=False) from exc
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as exc:
        raise DeliveryError("the receiver's address is not valid", permanent=True) from exc
    except httpx.HTTPError as exc:
        raise DeliveryError(f"no answer: {_reason(exc)}", permanent=False) from exc


def _reason(error: BaseException | None) -> str:
    """What a person can act on: in the words of the first cause that is known."""
    name = type(error).__name__
    while error is not None:
        if isinstance(error, socket.gaierror):
            return "the name of the receiver's host cannot be resolved"
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"the receiver's certificate is not trusted: {error.verify_message}"
        if isinstance(error, ssl.SSLError):
            return f"TLS failed: {error.reason or 'no handshake'}"
        if isinstance(error, ConnectionRefusedError):
            return "the connection was refused"
        if isinstance(error, httpx.RemoteProtocolError):
            return "the connection was closed before the answer's end, or it was no HTTP"
        error = error.__cause__ or error.__context__
    return name


def failure(answer: Answer, who: str) -> DeliveryError:
    """The error of an answer that is no success: 429, 408 and 5xx may pass, other 4xx will not."""
    transient = answer.status in {408, 425, 429} or not 400 <= answer.status < 500
    return DeliveryError(
        f"{who} answered {answer.status}: {' '.join(answer.text.split())[:300]}",
        permanent=not transient,
        status=answer.status,
        retry_after_s=answer.retry_after_s if transient else None,
    )
