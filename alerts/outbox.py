"""The outbox: takes due notices, sends them, writes down what came of it.

At least once: a worker that dies between sending and writing sends again after its lease, under
the same dedup key. In order: a lane's next notice waits until the one before it is done with.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx
import structlog

from alerts.ledger.repository import Delivery, OutboxRepository, OutboxRow
from alerts.notification import DeliveryError, Notifier, Receipt
from alerts.route_tree import Integration, Routing

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to wait after a failure that may pass.

    The wait doubles from `first_s` up to `longest_s`, with up to 20 % taken off by chance; the
    receiver's Retry-After counts where it is longer. After `give_up_s` a notice is failed. A
    claimed notice is left to its worker for `lease_ms`, well over a delivery's timeout.
    """

    first_s: float = 1.0
    longest_s: float = 300.0
    give_up_s: float = 86_400.0
    lease_ms: int = 60_000

    def wait_s(self, notice_id: str, attempt: int, retry_after_s: float | None) -> float:
        doubled = min(self.first_s * 2.0 ** min(attempt - 1, 30), self.longest_s)
        digest = hashlib.sha256(f"{notice_id}{attempt}".encode()).digest()
        spread = doubled * (1 - 0.2 * digest[0] / 255)
        return max(spread, retry_after_s or 0.0)


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """What one round came to."""

    sent: int = 0
    retried: int = 0
    failed: int = 0


class Outbox:
    """Delivers what is due. A round may begin while an earlier one still runs.

    Args:
        repository: The outbox rows.
        routing: The configuration in force, for addresses and secrets.
        client: Sends; the caller opens and closes it.
        notifiers: `alerts.registry.NOTIFIERS`.
        worker: A name that no other process has.
        retry: How long to wait after failures.
    """

    def __init__(
        self,
        repository: OutboxRepository,
        routing: Callable[[], Routing],
        client: httpx.AsyncClient,
        notifiers: Mapping[str, Notifier],
        *,
        worker: str,
        retry: RetryPolicy = RetryPolicy(),
    ) -> None:
        self._repository = repository
        self._routing = routing
        self._client = client
        self._notifiers = notifiers
        self._worker = worker
        self._retry = retry
        self._lease_ms = retry.lease_ms
        self._in_flight: set[str] = set()

    async def deliver_due(self, now_ms: int, *, limit: int = 64) -> DeliveryReport:
        """Send every notice that is due, several at once, until none is due or `limit` were sent.

        Notices that wait behind others of their lane follow in the same call.
        """
        totals = {"sent": 0, "pending": 0, "failed": 0}
        done = 0
        began = time.perf_counter()
        while done < limit:
            elapsed_ms = int((time.perf_counter() - began) * 1000)
            rows = await asyncio.to_thread(
                self._repository.claim,
                self._worker,
                now_ms + elapsed_ms,
                lease_ms=self._lease_ms,
                limit=limit - done,
                in_flight=frozenset(self._in_flight),
            )
            if not rows:
                break
            done += len(rows)
            lock = asyncio.Lock()
            at_ms = now_ms + elapsed_ms
            ids = {row.notice.id for row in rows}
            self._in_flight |= ids
            try:
                for state in await asyncio.gather(*(self._one(row, at_ms, lock) for row in rows)):
                    totals[state] += 1
            finally:
                self._in_flight -= ids
        return DeliveryReport(totals["sent"], totals["pending"], totals["failed"])

    async def _one(self, row: OutboxRow, now_ms: int, lock: asyncio.Lock) -> str:
        began = time.perf_counter()
        integration = self._integration(row)
        error: DeliveryError | None = None
        receipt: Receipt | None = None
        try:
            async with asyncio.timeout(self._deadline_s):
                receipt = await self._send(row, integration, now_ms)
        except DeliveryError as exc:
            error = exc
        except TimeoutError:
            error = DeliveryError(
                f"the delivery did not end within {self._deadline_s:g} s", permanent=False
            )
        except Exception as exc:  # noqa: BLE001 - one notice's fault must not stop the others
            # No traceback: its locals would hold the receiver's secrets.
            error = DeliveryError(f"delivery broke: {type(exc).__name__}", permanent=False)
        at_ms = now_ms + int((time.perf_counter() - began) * 1000)
        state, retry_ms = self._verdict(row, error, at_ms)
        delivery = Delivery(
            notice_id=row.notice.id,
            receiver=row.notice.receiver,
            kind=integration.kind if integration else "",
            action=str(row.notice.action),
            dedup_key=row.notice.dedup_key,
            incident_id=row.notice.incident_id,
            at_ms=at_ms,
            attempt=row.attempts,
            ok=error is None,
            status=error.status if error else receipt.status if receipt else None,
            detail=error.message if error else receipt.detail if receipt else "",
        )
        async with lock:
            await asyncio.to_thread(
                self._repository.finish, self._worker, delivery, state=state, retry_ms=retry_ms
            )
        if error is not None:
            _log.warning("delivery_failed", notice=row.notice.id, state=state, error=error.message)
        return state

    @property
    def _deadline_s(self) -> float:
        # Below the lease, with time left to write down what came of it.
        return 0.75 * self._lease_ms / 1000

    def _integration(self, row: OutboxRow) -> Integration | None:
        receiver = self._routing().receivers.get(row.notice.receiver)
        if receiver is None or row.notice.integration >= len(receiver.integrations):
            return None
        return receiver.integrations[row.notice.integration]

    async def _send(self, row: OutboxRow, integration: Integration | None, now_ms: int) -> Receipt:
        if integration is None:
            raise DeliveryError(
                f"the receiver {row.notice.receiver!r} is no longer configured", permanent=True
            )
        notifier = self._notifiers.get(integration.kind)
        if notifier is None:
            raise DeliveryError(f"nothing delivers the kind {integration.kind!r}", permanent=True)
        return await notifier(row.notice, integration, self._client, now_ms)

    def _verdict(self, row: OutboxRow, error: DeliveryError | None, at_ms: int) -> tuple[str, int]:
        if error is None:
            return "sent", 0
        too_old = at_ms - row.notice.created_ms > self._retry.give_up_s * 1000
        if error.permanent or too_old:
            return "failed", 0
        wait_s = self._retry.wait_s(row.notice.id, row.attempts, error.retry_after_s)
        return "pending", at_ms + int(wait_s * 1000)
