"""Parameters of the Prometheus HTTP API, from the query string and from form bodies."""

from __future__ import annotations

import math
import re
from datetime import datetime
from urllib.parse import parse_qsl

from starlette.requests import Request

from store.durations import parse_duration_ms
from store.errors import QueryError

MAX_FORM_BYTES = 10 * 1024 * 1024
MAX_FIELDS = 10_000
# Prometheus's own minTime and maxTime go beyond what a backend's arithmetic may hold.
_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:\d\d)", re.ASCII
)
_WHOLE = re.compile(r"[-+]?\d+", re.ASCII)
_MAX_DIGITS = 18
_MAX_DURATION_S = (2**63 - 1) / 1e9  # Go counts nanoseconds in an int64
_FLAGS = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("", "0", "f", "F", "FALSE", "false", "False"), False),
}
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
            problem = f'cannot parse "{text[:200]}" to a valid timestamp'
            # Prometheus says more of the times that may be left out.
            prefix = "" if default is None else f"Invalid time value for '{name}': "
            raise bad_parameter(name, prefix + problem) from exc

    def duration_ms(self, name: str, default: int | None = None) -> int:
        """Seconds as a number, or a duration such as `1m30s`."""
        text = self.text(name)
        if not text and default is not None:
            return default
        try:
            return _duration_ms(text)
        except ValueError as exc:
            raise bad_parameter(name, f'cannot parse "{text[:200]}" to a valid duration') from exc
        except OverflowError as exc:
            problem = f'cannot parse "{text[:200]}" to a valid duration. It overflows int64'
            raise bad_parameter(name, problem) from exc

    def limit(self) -> int:
        """How many results at most; 0 is no limit."""
        text = self.text("limit")
        if not text:
            return 0
        limit = whole_number(text)
        if limit is None:
            problem = f'strconv.Atoi: parsing "{text[:200]}": invalid syntax'
            raise bad_parameter("limit", problem)
        if limit < 0:
            raise bad_parameter("limit", "limit must be non-negative")
        return limit

    def at_most(self, name: str) -> int:
        """A limit of /metadata: -1 is none.

        Raises:
            QueryError: It is no number.
        """
        limit = whole_number(self.text(name) or "-1")
        if limit is None:
            raise QueryError(f"{name} must be a number", kind="bad_data")
        return limit

    def flag(self, name: str) -> bool:
        """A boolean as Go reads it; left out it is false."""
        text = self.text(name)
        if text not in _FLAGS:
            problem = f'strconv.ParseBool: parsing "{text[:200]}": invalid syntax'
            raise bad_parameter(name, problem)
        return _FLAGS[text]


def whole_number(text: str) -> int | None:
    """Decimal digits with a sign or none, within 64 bits; None is what it is not."""
    if len(text) > _MAX_DIGITS or not _WHOLE.fullmatch(text):
        return None
    return int(text)


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
    number = _number(text)
    if number is None:
        if not _RFC3339.fullmatch(text):
            raise ValueError("neither a number nor RFC 3339")
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    if not math.isfinite(number) or not MIN_TIME_MS <= number * 1000 <= MAX_TIME_MS:
        raise ValueError("out of range")
    return round(number * 1000)


def _number(text: str) -> float | None:
    """A float as Go reads it: without the spaces around it that Python would take."""
    if text != text.strip():
        return None
    try:
        return float(text)
    except ValueError:
        return None


def _duration_ms(text: str) -> int:
    number = _number(text)
    if number is None:
        return parse_duration_ms(text)
    if math.isnan(number):
        return 0
    if abs(number) > _MAX_DURATION_S:
        raise OverflowError
    return round(number * 1000)
