"""One page an incident, whatever breaks between the decision and PagerDuty."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import pytest
from typing_extensions import override

from alerts.ledger.repository import OutboxRepository
from alerts.model import Alert
from alerts.notification import Notice, Receipt
from alerts.outbox import Outbox, RetryPolicy
from alerts.registry import NOTIFIERS
from alerts.route_tree import Integration
from alerts.routing import default_routing

RETRY = RetryPolicy(first_s=1, longest_s=8, lease_ms=20_000)


class Killed(BaseException):
    """The process dies here."""


class DyingRows(OutboxRepository):
    """Outbox rows of a process that dies before or after it writes a delivery down."""

    chances: random.Random
    dies: float = 0.0

    @override
    def finish(self, *args: Any, **kwargs: Any) -> bool:
        if self.chances.random() < self.dies / 2:
            raise Killed
        done = super().finish(*args, **kwargs)
        if self.chances.random() < self.dies / 2:
            raise Killed
        return done


@pytest.mark.parametrize("seed", range(15))
def test_crashes_and_faults_at_any_point_leave_one_open_and_one_close(
    seed: int,
    alerting: Callable[..., Any],
    double: Callable[[], Any],
    pagerduty: Callable[[str], Integration],
    make_alert: Callable[..., Alert],
    now_ms: int,
) -> None:
    chances = random.Random(seed)

    async def run() -> tuple[list[str], list[str], set[str]]:
        async with double() as service, httpx.AsyncClient(trust_env=False) as client:
            service.faults = [
                chances.choice([202, 202, 429, 500, 503, "drop", "reset"]) for _ in range(8)
            ]
            half = alerting(default_routing((pagerduty(service.url),)))
            alerts = [make_alert(route=f"/r{n}") for n in range(3)]
            at_ms = now_ms
            for tick in range(24):
                at_ms += 5_000
                try:
                    rows = DyingRows(half.sessions)
                    rows.chances = chances
                    rows.dies = 0.4 if tick < 16 else 0.0
                    half.engine.tick(at_ms, alerts if tick < 8 else [])
                    await Outbox(
                        rows,
                        partial(getattr, half.engine, "routing"),
                        client,
                        NOTIFIERS,
                        worker=f"worker{tick}",
                        retry=RETRY,
                    ).deliver_due(at_ms)
                except Killed:
                    half = half.reopen()
                if tick >= 16 and len(service.closed) == 3:
                    break
            half.close()
            keys = {e["dedup_key"] for e in service.requests}
            return service.opened, service.closed, keys

    opened, closed, keys = asyncio.run(run())
    assert len(keys) == 3
    assert sorted(opened) == sorted(keys)
    assert sorted(closed) == sorted(keys)


def test_two_replicas_send_one_trigger_and_one_resolve(
    alerting: Callable[..., Any],
    double: Callable[[], Any],
    pagerduty: Callable[[str], Integration],
    make_alert: Callable[..., Alert],
    now_ms: int,
) -> None:
    async def run() -> list[str]:
        async with double() as service, httpx.AsyncClient(trust_env=False) as client:
            one = alerting(default_routing((pagerduty(service.url),)))
            two = one.__class__(one.path, one.sessions, one.engine, OutboxRepository(one.sessions))
            boxes = [
                Outbox(r.outbox_rows, lambda: one.engine.routing, client, NOTIFIERS, worker=name)
                for name, r in (("a", one), ("b", two))
            ]
            for tick in range(12):
                at_ms = now_ms + tick * 5_000
                for replica in (one, two):
                    replica.engine.tick(at_ms, [make_alert()] if tick < 5 else [])
                await asyncio.gather(*(box.deliver_due(at_ms) for box in boxes))
            return [event["event_action"] for event in service.requests]

    assert asyncio.run(run()) == ["trigger", "resolve"]


@pytest.mark.parametrize(
    ("status", "state"), [(400, "failed"), (429, "pending"), (503, "pending"), (200, "pending")]
)
def test_only_what_may_pass_is_tried_again(
    status: int,
    state: str,
    alerting: Callable[..., Any],
    double: Callable[[], Any],
    pagerduty: Callable[[str], Integration],
    make_alert: Callable[..., Alert],
    now_ms: int,
) -> None:
    async def run() -> tuple[Any, int]:
        async with double() as service, httpx.AsyncClient(trust_env=False) as client:
            service.faults = [status]
            half = alerting(default_routing((pagerduty(service.url),)))
            half.engine.tick(now_ms, [make_alert()])
            outbox = Outbox(
                half.outbox_rows, lambda: half.engine.routing, client, NOTIFIERS, worker="w"
            )
            await outbox.deliver_due(now_ms)
            row = half.outbox_rows.rows()[0]
            await outbox.deliver_due(now_ms + 60_000)
            return row, len(service.requests)

    row, requests = asyncio.run(run())
    assert row.state == state
    assert str(status) in row.last_error
    assert requests == (1 if state == "failed" else 2)


def test_retry_after_is_kept(
    alerting: Callable[..., Any],
    double: Callable[[], Any],
    pagerduty: Callable[[str], Integration],
    make_alert: Callable[..., Alert],
    now_ms: int,
) -> None:
    async def run() -> int:
        async with double() as service, httpx.AsyncClient(trust_env=False) as client:
            service.faults = [429]
            service.headers = {"Retry-After": "120"}
            half = alerting(default_routing((pagerduty(service.url),)))
            half.engine.tick(now_ms, [make_alert()])
            outbox = Outbox(
                half.outbox_rows, lambda: half.engine.routing, client, NOTIFIERS, worker="w"
            )
            await outbox.deliver_due(now_ms)
            await outbox.deliver_due(now_ms + 119_000)
            assert len(service.requests) == 1
            await outbox.deliver_due(now_ms + 125_000)
            return len(service.requests)

    assert asyncio.run(run()) == 2


def test_one_broken_receiver_does_not_hold_up_another(
    alerting: Callable[..., Any],
    double: Callable[[], Any],
    pagerduty: Callable[[str], Integration],
    make_alert: Callable[..., Alert],
    now_ms: int,
) -> None:
    async def run() -> list[str]:
        async with double() as service, httpx.AsyncClient(trust_env=False) as client:
            dead = pagerduty("http://127.0.0.1:9/")
            half = alerting(default_routing((dead, pagerduty(service.url))))
            half.engine.tick(now_ms, [make_alert()])
            outbox = Outbox(
                half.outbox_rows, lambda: half.engine.routing, client, NOTIFIERS, worker="w"
            )
            await outbox.deliver_due(now_ms)
            return [event["event_action"] for event in service.requests]

    assert asyncio.run(run()) == ["trigger"]


def test_acknowledging_an_incident_tells_pagerduty_before_it_is_resolved(
    alerting: Callable[..., Any],
    double: Callable[[], Any],
    pagerduty: Callable[[str], Integration],
    make_alert: Callable[..., Alert],
    now_ms: int,
) -> None:
    async def run() -> list[dict[str, Any]]:
        async with double() as service, httpx.AsyncClient(trust_env=False) as client:
            half = alerting(default_routing((pagerduty(service.url),)))
            outbox = Outbox(
                half.outbox_rows, lambda: half.engine.routing, client, NOTIFIERS, worker="w"
            )
            result = half.engine.tick(now_ms, [make_alert()])
            incident = result.records[0].incident_id
            half.engine.acknowledge(incident, "ann", now_ms + 1)
            half.engine.acknowledge(incident, "bob", now_ms + 2)
            half.engine.tick(now_ms + 20_000, [])
            await outbox.deliver_due(now_ms + 20_000)
            return list(service.requests)

    events = asyncio.run(run())
    assert [e["event_action"] for e in events] == ["trigger", "acknowledge", "resolve"]
    assert len({e["dedup_key"] for e in events}) == 1


def test_a_delivery_slower_than_its_lease_is_given_up_and_tried_again_with_a_wait(
    alerting: Callable[..., Any], make_alert: Callable[..., Alert], now_ms: int
) -> None:
    begun: list[str] = []

    async def never(
        notice: Notice, integration: Integration, client: httpx.AsyncClient, now_ms: int
    ) -> Receipt:
        begun.append(notice.id)
        await asyncio.Event().wait()
        raise AssertionError

    async def run() -> None:
        half = alerting(default_routing((Integration("pagerduty"),)))
        half.engine.tick(now_ms, [make_alert()])
        outbox = Outbox(
            half.outbox_rows,
            lambda: half.engine.routing,
            httpx.AsyncClient(trust_env=False),
            {"pagerduty": never},
            worker="w",
            retry=RetryPolicy(lease_ms=100),
        )
        report = await outbox.deliver_due(now_ms)
        assert (report.sent, report.retried) == (0, 1)
        (attempt,) = half.outbox_rows.deliveries()
        assert attempt.detail == "the delivery did not end within 0.075 s"

    asyncio.run(run())
    assert len(begun) == 1


def test_a_notice_on_its_way_is_not_sent_again_though_its_lease_ran_out(
    alerting: Callable[..., Any], make_alert: Callable[..., Alert], now_ms: int
) -> None:
    begun: list[str] = []

    async def run() -> None:
        going, arrived = asyncio.Event(), asyncio.Event()

        async def slow(
            notice: Notice, integration: Integration, client: httpx.AsyncClient, now_ms: int
        ) -> Receipt:
            begun.append(notice.id)
            going.set()
            await arrived.wait()
            return Receipt(202, "ok")

        half = alerting(default_routing((Integration("pagerduty"),)))
        half.engine.tick(now_ms, [make_alert()])
        outbox = Outbox(
            half.outbox_rows,
            lambda: half.engine.routing,
            httpx.AsyncClient(trust_env=False),
            {"pagerduty": slow},
            worker="w",
        )
        first = asyncio.create_task(outbox.deliver_due(now_ms))
        await going.wait()
        late_ms = now_ms + 61_000
        assert (await outbox.deliver_due(late_ms)).sent == 0
        # Another process does take it: then the first one's success still counts.
        half.outbox_rows.claim("other", late_ms, lease_ms=60_000, limit=9)
        arrived.set()
        assert (await first).sent == 1
        assert half.outbox_rows.counts() == {"sent": 1}

    asyncio.run(run())
    assert len(begun) == 1
