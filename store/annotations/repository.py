"""Annotations: deploys, flags, promotions and notes, kept in the state database."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sqlalchemy import BigInteger, String, or_, select
from sqlalchemy.orm import Mapped, mapped_column

from store.errors import BadInput
from store.sql import Base, SessionFactory

KINDS = ("deploy", "flag", "promotion", "note", "incident", "maintenance")
_MAX_TITLE = 512


@dataclass(frozen=True, slots=True)
class Annotation:
    """One change or remark at one instant."""

    at_ms: int
    kind: str
    title: str
    service: str = ""
    version: str = ""
    url: str = ""

    @property
    def id(self) -> str:
        """The same for the same annotation: posting it twice keeps one."""
        text = "\0".join((str(self.at_ms), self.kind, self.title, self.service, self.version))
        return hashlib.sha256(text.encode()).hexdigest()[:32]


class AnnotationRow(Base):
    """A row of `annotations`."""

    __tablename__ = "annotations"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    at_ms: Mapped[int] = mapped_column(BigInteger, index=True)
    kind: Mapped[str] = mapped_column(String(32))
    title: Mapped[str] = mapped_column(String(_MAX_TITLE))
    service: Mapped[str] = mapped_column(String(256), server_default="")
    version: Mapped[str] = mapped_column(String(256), server_default="")
    url: Mapped[str] = mapped_column(String(2048), server_default="")


class AnnotationRepository:
    """Adds and lists annotations."""

    def __init__(self, sessions: SessionFactory) -> None:
        self._sessions = sessions

    def add(self, annotation: Annotation) -> str:
        """Keep it and answer its id.

        Raises:
            BadInput: The kind is unknown, the title is empty or too long, or a text holds a NUL.
        """
        if annotation.kind not in KINDS:
            raise BadInput(
                f"unknown kind of annotation {annotation.kind!r}", hint=f"one of {', '.join(KINDS)}"
            )
        if not 0 < len(annotation.title) <= _MAX_TITLE:
            raise BadInput(f"a title needs 1 to {_MAX_TITLE} characters")
        texts = (annotation.title, annotation.service, annotation.version, annotation.url)
        if any("\0" in text for text in texts):
            # PostgreSQL's text has no place for one, and `id` parts these with it.
            raise BadInput("an annotation must not hold a NUL character")
        row = AnnotationRow(
            id=annotation.id,
            at_ms=annotation.at_ms,
            kind=annotation.kind,
            title=annotation.title,
            service=annotation.service,
            version=annotation.version,
            url=annotation.url,
        )
        with self._sessions.begin() as session:
            session.merge(row)
        return annotation.id

    def deploy(self, name: str) -> Annotation | None:
        """The latest deploy with this id or version."""
        query = (
            select(AnnotationRow)
            .where(
                AnnotationRow.kind == "deploy",
                or_(AnnotationRow.id == name, AnnotationRow.version == name),
            )
            .order_by(AnnotationRow.at_ms.desc())
            .limit(1)
        )
        with self._sessions() as session:
            row = session.scalars(query).first()
            return _annotation(row) if row else None

    def between(self, start_ms: int, end_ms: int, *, limit: int = 500) -> list[Annotation]:
        """Those with `start_ms <= at <= end_ms`, newest first."""
        query = (
            select(AnnotationRow)
            .where(AnnotationRow.at_ms >= start_ms, AnnotationRow.at_ms <= end_ms)
            .order_by(AnnotationRow.at_ms.desc())
            .limit(limit)
        )
        with self._sessions() as session:
            return [_annotation(row) for row in session.scalars(query)]


def _annotation(row: AnnotationRow) -> Annotation:
    return Annotation(row.at_ms, row.kind, row.title, row.service, row.version, row.url)
