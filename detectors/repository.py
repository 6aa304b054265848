"""Findings that outlive a restart: their status, their history, and the detectors' cursors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, and_, delete, or_, select
from sqlalchemy.orm import Session

from detectors.codec import decode, encode
from detectors.decision import WARROOM, Decision, HistoryEntry
from detectors.finding import Finding, FindingStatus, Priority, Suppression
from detectors.rows.repository import (
    MOST_ENTRIES,
    MOST_FINDINGS,
    CursorRow,
    FindingHistoryRow,
    FindingRow,
    make_room,
)
from store.errors import BadInput
from store.sql import SessionFactory

BUDGET_GROWTH = 1.5
MAX_PAGE = 1_000
_MAX_HISTORY = 20_000
# A fix takes a while to reach every process: what still holds after this was not fixed.
_FIX_GRACE_MS = 600_000
_DECIDED = (FindingStatus.SUPPRESSED.value, FindingStatus.FIXED.value)


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a reader came."""

    seq: int
    body: str = "{}"


@dataclass(frozen=True, slots=True)
class FindingFilter:
    """What to list. Unset fields do not narrow; times are when the finding was last seen."""

    kind: str | None = None
    service: str | None = None
    status: str | None = None
    priority: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    active: bool | None = None


@dataclass(frozen=True, slots=True)
class FindingPage:
    """Some findings, latest first, and the token of the next page."""

    findings: tuple[Finding, ...]
    next: str | None


class FindingRepository:
    """The findings in the state database. Its methods are one transaction each.

    Args:
        sessions: Of the state database.
        most: Findings that are kept; beyond, those not seen for longest are forgotten.
    """

    def __init__(self, sessions: SessionFactory, most: int = MOST_FINDINGS) -> None:
        self._sessions = sessions
        self._most = most

    def record(
        self,
        findings: Iterable[Finding],
        now_ms: int,
        *,
        cursors: Sequence[tuple[str, Cursor]] = (),
        superseded: Iterable[str] = (),
        fewer: Mapping[str, int] | None = None,
    ) -> tuple[Finding, ...]:
        """Store what was seen, together with how far the reader came.

        `occurrences` of what comes in are new, and added. What comes back has the status, the
        total, and the start of this episode as `first_seen_ms`. What is superseded, a part of
        another finding now, goes unless somebody decided about it. Of what is `fewer`, so many
        occurrences are taken off; what has ended and has none left goes likewise.
        """
        with self._sessions.begin() as session:
            _expire(session, now_ms)
            _remove(session, tuple(superseded))
            stored = tuple(self._upsert(session, finding, now_ms) for finding in findings)
            if stored:
                session.flush()
                make_room(session, self._most, MOST_ENTRIES)
            _lower(session, fewer or {})
            for name, cursor in cursors:
                row = CursorRow(name=name, seq=cursor.seq, body=cursor.body, updated_ms=now_ms)
                session.merge(row)
        return stored

    def cursor(self, name: str) -> Cursor | None:
        with self._sessions() as session:
            row = session.get(CursorRow, name)
            return Cursor(row.seq, row.body) if row else None

    def list(
        self, filters: FindingFilter | None = None, *, limit: int = 100, after: str | None = None
    ) -> FindingPage:
        """Findings, the latest seen first.

        Raises:
            BadInput: `after` is no token of this list.
        """
        limit = max(1, min(limit, MAX_PAGE))
        query = select(FindingRow).where(*_conditions(filters or FindingFilter()))
        if after is not None:
            query = query.where(_behind(after))
        query = query.order_by(FindingRow.last_seen_ms.desc(), FindingRow.id).limit(limit + 1)
        with self._sessions() as session:
            rows = tuple(session.scalars(query))
        last = rows[limit - 1] if len(rows) > limit else None
        token = f"{last.last_seen_ms}:{last.id}" if last else None
        return FindingPage(tuple(_finding(row) for row in rows[:limit]), token)

    def get(self, finding_id: str) -> Finding | None:
        with self._sessions() as session:
            row = session.get(FindingRow, finding_id)
            return _finding(row) if row else None

    def active(self) -> tuple[Finding, ...]:
        """Findings whose fault was there at the last tick, with the start of this episode."""
        query = (
            select(FindingRow).where(FindingRow.active).order_by(FindingRow.active_since_ms.desc())
        )
        with self._sessions() as session:
            return tuple(_episode(row) for row in session.scalars(query))

    def episodes(self, start_ms: int, end_ms: int, *, limit: int = 500) -> tuple[Finding, ...]:
        """Findings seen between two times, with the start of their last episode."""
        query = (
            select(FindingRow)
            .where(FindingRow.last_seen_ms >= start_ms, FindingRow.active_since_ms <= end_ms)
            .order_by(FindingRow.active_since_ms.desc())
            .limit(limit)
        )
        with self._sessions() as session:
            return tuple(_episode(row) for row in session.scalars(query))

    def history(
        self, finding_id: str | None = None, *, since_ms: int = 0
    ) -> tuple[HistoryEntry, ...]:
        """What happened to one finding (its latest changes), or to all, oldest first."""
        query = select(FindingHistoryRow).where(FindingHistoryRow.at_ms >= since_ms)
        if finding_id is not None:
            query = query.where(FindingHistoryRow.finding_id == finding_id)
        latest = query.order_by(FindingHistoryRow.id.desc()).limit(_MAX_HISTORY)
        with self._sessions() as session:
            return tuple(
                HistoryEntry(row.finding_id, row.at_ms, row.event, row.detail, row.actor or WARROOM)
                for row in reversed(session.scalars(latest).all())
            )

    def suppress(
        self, finding_id: str, until_ms: int, decision: Decision, *, budget: int | None = None
    ) -> Finding | None:
        """Accept a fault until a time, up to a number of repeats (1.5 times today's by default).

        Raises:
            BadInput: There is no reason, or the time has passed.
        """
        if not decision.reason.strip():
            raise BadInput("a suppression needs a reason", hint="say why this is accepted")
        if until_ms <= decision.at_ms:
            raise BadInput("a suppression must end in the future", hint="set a later `until`")
        with self._sessions.begin() as session:
            row = _locked(session, finding_id)
            if row is None:
                return None
            row.suppress_reason = decision.reason[:1024]
            row.suppress_until_ms = until_ms
            default = math.ceil(row.repetitions * BUDGET_GROWTH) or None
            row.suppress_budget = budget if budget is not None else default
            row.fixed_ms = None
            _change(session, row, FindingStatus.SUPPRESSED, "suppressed", decision)
            return _finding(row)

    def reopen(self, finding_id: str, decision: Decision) -> Finding | None:
        """Open again what was suppressed or fixed."""
        return self._set(finding_id, FindingStatus.OPEN, "reopened", decision)

    def mark_fixed(self, finding_id: str, decision: Decision) -> Finding | None:
        """Say that a fault is gone; one that is seen later has regressed."""
        return self._set(finding_id, FindingStatus.FIXED, "fixed", decision)

    def prove_fixed(self, finding_id: str, decision: Decision) -> bool:
        """Mark what ended as fixed, unless somebody decided otherwise or it came back."""
        with self._sessions.begin() as session:
            row = _locked(session, finding_id)
            if row is None or row.active or row.status in _DECIDED:
                return False
            row.fixed_ms = decision.at_ms
            _change(session, row, FindingStatus.FIXED, "fixed", decision)
            return True

    def _set(self, key: str, to: FindingStatus, event: str, decision: Decision) -> Finding | None:
        with self._sessions.begin() as session:
            row = _locked(session, key)
            if row is None:
                return None
            _unsuppress(row)
            row.fixed_ms = None
            if to is FindingStatus.FIXED:
                row.active = False
                row.fixed_ms = decision.at_ms
            _change(session, row, to, event, decision)
            return _finding(row)

    def _upsert(self, session: Session, finding: Finding, now_ms: int) -> Finding:
        row = _locked(session, finding.fingerprint)
        if row is None:
            row = _new_row(finding, now_ms)
            session.add(row)
            _note(session, row.id, "opened", Decision(now_ms, reason=finding.title))
        else:
            _renew(session, row, finding, now_ms)
        row.body = encode(finding)
        row.updated_ms = now_ms
        return _episode(row)


