"""One request to an endpoint, and what its answer means for the data in it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

import cramjam
import httpx

from collector.forward.config import RemoteWrite
from store.errors import WarroomError
from store.retry_after import retry_after_s

_MAX_ANSWER = 1024
MAX_RETRY_AFTER_S = 600.0
# 3xx: redirects are not followed, and the endpoint may be itself again when its proxy is.
_TRANSIENT = frozenset({408, 425})


class Verdict(Enum):
    """What becomes of the data of a request."""

    TAKEN = auto()
    REFUSED = auto()  # for good: sending it again will not help
    LATER = auto()


@dataclass(frozen=True, slots=True)
class Answer:
    """A verdict, why, and when to try again (where the endpoint said so)."""

    verdict: Verdict
    error: str = ""
    retry_after_s: float | None = None


def verdict_of(status: int, *, retry_on_http_429: bool = True) -> Verdict:
    """2xx is taken; 429, 5xx and redirects may pass; any other answer will not.

    Source: https://prometheus.io/docs/specs/prw/remote_write_spec/#retries-backoff
    """
    if 200 <= status < 300:
        return Verdict.TAKEN
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return Verdict.LATER if retry_on_http_429 else Verdict.REFUSED
    if 300 <= status < 400 or status >= 500 or status in _TRANSIENT:
        return Verdict.LATER
    return Verdict.REFUSED


def compressed(payload: bytes) -> bytes:
    """A snappy block."""
    return bytes(cramjam.snappy.compress_raw(payload))


async def post(
    client: httpx.AsyncClient, endpoint: RemoteWrite, block: bytes, now_ms: int, *, retry: int = 0
) -> Answer:
    """Send a compressed WriteRequest. Never raises but when cancelled.

    The address is not in an error: it may hold a secret.
    """
    try:
        headers = _headers(endpoint.http.request_headers(), retry)
        async with (
            asyncio.timeout(endpoint.timeout_s),
            client.stream(
                "POST",
                endpoint.url,
                content=block,
                headers=headers,
                extensions=endpoint.http.extensions(),
                follow_redirects=False,
            ) as response,
        ):
            text = await _start_of(response)
            verdict = verdict_of(
                response.status_code, retry_on_http_429=endpoint.queue.retry_on_http_429
            )
            if verdict is Verdict.TAKEN:
                return Answer(verdict)
            wait_s = retry_after_s(
                response.headers.get("Retry-After", ""), now_ms, MAX_RETRY_AFTER_S
            )
            error = f"the endpoint answered {response.status_code}: {text}".rstrip(": ")
            return Answer(verdict, error, wait_s)
    except TimeoutError:
        return Answer(Verdict.LATER, f"no answer within {endpoint.timeout_s:g} s")
    # TLS breaks off with an ssl.SSLError of its own, which is an OSError.
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
        return Answer(Verdict.LATER, f"no answer: {type(error).__name__}")
    except WarroomError as error:
        return Answer(Verdict.LATER, str(error))


def _headers(own: Mapping[str, str], retry: int) -> dict[str, str]:
    headers = {
        **own,
        "Content-Encoding": "snappy",
        "Content-Type": "application/x-protobuf",
        "User-Agent": "Warroom",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
        "Accept-Encoding": "identity",
    }
    return {**headers, "Retry-Attempt": str(retry)} if retry else headers


async def _start_of(response: httpx.Response) -> str:
    received = bytearray()
    async for chunk in response.aiter_raw(_MAX_ANSWER):
        received += chunk
        if len(received) >= _MAX_ANSWER:
            break
    return " ".join(received[:_MAX_ANSWER].decode("utf-8", "replace").split())[:300]
