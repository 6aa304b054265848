"""How many users a fault has hit, and how bad one request with it has been.

Users are counted by the smallest hashes of their ids (bottom-k sketch): exact below `KEPT` users,
above it the spread of the hashes tells how many there are, with an error of about 9 %.

Reference: Z. Bar-Yossef et al., "Counting distinct elements in a data stream" (2002).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from detectors.finding import Finding, Impact

KEPT = 128
_BYTES = 8
_LARGEST = 1 << 8 * _BYTES
# The user where the spans name one, else the session.
_USER_ATTRIBUTES = (
    "enduser.id", "enduser.pseudo.id", "user.id", "user.hash", "usr.id", "app.user.id",
    "customer.id", "session.id", "session_id",
)  # fmt: skip


def user_of(attributes: Mapping[str, Any]) -> str:
    """A hash of the user or session that a request's span names; empty where it names none."""
    for name in _USER_ATTRIBUTES:
        value = attributes.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return blake2b(f"{name}={value}".encode(), digest_size=_BYTES).hexdigest()
    return ""


def merged_users(parts: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """The hashes to keep of all these."""
    return tuple(sorted(set().union(*parts))[:KEPT])


def users_hit(users: tuple[str, ...]) -> int:
    """How many users the kept hashes stand for.

    >>> users_hit(("0000000000000001", "8000000000000000"))
    2
    """
    if len(users) < KEPT:
        return len(users)
    return round((KEPT - 1) * _LARGEST / max(int(users[KEPT - 1], 16), 1))


def since_it_began(before: Finding | None, now: Finding) -> Finding:
    """What was seen now, with the users and the worst request of the whole episode."""
    impact, evidence = now.impact, now.evidence
    if before is not None:
        users = merged_users((before.evidence.users, evidence.users))
        evidence = replace(evidence, users=users)
        impact = _worse(impact, before.impact)
    return replace(
        now, evidence=evidence, impact=replace(impact, users_hit=users_hit(evidence.users))
    )


def worst_request(parts: Iterable[Finding]) -> tuple[float, int]:
    """Waste and repeats of the worst request of all these."""
    return max((part.impact.worst_wasted_seconds, part.impact.worst_repetitions) for part in parts)


def _worse(one: Impact, other: Impact) -> Impact:
    wasted, repeats = max(
        (impact.worst_wasted_seconds, impact.worst_repetitions) for impact in (one, other)
    )
    return replace(one, worst_wasted_seconds=wasted, worst_repetitions=repeats)
