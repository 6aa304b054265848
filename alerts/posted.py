"""Alerts that other programs post: when they begin and end. As Alertmanager does it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from alerts.model import Alert
from alerts.state import AlertRecord, fingerprint
from store.errors import BadInput


@dataclass(frozen=True, slots=True)
class Post:
    """A posted alert and when it ends, unless it is posted again."""

    alert: Alert
    ends_ms: int


def span(
    starts_ms: int | None,
    ends_ms: int | None,
    before: tuple[int, int] | None,
    now_ms: int,
    *,
    timeout_ms: int,
) -> tuple[int, int]:
    """Start and end of a posted alert.

    Args:
        starts_ms: As posted, if it was.
        ends_ms: Likewise; without one the alert ends after the time-out.
        before: Start and end of what was posted of it before: where they meet, the earlier start
            stands.
        now_ms: The instant of the post.
        timeout_ms: `resolve_timeout`.

    Raises:
        BadInput: It would end before it begins.
    """
    begin_ms = now_ms if ends_ms is None else min(now_ms, ends_ms)
    begin_ms = begin_ms if starts_ms is None else starts_ms
    if before is not None and before[1] >= begin_ms:
        begin_ms = min(begin_ms, before[0])
    until_ms = now_ms + timeout_ms if ends_ms is None else ends_ms
    if until_ms < begin_ms:
        raise BadInput("start time must be before end time")
    return begin_ms, until_ms


def active(posts: Iterable[Post], now_ms: int) -> dict[str, Alert]:
    """Those that have not ended, by fingerprint."""
    return {fingerprint(p.alert.labels): p.alert for p in posts if p.ends_ms > now_ms}


def with_last_words(
    records: Mapping[str, AlertRecord], posts: Iterable[Post], now_ms: int
) -> dict[str, AlertRecord]:
    """The records; one that ended at this tick has the annotations that its end was posted with."""
    told = dict(records)
    for post in posts:
        identity = fingerprint(post.alert.labels)
        record = told.get(identity)
        if post.ends_ms <= now_ms and record is not None and record.resolved_ms == now_ms:
            told[identity] = replace(record, annotations=post.alert.annotations)
    return told
