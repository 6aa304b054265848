"""Alerting as a process to be killed: `python -m tests.alerts.paging_process DB URL HOW`.

Its clock is the number of the tick, which goes on where the process before it was killed. Alerts
fire for the first `FIRING` ticks. It ends when all has been told.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace

import httpx

from alerts.engine import AlertEngine
from alerts.ledger.repository import OutboxRepository
from alerts.model import Alert
from alerts.on_call.model import OnCall, Policy, Step, User
from alerts.outbox import Outbox, RetryPolicy
from alerts.registry import NOTIFIERS
from alerts.repository import AlertRepository
from alerts.route_tree import ESCALATION, Integration, Receiver, Routing, Secret
from alerts.routing import default_routing
from store.model import Labels
from store.sql import open_engine, open_sessions
from tests.alerts.chaos_double import REFUSED_KEY

START_MS = 1_795_766_400_000
FIRING = 25
ALERTS = 3


def routing_to(url: str) -> Routing:
    """Pages go to the double by a good key, and by one that it refuses for good."""
    both = tuple(
        Integration("pagerduty", options={"url": url}, secrets={"routing_key": Secret(key)})
        for key in (REFUSED_KEY, "R0UT1NGKEY")
    )
    routing = default_routing(both)
    assert isinstance(routing.receivers["on-call"], Receiver)
    return routing


def escalating_to(url: str) -> Routing:
    """People are told by the steps of a policy: first one whose key is refused, then two others."""
    keys = {"refused": REFUSED_KEY, "ada": "R0UT1NGKEY", "ben": "R0UT1NGKEY"}
    receivers = {
        name: Receiver(
            name,
            (Integration("pagerduty", options={"url": url}, secrets={"routing_key": Secret(key)}),),
        )
        for name, key in keys.items()
    }
    receivers["on-call"] = Receiver("on-call", (Integration(ESCALATION),), "shop")
    steps = (Step(0, users=("refused", "ada")), Step(15_000, users=("ben",)))
    users = {name: User(name, (name,)) for name in keys}
    plan = OnCall(users, policies={"shop": Policy("shop", steps, repeat=1)})
    usual = default_routing()
    return replace(usual, receivers={**usual.receivers, **receivers}, on_call=plan)


ROUTINGS = {"direct": routing_to, "escalating": escalating_to}


def alerts() -> list[Alert]:
    """Each in a group of its own."""
    return [
        Alert(
            Labels.of(alertname="Broken", service="shop", severity="page", route=f"/r{number}"),
            {"summary": f"route {number} is broken"},
            source="finding",
        )
        for number in range(ALERTS)
    ]


async def run(path: str, url: str, how: str) -> None:
    """Tick until everything is told."""
    sessions = open_sessions(open_engine(f"sqlite:///{path}"))
    engine = AlertEngine(AlertRepository(sessions), ROUTINGS[how](url))
    ledger = OutboxRepository(sessions)
    with engine.repository.begin() as transaction:
        last_ms = transaction.generation()
    tick = 0 if last_ms == 0 else (last_ms - START_MS) // 5_000 + 1
    async with httpx.AsyncClient(trust_env=False) as client:
        outbox = Outbox(
            ledger,
            lambda: engine.routing,
            client,
            NOTIFIERS,
            worker=f"from tick {tick}",
            retry=RetryPolicy(first_s=1, longest_s=4, lease_ms=10_000),
        )
        while tick < FIRING + 5 or ledger.oldest_open_ms() is not None:
            now_ms = START_MS + tick * 5_000
            engine.tick(now_ms, alerts() if tick < FIRING else [])
            await outbox.deliver_due(now_ms)
            print(tick, flush=True)
            tick += 1


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:4]))
