"""Silences: matchers with a beginning, an end, an author and a reason."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from uuid import uuid4

from alerts.matchers import check, matches_all
from store.errors import BadInput
from store.model import Labels, Matcher, MatchOp

MAX_MATCHERS = 64
MAX_COMMENT = 4096
RETENTION_MS = 120 * 3_600_000
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class SilenceState(StrEnum):
    """Alertmanager's three states."""

    PENDING = "pending"
    ACTIVE = "active"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Silence:
    """Alerts that pass every matcher make no noise from `starts_ms` until `ends_ms`."""

    id: str
    matchers: tuple[Matcher, ...]
    starts_ms: int
    ends_ms: int
    created_by: str
    comment: str
    updated_ms: int

    def state(self, now_ms: int) -> SilenceState:
        if now_ms < self.starts_ms:
            return SilenceState.PENDING
        return SilenceState.ACTIVE if now_ms < self.ends_ms else SilenceState.EXPIRED


def silenced_by(silences: Sequence[Silence], labels: Labels, now_ms: int) -> tuple[str, ...]:
    """The ids of the active silences that cover an alert."""
    return tuple(
        silence.id
        for silence in silences
        if silence.state(now_ms) is SilenceState.ACTIVE and matches_all(silence.matchers, labels)
    )


def checked(silence: Silence, now_ms: int) -> Silence:
    """The silence itself, if it can be kept.

    Raises:
        BadInput: In Alertmanager's words: no matcher, all of them match the empty text, …
    """
    _check_matchers(silence)
    if silence.ends_ms <= silence.starts_ms:
        raise BadInput("invalid silence: end time must not be before start time")
    if silence.ends_ms < now_ms:
        raise BadInput("invalid silence: end time can't be in the past")
    if not silence.created_by or not silence.comment:
        raise BadInput("invalid silence: an author and a comment are needed")
    if len(silence.comment) > MAX_COMMENT or len(silence.created_by) > MAX_COMMENT:
        raise BadInput(f"invalid silence: a text is longer than {MAX_COMMENT} characters")
    return silence


def _check_matchers(silence: Silence) -> None:
    if not silence.matchers:
        raise BadInput("invalid silence: at least one matcher required")
    if len(silence.matchers) > MAX_MATCHERS:
        raise BadInput(f"invalid silence: more than {MAX_MATCHERS} matchers")
    for matcher in silence.matchers:
        if not _LABEL.fullmatch(matcher.name):
            raise BadInput(f"invalid silence: invalid label name {matcher.name!r}")
        try:
            check(matcher)
        except ValueError as exc:
            raise BadInput(f"invalid silence: invalid label matcher: {exc}") from exc
    if all(matches_all((matcher,), Labels()) for matcher in silence.matchers):
        raise BadInput("invalid silence: at least one matcher must not match the empty string")


def updated(old: Silence | None, new: Silence, now_ms: int) -> tuple[Silence | None, Silence]:
    """What to keep when `new` is set over `old`: (the old one changed or None, the one to keep).

    As Alertmanager: one that merely moves its end, or is still pending, keeps its id; any other
    change expires the old silence and makes a new one.
    """
    starts_ms = max(new.starts_ms, now_ms)
    if old is None:
        return None, replace(new, id=str(uuid4()), starts_ms=starts_ms, updated_ms=now_ms)
    if _can_change(old, new, now_ms):
        kept = old.starts_ms if old.state(now_ms) is SilenceState.ACTIVE else starts_ms
        return None, replace(new, starts_ms=kept, updated_ms=now_ms)
    ended = None if old.state(now_ms) is SilenceState.EXPIRED else expired(old, now_ms)
    return ended, replace(new, id=str(uuid4()), starts_ms=starts_ms, updated_ms=now_ms)


def _can_change(old: Silence, new: Silence, now_ms: int) -> bool:
    if old.matchers != new.matchers:
        return False
    match old.state(now_ms):
        case SilenceState.ACTIVE:
            return old.starts_ms == new.starts_ms and new.ends_ms >= now_ms
        case SilenceState.PENDING:
            return new.starts_ms >= now_ms
        case SilenceState.EXPIRED:
            return False


def expired(silence: Silence, now_ms: int) -> Silence:
    """The silence ended now; a pending one never begins."""
    starts_ms = min(silence.starts_ms, now_ms)
    return replace(silence, starts_ms=starts_ms, ends_ms=now_ms, updated_ms=now_ms)


def equality(name: str, value: str) -> Matcher:
    """The matcher `name="value"`."""
    return Matcher(name, MatchOp.EQUAL, value)
