"""Parameters of the Prometheus HTTP API, from the query string and from form bodies."""

from __future__ import annotations

import math
from datetime import datetime
from urllib.parse import parse_qsl

from starlette.requests import Request

from store.durations import parse_duration_ms
from store.errors import QueryError

MAX_FORM_BYTES = 10 * 1024 * 1024
MAX_FIELDS = 10_000
# Prometheus's own minTime and maxTime go beyond what a backend's arithmetic may hold.
MIN_TIME_MS = -(2**52)
MAX_TIME_MS = 2**52


class Parameters:
    """The named values of one request; a name may stand several times."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    @classmethod
    async def of(cls, request: Request) -> Parameters:
        """A request's parameters: a form body's before those of the query string.

        Raises:
            QueryError: The body is too large or no form.
        """
        pairs: list[tuple[str, str]] = []
        if request.method in ("POST", "PUT", "DELETE"):
            pairs = _fields(await _body(request))
        return cls([*pairs, *_fields(request.url.query.encode())])

    def text(self, name: str, default: str = "") -> str:
        return self._values.get(name, [default])[0]

    def all(self, *names: str) -> list[str]:
        return [value for name in names for value in self._values.get(name, [])]

    def time_ms(self, name: str, default: int | None = None) -> int:
        """A Unix time in seconds, or RFC 3339."""
        text = self.text(name)
        if not text and default is not None:
            return default
        try:
            return _time_ms(text)
        except (ValueError, OverflowError) as exc:
            raise bad_parameter(name, f'cannot parse "{text[:200]}" to a valid timestamp') from exc

    def duration_ms(self, name: str, default: int | None = None) -> int:
        """Seconds as a number, or a duration such as `1m30s`."""
        text = self.text(name)
        if not text and default is not None:
            return default
        try:
            return _duration_ms(text)
        except (ValueError, OverflowError) as exc:
            raise bad_parameter(name, f'cannot parse "{text[:200]}" to a valid duration') from exc

    def limit(self) -> int:
        """How many results at most; 0 is no limit."""
        text = self.text("limit")
        if not text:
            return 0
        try:
            limit = int(text)
        except ValueError as exc:
            raise bad_parameter("limit", f'cannot parse "{text[:200]}" as a number') from exc
        if limit < 0:
            raise bad_parameter("limit", "limit must be non-negative")
        return limit


def bad_parameter(name: str, problem: str) -> QueryError:
    """Prometheus's error of a parameter that cannot be."""
    return QueryError(f'invalid parameter "{name}": {problem}', kind="bad_data")


async def _body(request: Request) -> bytes:
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > MAX_FORM_BYTES:
            raise QueryError(f"the form is larger than {MAX_FORM_BYTES} bytes", kind="bad_data")
    return bytes(received)


def _fields(encoded: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            encoded.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_FIELDS
        )
    except ValueError as exc:
        raise QueryError("error parsing form values: too many fields", kind="bad_data") from exc


def _time_ms(text: str) -> int:
    try:
        number = float(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError("a time needs its zone") from None
        return round(moment.timestamp() * 1000)
    if not math.isfinite(number) or not MIN_TIME_MS <= number * 1000 <= MAX_TIME_MS:
        raise ValueError("out of range")
    return round(number * 1000)


def _duration_ms(text: str) -> int:
    try:
        number = float(text)
    except ValueError:
        return parse_duration_ms(text)
    if not math.isfinite(number) or abs(number) > 9e9:
        raise ValueError("out of range")
    return round(number * 1000)
