"""Tokens are kept as hashes; the token itself is shown once, when it is made."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import BigInteger, String, delete, select
from sqlalchemy.orm import Mapped, mapped_column

from store.sql import Base, SessionFactory

_PREFIX = "wr_"


class Role(StrEnum):
    """What a token may do: send telemetry; read; read and change."""

    INGEST = "ingest"
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
        secret = _PREFIX + secrets.token_urlsafe(32)
        token = Token(secrets.token_hex(6), name, role, now_ms, expires_ms)
        with self._sessions.begin() as session:
            session.add(
                TokenRow(
                    id=token.id,
                    name=name,
                    role=role.value,
                    sha256=_digest(secret),
                    created_ms=now_ms,
                    expires_ms=expires_ms,
                )
            )
        return token, secret

    def role_of(self, secret: str, now_ms: int) -> Role | None:
        """The role that a secret gives now, or None."""
        # Looking up by hash needs no constant-time comparison: an attacker cannot steer the hash.
        with self._sessions() as session:
            row = session.scalar(select(TokenRow).where(TokenRow.sha256 == _digest(secret)))
        if row is None or (row.expires_ms is not None and row.expires_ms <= now_ms):
            return None
        return Role(row.role)

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


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
