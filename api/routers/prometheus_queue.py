"""So many queries at once; the others wait, and their waiting counts towards their timeout."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio
import anyio.to_thread
from starlette.requests import Request

from store.errors import QueryError


@dataclass(frozen=True, slots=True)
class Turn:
    """What a query may use once it is its turn.

    Attributes:
        left_s: Seconds that are left of its timeout.
        waited_s: Seconds that it waited.
        stopped: True once nobody waits for the answer any more.
    """

    left_s: float
    waited_s: float
    stopped: Callable[[], bool]


@dataclass(slots=True)
class _Outcome:
    body: bytes | None = None
    failure: Exception | None = None
    gone: threading.Event = field(default_factory=threading.Event)


class QueryQueue:
    """Runs work in threads, at most `concurrency` at once."""

    def __init__(self, concurrency: int) -> None:
        self._limiter = anyio.CapacityLimiter(concurrency)

    async def run(self, request: Request, work: Callable[[Turn], bytes], timeout_s: float) -> bytes:
        """The work's answer.

        Raises:
            QueryError: `timeout` when its turn did not come in time, `canceled` when the client
                has gone; and whatever the work raises.
        """
        outcome = _Outcome()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_watch, request, outcome, tasks.cancel_scope)
            try:
                outcome.body = await self._run(outcome, work, timeout_s)
            except Exception as failure:  # noqa: BLE001 -- raised again below, outside of the group
                outcome.failure = failure
            tasks.cancel_scope.cancel()
        if outcome.failure is not None:
            raise outcome.failure
        if outcome.body is None:
            raise QueryError("query was canceled in query queue", kind="canceled")
        return outcome.body

    async def _run(
        self, outcome: _Outcome, work: Callable[[Turn], bytes], timeout_s: float
    ) -> bytes:
        came = time.perf_counter()
        token = object()
        with anyio.move_on_after(timeout_s) as waiting:
            await self._limiter.acquire_on_behalf_of(token)
        if waiting.cancelled_caught:
            raise QueryError("query timed out in query queue", kind="timeout")
        try:
            waited_s = time.perf_counter() - came
            turn = Turn(max(timeout_s - waited_s, 1e-9), waited_s, outcome.gone.is_set)
            # Being cancelled waits for the thread, which is told that it may stop.
            return await anyio.to_thread.run_sync(work, turn, limiter=anyio.CapacityLimiter(1))
        finally:
            self._limiter.release_on_behalf_of(token)


async def _watch(request: Request, outcome: _Outcome, scope: anyio.CancelScope) -> None:
    """Ends what is done for a client that goes."""
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            outcome.gone.set()
            scope.cancel()
            return
