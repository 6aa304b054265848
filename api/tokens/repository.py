"""Tokens are kept as hashes; the token itself is shown once, when it is made."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import BigInteger, String, delete, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapped, mapped_column

from store.errors import StoreUnavailable
from store.sql import Base, SessionFactory

PREFIX = "wr_"
MAX_TOKENS = 10_000


class Role(StrEnum):
    """What a token may do: send telemetry; show boards; read a calendar; read; and change."""

    INGEST = "ingest"
    DISPLAY = "display"
    CALENDAR = "calendar"
    VIEWER = "viewer"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it may be shown: never its secret."""

    id: str
    name: str
    role: Role
    created_ms: int
    expires_ms: int | None


@dataclass(frozen=True, slots=True)
class Known:
    """What a secret's digest gives, and until when."""

    role: Role
    expires_ms: int | None


class TokenRow(Base):
    """A row of `api_tokens`."""

    __tablename__ = "api_tokens"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(String(128))
    role: Mapped[str] = mapped_column(String(16))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_ms: Mapped[int] = mapped_column(BigInteger)
    expires_ms: Mapped[int | None] = mapped_column(BigInteger)


class TokenRepository:
    """Makes, checks and revokes tokens."""

    def __init__(self, sessions: SessionFactory) -> None:
        self._sessions = sessions

    def create(
        self, name: str, role: Role, now_ms: int, expires_ms: int | None = None
    ) -> tuple[Token, str]:
        """A new token and its secret, which is not kept."""
        secret = PREFIX + secrets.token_urlsafe(32)
        token = Token(secrets.token_hex(6), name, role, now_ms, expires_ms)
        with self._sessions.begin() as session:
            session.add(
                TokenRow(
                    id=token.id,
                    name=name,
                    role=role.value,
                    sha256=digest(secret),
                    created_ms=now_ms,
                    expires_ms=expires_ms,
                )
            )
        return token, secret

    def known(self) -> dict[str, Known]:
        """Every token by the digest of its secret.

        Raises:
            StoreUnavailable: The state database does not answer.
        """
        # Looking up by hash needs no constant-time comparison: an attacker cannot steer the hash.
        try:
            with self._sessions() as session:
                rows = session.scalars(select(TokenRow).limit(MAX_TOKENS)).all()
        except SQLAlchemyError as exc:
            raise StoreUnavailable(f"tokens cannot be read: {exc.__class__.__name__}") from exc
        return {row.sha256: Known(Role(row.role), row.expires_ms) for row in rows}

    def all(self) -> list[Token]:
        with self._sessions() as session:
            rows = session.scalars(select(TokenRow).order_by(TokenRow.created_ms)).all()
        return [Token(r.id, r.name, Role(r.role), r.created_ms, r.expires_ms) for r in rows]

    def revoke(self, token_id: str) -> bool:
        """True when there was such a token."""
        with self._sessions.begin() as session:
            found = session.get(TokenRow, token_id) is not None
            session.execute(delete(TokenRow).where(TokenRow.id == token_id))
        return found


def digest(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()
