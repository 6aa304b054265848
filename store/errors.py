"""The few errors a caller can act on.

Each says what happened, where, and what to do next, and tells permanent from transient.
"""

from __future__ import annotations


class WarroomError(Exception):
    """Base of every error that Warroom raises on purpose.

    Args:
        message: What happened, in one sentence.
        hint: What to do next; empty when there is nothing to do.
    """

    permanent: bool = True

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message if not hint else f"{message} ({hint})")
        self.message = message
        self.hint = hint


class ConfigError(WarroomError):
    """A mistake in a file that a person wrote: where it is and what to write instead."""

    def __init__(
        self, message: str, *, file: str = "", line: int | None = None, hint: str = ""
    ) -> None:
        self.file = file
        self.line = line
        self.problem = message
        where = f"{file}:{line}: " if line is not None else f"{file}: " if file else ""
        super().__init__(f"{where}{message}", hint=hint)


class BadInput(WarroomError):
    """What a client sent cannot be taken; sending it again will not help."""


class LimitExceeded(WarroomError):
    """A bound on size, count or time was reached. `reason` is the label of the drop counter."""

    def __init__(self, message: str, *, reason: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class Overloaded(WarroomError):
    """The service sheds load; the same request may succeed after `retry_after_s` seconds.

    `reason` is the label of the drop counter.
    """

    permanent = False

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: int = 1,
        reason: str = "overloaded",
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s
        self.reason = reason


class StoreUnavailable(WarroomError):
    """The store cannot take or give data now (disk full, closed, lost connection)."""

    permanent = False


class QueryError(WarroomError):
    """A PromQL query failed. `kind` is Prometheus's `errorType`.

    Kinds: bad_data (400), execution (422), canceled (499), timeout (503), internal (500).
    """

    def __init__(self, message: str, *, kind: str = "execution", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.kind = kind
