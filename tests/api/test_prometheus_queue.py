"""Waiting counts towards a query's timeout; who goes away stops the work."""

import threading

import anyio
import httpx
import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.types import Message

from api.routers.prometheus import Source, router
from api.routers.prometheus_queue import QueryQueue, Turn
from store.errors import QueryError
from store.model import Labels
from store.promql.engine import Engine
from store.promql.testing import MemoryReader
from tests.api.memory_shop import MemoryShop

pytestmark = pytest.mark.anyio
DEADLINE_S = 60


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Client:
    """A request whose client goes when it is told to."""

    def __init__(self) -> None:
        self.leave = anyio.Event()
        self.request = Request({"type": "http", "method": "GET", "path": "/"}, self._receive)

    async def _receive(self) -> Message:
        await self.leave.wait()
        return {"type": "http.disconnect"}


async def test_a_query_waits_for_its_turn_only_as_long_as_its_timeout() -> None:
    queue, ready, done = QueryQueue(1), threading.Event(), threading.Event()

    def busy(_turn: Turn) -> bytes:
        ready.set()
        done.wait(DEADLINE_S)
        return b"first"

    answers: list[bytes] = []

    async def first() -> None:
        answers.append(await queue.run(Client().request, busy, DEADLINE_S))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first)
        await anyio.to_thread.run_sync(ready.wait, DEADLINE_S)
        with pytest.raises(QueryError, match="query timed out in query queue") as failure:
            await queue.run(Client().request, lambda _turn: b"second", 0.05)
        assert failure.value.kind == "timeout"
        done.set()
    assert answers == [b"first"]
    # The turn is free again.
    assert await queue.run(Client().request, lambda _turn: b"third", DEADLINE_S) == b"third"


async def test_the_time_that_a_query_waited_is_taken_from_its_timeout() -> None:
    queue, ready, done = QueryQueue(1), threading.Event(), threading.Event()
    turns: list[Turn] = []

    def busy(_turn: Turn) -> bytes:
        ready.set()
        done.wait(DEADLINE_S)
        return b""

    def second(turn: Turn) -> bytes:
        turns.append(turn)
        return b""

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.run, Client().request, busy, DEADLINE_S)
        await anyio.to_thread.run_sync(ready.wait, DEADLINE_S)
        tasks.start_soon(queue.run, Client().request, second, DEADLINE_S)
        await anyio.sleep(0.05)
        done.set()
    assert turns[0].waited_s > 0
    assert turns[0].left_s == pytest.approx(DEADLINE_S - turns[0].waited_s)


async def test_work_is_told_when_nobody_waits_for_it() -> None:
    queue, client = QueryQueue(1), Client()
    told, ready = threading.Event(), threading.Event()

    def work(turn: Turn) -> bytes:
        ready.set()
        for _ in range(DEADLINE_S * 100):
            if turn.stopped():
                told.set()
                raise QueryError("query was canceled in expression evaluation", kind="canceled")
            threading.Event().wait(0.01)
        return b""

    async def go() -> None:
        await anyio.to_thread.run_sync(ready.wait, DEADLINE_S)
        client.leave.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(go)
        with pytest.raises(QueryError) as failure:
            await queue.run(client.request, work, DEADLINE_S)
    assert failure.value.kind == "canceled"
    assert told.is_set()
    assert await queue.run(Client().request, lambda _turn: b"next", DEADLINE_S) == b"next"


async def test_who_goes_while_waiting_gives_up_the_place() -> None:
    queue, ready, done = QueryQueue(1), threading.Event(), threading.Event()

    def busy(_turn: Turn) -> bytes:
        ready.set()
        done.wait(DEADLINE_S)
        return b""

    waiting = Client()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.run, Client().request, busy, DEADLINE_S)
        await anyio.to_thread.run_sync(ready.wait, DEADLINE_S)
        waiting.leave.set()
        with pytest.raises(QueryError, match="canceled in query queue"):
            await queue.run(waiting.request, lambda _turn: b"", DEADLINE_S)
        done.set()


def test_a_stopped_query_ends_at_its_next_step() -> None:
    engine = Engine(MemoryReader([]))
    with pytest.raises(QueryError, match="canceled in expression evaluation") as failure:
        engine.query("up + up", 0, stopped=lambda: True)
    assert failure.value.kind == "canceled"


async def test_a_failure_of_the_work_is_answered_as_such(shop: FastAPI) -> None:
    transport = httpx.ASGITransport(shop)
    async with httpx.AsyncClient(transport=transport, base_url="http://w/api/v1/") as client:
        response = await client.post("query", data={"query": "topk(NaN, up)", "time": "1"})
        assert (response.status_code, response.json()["errorType"]) == (422, "execution")
        answers: list[int] = []

        async def one() -> None:
            given = {"query": "sum(up)", "time": "1", "stats": "all"}
            found = (await client.get("query", params=given)).json()
            answers.append(found["data"]["stats"]["timings"]["execQueueTime"])

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(one)
        assert len(answers) == 20
        assert all(waited_s >= 0 for waited_s in answers)


@pytest.fixture
def shop() -> FastAPI:
    reader = MemoryShop.of([(Labels.of(__name__="up"), [(0, 1.0), (1000, 1.0)])])
    app = FastAPI()
    ports = (reader, reader, reader, reader)
    app.include_router(router(Source(Engine(reader), *ports, lambda: 1_000, concurrency=2)))
    return app
