"""Which HTTP status an error is, and what its body says; without a web framework."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from collector.body import DamagedBody, SlowBody, UnsupportedMedia
from store.errors import BadInput, LimitExceeded, Overloaded, StoreUnavailable, WarroomError

RETRY_STORE_AFTER_S = 5


class UnknownSender(BadInput):
    """The sender may not report here (403)."""


class ForeignOrigin(UnknownSender):
    """A page of another origin may not report here (403)."""


# Narrow kinds first: most are kinds of `BadInput`.
_REASONS: tuple[tuple[type[WarroomError], str], ...] = (
    (UnsupportedMedia, "unsupported_media"),
    (ForeignOrigin, "foreign_origin"),
    (UnknownSender, "unknown_app_key"),
    (DamagedBody, "damaged_compression"),
    (SlowBody, "body_late"),
    (BadInput, "malformed"),
    (StoreUnavailable, "store_unavailable"),
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A status with Warroom's own error body. `retry_after_s` is None where a retry is vain."""

    status: int
    code: str
    message: str
    hint: str = ""
    retry_after_s: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}

    @property
    def body(self) -> dict[str, Any]:
        return {"error": {"code": self.code, "message": self.message, "hint": self.hint}}


def reason_of(error: WarroomError) -> str:
    """The label of the drop counter."""
    if isinstance(error, LimitExceeded | Overloaded):
        return error.reason
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return reason
    return "refused"


def refusal_of(error: WarroomError) -> Refusal:
    """403, 413 and 415 are told apart; other permanent errors are 400, transient ones 429, 503."""
    status, code, retry_after_s = 500, "internal", None
    if isinstance(error, UnsupportedMedia):
        status, code = 415, "unsupported_media_type"
    elif isinstance(error, UnknownSender):
        status, code = 403, "unknown_sender"
    elif isinstance(error, LimitExceeded):
        status, code = (413 if error.reason == "body_size" else 400), error.reason
    elif isinstance(error, BadInput):
        status, code = 400, "bad_input"
    elif isinstance(error, Overloaded):
        status, code, retry_after_s = 429, "overloaded", error.retry_after_s
    elif isinstance(error, StoreUnavailable):
        status, code, retry_after_s = 503, "store_unavailable", RETRY_STORE_AFTER_S
    return Refusal(status, code, error.message, error.hint, retry_after_s)
