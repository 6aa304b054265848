"""Rows of boards that people saved. A change names the text it was made from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sqlalchemy import BigInteger, String, Text, delete, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Mapped, mapped_column

from store.errors import StoreUnavailable
from store.sql import Base, SessionFactory

MAX_BOARDS = 500


@dataclass(frozen=True, slots=True)
class SavedBoard:
    """A board's text as it was saved."""

    name: str
    text: str
    saved_ms: int


class BoardRow(Base):
    """A row of `boards`."""

    __tablename__ = "boards"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    text: Mapped[str] = mapped_column(Text)
    tag: Mapped[str] = mapped_column(String(32))
    saved_ms: Mapped[int] = mapped_column(BigInteger)


def tag_of(text: str) -> str:
    """What names a version of a text: equal texts have equal tags."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class BoardRepository:
    """Reads and conditionally changes saved boards. Each call is one transaction."""

    def __init__(self, sessions: SessionFactory) -> None:
        self._sessions = sessions

    def all(self) -> tuple[SavedBoard, ...]:
        """Every saved board, by name.

        Raises:
            StoreUnavailable: The state database does not answer.
        """
        try:
            with self._sessions() as session:
                rows = session.scalars(select(BoardRow).order_by(BoardRow.name)).all()
        except SQLAlchemyError as exc:
            raise StoreUnavailable(f"boards cannot be read: {exc.__class__.__name__}") from exc
        return tuple(SavedBoard(row.name, row.text, row.saved_ms) for row in rows)

    def add(self, board: SavedBoard) -> bool:
        """Keep a board of a new name; False when somebody was quicker."""
        row = BoardRow(
            name=board.name, text=board.text, tag=tag_of(board.text), saved_ms=board.saved_ms
        )
        try:
            with self._sessions.begin() as session:
                session.add(row)
        except IntegrityError:
            return False
        return True

    def replace(self, board: SavedBoard, tag: str) -> bool:
        """Change a board whose text still has this tag; False when it has not."""
        with self._sessions.begin() as session:
            changed = session.execute(
                update(BoardRow)
                .where(BoardRow.name == board.name, BoardRow.tag == tag)
                .values(text=board.text, tag=tag_of(board.text), saved_ms=board.saved_ms)
                .returning(BoardRow.name)
            ).all()
        return bool(changed)

    def remove(self, name: str, tag: str) -> bool:
        """Forget a board whose text still has this tag; False when it has not."""
        with self._sessions.begin() as session:
            gone = session.execute(
                delete(BoardRow)
                .where(BoardRow.name == name, BoardRow.tag == tag)
                .returning(BoardRow.name)
            ).all()
        return bool(gone)
