"""Tokens in memory, so that no request waits for the database's lock on the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import anyio
import anyio.to_thread

from api.tokens.repository import PREFIX, Known, Role, digest
from store.errors import WarroomError


@dataclass(frozen=True, slots=True)
class Freshness:
    """How old what is known may be, in seconds.

    Attributes:
        unknown_s: A token that is not known is looked for again after so long.
        known_s: A known one is read again after so long, while requests go on: a revoked token
            ends by then.
        at_most_s: Beyond this a request waits for the reading.
    """

    unknown_s: float = 1.0
    known_s: float = 10.0
    at_most_s: float = 60.0


class TokenBook:
    """Every token's role, read anew in a thread. Belongs to the event loop."""

    def __init__(
        self,
        read: Callable[[], Mapping[str, Known]],
        freshness: Freshness = Freshness(),  # frozen value
    ) -> None:
        self._read = read
        self._freshness = freshness
        self._known: Mapping[str, Known] = {}
        self._read_at_s = -1e9
        self._reading: asyncio.Task[None] | None = None
        self._limiter: anyio.CapacityLimiter | None = None

    def role_of(self, secret: str, now_ms: int) -> Role | None:
        """The role that a secret gives now, as far as is known."""
        found = self._known.get(digest(secret))
        if found is None or (found.expires_ms is not None and found.expires_ms <= now_ms):
            return None
        return found.role

    async def prepare(self, secret: str) -> None:
        """Bring what is known up to date, before `role_of` is asked."""
        if not secret.startswith(PREFIX):
            return
        age_s = time.monotonic() - self._read_at_s
        if digest(secret) in self._known:
            if age_s >= self._freshness.at_most_s:
                await self._wait()
            elif age_s >= self._freshness.known_s:
                self._reading = self._begin()
        elif age_s >= self._freshness.unknown_s:
            await self._wait()

    async def _wait(self) -> None:
        # Shielded: one client that goes away must not stop what others wait for.
        self._reading = self._begin()
        await asyncio.shield(self._reading)

    def _begin(self) -> asyncio.Task[None]:
        """The reading that goes on, or a new one."""
        if self._reading is not None and not self._reading.done():
            return self._reading
        return asyncio.create_task(self._refresh())

    async def _refresh(self) -> None:
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(1)
        try:
            self._known = await anyio.to_thread.run_sync(self._read, limiter=self._limiter)
        except WarroomError:
            return  # who is known stays known, for the next reading
        finally:
            self._read_at_s = time.monotonic()