def _locked(session: Session, key: str) -> FindingRow | None:
    """A row that nobody else changes or forgets until this transaction ends."""
    return session.get(FindingRow, key, with_for_update=True)


def _remove(session: Session, keys: Sequence[str]) -> None:
    for row in session.scalars(select(FindingRow).where(FindingRow.id.in_(keys))) if keys else ():
        row.active = False  # an earlier episode, and what somebody decided about, stay
        if row.status not in _DECIDED and row.active_since_ms <= row.first_seen_ms:
            _delete(session, row)


def _delete(session: Session, row: FindingRow) -> None:
    session.execute(delete(FindingHistoryRow).where(FindingHistoryRow.finding_id == row.id))
    session.execute(delete(FindingRow).where(FindingRow.id == row.id))


def _lower(session: Session, fewer: Mapping[str, int]) -> None:
    rows = select(FindingRow).where(FindingRow.id.in_(tuple(fewer)))
    for row in session.scalars(rows) if fewer else ():
        row.occurrences = max(0, row.occurrences - fewer[row.id])
        if not (row.occurrences or row.active or row.status in _DECIDED):
            _delete(session, row)


def _new_row(finding: Finding, now_ms: int) -> FindingRow:
    return FindingRow(
        id=finding.fingerprint,
        kind=finding.kind,
        priority=finding.priority.value,
        status=FindingStatus.OPEN.value,
        service=finding.service[:256],
        route=finding.route[:512],
        occurrences=max(0, finding.occurrences),
        repetitions=finding.evidence.repetitions,
        first_seen_ms=finding.first_seen_ms,
        last_seen_ms=finding.last_seen_ms,
        active=finding.active,
        active_since_ms=finding.first_seen_ms,
        suppress_reason="",
        updated_ms=now_ms,
        body="",
    )


