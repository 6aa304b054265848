"""Tokens are looked up in memory: no lock of the state database holds the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping

from api.tokens.book import Freshness, TokenBook
from api.tokens.repository import Known, Role, TokenRepository
from store.errors import StoreUnavailable
from store.testing import open_state

NOW_MS = 1_700_000_000_000
ALWAYS = Freshness(unknown_s=0, known_s=0, at_most_s=0)


def test_a_new_token_works_a_revoked_and_an_expired_one_do_not() -> None:
    repository = TokenRepository(open_state())
    book = TokenBook(repository.known, ALWAYS)

    async def role(secret: str, now_ms: int = NOW_MS) -> Role | None:
        await book.prepare(secret)
        return book.role_of(secret, now_ms)

    async def story() -> None:
        token, secret = repository.create("grafana", Role.VIEWER, NOW_MS, NOW_MS + 1_000)
        assert await role(secret) is Role.VIEWER
        assert await role(secret, NOW_MS + 1_000) is None
        repository.revoke(token.id)
        assert await role(secret) is None

    asyncio.run(story())


def test_a_reading_that_hangs_holds_neither_the_loop_nor_who_is_known() -> None:
    repository = TokenRepository(open_state())
    _, secret = repository.create("collector", Role.INGEST, NOW_MS)
    hang, hanging = threading.Event(), threading.Event()

    def read() -> Mapping[str, Known]:
        if hanging.is_set():
            hang.wait(30)
        return repository.known()

    book = TokenBook(read, Freshness(unknown_s=0, known_s=0, at_most_s=3_600))

    async def story() -> None:
        await book.prepare(secret)
        hanging.set()
        await asyncio.wait_for(book.prepare(secret), 30)
        assert book.role_of(secret, NOW_MS) is Role.INGEST
        stranger = asyncio.create_task(book.prepare("wr_stranger"))
        await asyncio.sleep(0)
        assert not stranger.done()
        hang.set()
        await asyncio.wait_for(stranger, 30)
        assert book.role_of("wr_stranger", NOW_MS) is None

    asyncio.run(story())


def test_what_is_no_token_of_ours_is_not_looked_up() -> None:
    def read() -> Mapping[str, Known]:
        raise AssertionError("not to be read")

    asyncio.run(TokenBook(read, ALWAYS).prepare("eyJhbGciOiJIUzI1NiJ9"))


def test_who_was_known_stays_so_while_the_database_is_away() -> None:
    repository = TokenRepository(open_state())
    _, secret = repository.create("collector", Role.INGEST, NOW_MS)
    away = threading.Event()

    def read() -> Mapping[str, Known]:
        if away.is_set():
            raise StoreUnavailable("away")
        return repository.known()

    book = TokenBook(read, ALWAYS)

    async def story() -> None:
        await book.prepare(secret)
        away.set()
        await book.prepare(secret)
        assert book.role_of(secret, NOW_MS) is Role.INGEST

    asyncio.run(story())


def test_many_strangers_cause_few_readings() -> None:
    readings = []

    def read() -> Mapping[str, Known]:
        readings.append(1)
        return {}

    book = TokenBook(read, Freshness(unknown_s=3_600))

    async def story() -> None:
        await asyncio.gather(*(book.prepare(f"wr_{number}") for number in range(50)))

    asyncio.run(story())
    assert len(readings) == 1
