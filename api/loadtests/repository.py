"""Load tests in the state database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import orjson
from sqlalchemy import BigInteger, Float, String, Text, and_, delete, func, or_, select
from sqlalchemy.orm import Mapped, mapped_column

from api.loadtests.record import Durations, Figures, LoadTest, Stage, Threshold
from store.errors import BadInput
from store.sql import Base, SessionFactory

MAX_KEPT = 5_000


class LoadTestRow(Base):
    """A row of `load_tests`; `stages` and `figures` are JSON."""

    __tablename__ = "load_tests"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(256))
    source: Mapped[str] = mapped_column(String(32))
    started_ms: Mapped[int] = mapped_column(BigInteger, index=True)
    ended_ms: Mapped[int] = mapped_column(BigInteger, index=True)
    target_multiple: Mapped[float | None] = mapped_column(Float)
    url: Mapped[str] = mapped_column(String(2048), server_default="")
    stages: Mapped[str] = mapped_column(Text)
    figures: Mapped[str] = mapped_column(Text)


class LoadTestRepository:
    """Keeps the latest `MAX_KEPT` load tests."""

    def __init__(self, sessions: SessionFactory) -> None:
        self._sessions = sessions

    def put(self, test: LoadTest) -> None:
        """Keep it, in the place of one with its id; the oldest goes where there are too many."""
        with self._sessions.begin() as session:
            session.merge(_row(test))
            session.flush()
            if (session.scalar(select(func.count()).select_from(LoadTestRow)) or 0) > MAX_KEPT:
                kept = select(LoadTestRow.id).order_by(*_LATEST).limit(MAX_KEPT)
                session.execute(delete(LoadTestRow).where(LoadTestRow.id.not_in(kept)))

    def get(self, test_id: str) -> LoadTest | None:
        with self._sessions() as session:
            row = session.get(LoadTestRow, test_id)
            return None if row is None else _test(row)

    def list(self, *, limit: int, after: str = "") -> tuple[list[LoadTest], str | None]:
        """The latest first, and the token of the next page.

        Raises:
            BadInput: `after` is no such token.
        """
        query = select(LoadTestRow).order_by(*_LATEST).limit(limit + 1)
        if after:
            ended_ms, test_id = _token(after)
            query = query.where(
                or_(
                    LoadTestRow.ended_ms < ended_ms,
                    and_(LoadTestRow.ended_ms == ended_ms, LoadTestRow.id < test_id),
                )
            )
        with self._sessions() as session:
            tests = [_test(row) for row in session.scalars(query)]
        if len(tests) <= limit:
            return tests, None
        last = tests[limit - 1]
        return tests[:limit], f"{last.ended_ms}-{last.id}"

    def started_between(
        self, start_ms: int, end_ms: int, *, limit: int = 500
    ) -> Sequence[LoadTest]:
        """Those that began in this time, the latest first."""
        query = (
            select(LoadTestRow)
            .where(LoadTestRow.started_ms >= start_ms, LoadTestRow.started_ms <= end_ms)
            .order_by(LoadTestRow.started_ms.desc())
            .limit(limit)
        )
        with self._sessions() as session:
            return [_test(row) for row in session.scalars(query)]


_LATEST = (LoadTestRow.ended_ms.desc(), LoadTestRow.id.desc())


def _token(after: str) -> tuple[int, str]:
    ended_ms, _, test_id = after.partition("-")
    if not ended_ms.isdecimal() or len(ended_ms) > 15 or not test_id:
        raise BadInput(f"{after!r} is no page", hint="pass `next` of the page before as `after`")
    return int(ended_ms), test_id


def _row(test: LoadTest) -> LoadTestRow:
    return LoadTestRow(
        id=test.id,
        name=test.name,
        source=test.source,
        started_ms=test.started_ms,
        ended_ms=test.ended_ms,
        target_multiple=test.target_multiple,
        url=test.url,
        stages=orjson.dumps([asdict(stage) for stage in test.stages]).decode(),
        figures=orjson.dumps(asdict(test.figures)).decode(),
    )


def _test(row: LoadTestRow) -> LoadTest:
    told: dict[str, Any] = orjson.loads(row.figures)
    told["durations"] = Durations(**told["durations"])
    told["thresholds"] = tuple(Threshold(**one) for one in told["thresholds"])
    return LoadTest(
        id=row.id,
        name=row.name,
        source=row.source,
        started_ms=row.started_ms,
        ended_ms=row.ended_ms,
        target_multiple=row.target_multiple,
        url=row.url,
        stages=tuple(Stage(**stage) for stage in orjson.loads(row.stages)),
        figures=Figures(**told),
    )