def _renew(session: Session, row: FindingRow, finding: Finding, now_ms: int) -> None:
    if finding.active and _is_past(row, finding):
        # A request from before the fix that was judged after it.
        finding = replace(finding, active=False)
    if finding.active and not row.active:
        row.active_since_ms = finding.first_seen_ms
        _note(session, row.id, "returned", Decision(now_ms, reason=finding.title))
    elif row.active and not finding.active:
        _note(session, row.id, "ended", Decision(now_ms, reason=str(row.active_since_ms)))
    elif row.active:  # its earlier spans may come later
        row.active_since_ms = min(row.active_since_ms, finding.first_seen_ms)
    _next_status(session, row, finding, now_ms)
    row.active = finding.active
    row.occurrences = max(0, row.occurrences + finding.occurrences)
    row.priority = finding.priority.value
    row.repetitions = max(row.repetitions, finding.evidence.repetitions)
    row.first_seen_ms = min(row.first_seen_ms, finding.first_seen_ms)
    row.last_seen_ms = max(row.last_seen_ms, finding.last_seen_ms)


def _is_past(row: FindingRow, finding: Finding) -> bool:
    """All that was seen is from before the fix, or just lasts a little longer than it."""
    if row.status != FindingStatus.FIXED.value or row.fixed_ms is None:
        return False
    grace_ms = 0 if finding.occurrences else _FIX_GRACE_MS
    return finding.last_seen_ms <= row.fixed_ms + grace_ms


def _next_status(session: Session, row: FindingRow, finding: Finding, now_ms: int) -> None:
    status = FindingStatus(row.status)
    if status is FindingStatus.FIXED and finding.active:
        row.fixed_ms = None
        why = Decision(now_ms, reason="seen after the fix")
        _change(session, row, FindingStatus.REGRESSED, "regressed", why)
        return
    if status is not FindingStatus.SUPPRESSED:
        return
    repeats = finding.evidence.repetitions
    if row.suppress_budget is not None and repeats > row.suppress_budget:
        why = Decision(now_ms, reason=f"{repeats} repeats, {row.suppress_budget} were accepted")
        _unsuppress(row)
        _change(session, row, FindingStatus.REGRESSED, "regressed", why)


def _expire(session: Session, now_ms: int) -> None:
    query = select(FindingRow).where(
        FindingRow.status == FindingStatus.SUPPRESSED.value,
        FindingRow.suppress_until_ms <= now_ms,
    )
    for row in session.scalars(query):
        why = Decision(now_ms, reason=row.suppress_reason)
        _unsuppress(row)
        _change(session, row, FindingStatus.OPEN, "expired", why)


def _unsuppress(row: FindingRow) -> None:
    row.suppress_reason, row.suppress_until_ms, row.suppress_budget = "", None, None


def _change(
    session: Session, row: FindingRow, status: FindingStatus, event: str, decision: Decision
) -> None:
    row.status = status.value
    row.updated_ms = decision.at_ms
    _note(session, row.id, event, decision)


def _note(session: Session, finding_id: str, event: str, decision: Decision) -> None:
    row = FindingHistoryRow(finding_id=finding_id, at_ms=decision.at_ms, event=event)
    row.detail, row.actor = decision.reason[:1024], decision.by[:256]
    session.add(row)


def _finding(row: FindingRow) -> Finding:
    """The stored finding; what changes apart from its evidence comes from the columns."""
    return replace(
        decode(row.body),
        occurrences=row.occurrences,
        first_seen_ms=row.first_seen_ms,
        last_seen_ms=row.last_seen_ms,
        priority=Priority(row.priority),
        status=FindingStatus(row.status),
        active=row.active,
        suppression=None
        if row.suppress_until_ms is None
        else Suppression(row.suppress_reason, row.suppress_until_ms, row.suppress_budget),
        fixed_ms=row.fixed_ms or 0,
    )


def _episode(row: FindingRow) -> Finding:
    return replace(_finding(row), first_seen_ms=row.active_since_ms)


def _conditions(filters: FindingFilter) -> Iterator[ColumnElement[bool]]:
    for name in ("kind", "service", "status", "priority", "active"):
        wanted = getattr(filters, name)
        if wanted is not None:
            yield getattr(FindingRow, name) == wanted
    if filters.from_ms is not None:
        yield FindingRow.last_seen_ms >= filters.from_ms
    if filters.to_ms is not None:
        yield FindingRow.first_seen_ms <= filters.to_ms


def _behind(token: str) -> ColumnElement[bool]:
    at, _, finding_id = token.partition(":")
    if not at.isdigit() or not finding_id:
        raise BadInput(f"{token!r} is no token of this list", hint="use `next` of the last answer")
    return or_(
        FindingRow.last_seen_ms < int(at),
        and_(FindingRow.last_seen_ms == int(at), FindingRow.id > finding_id),
    )
