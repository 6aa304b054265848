"""Breaches over a real database."""

from __future__ import annotations

from business_metrics.memory import Breach, ForgetfulMemory
from business_metrics.repository import BreachRepository
from store.sql import open_engine, open_sessions, upgrade


def test_a_breach_is_kept_and_changed_in_place() -> None:
    engine = open_engine("sqlite://")
    upgrade(engine)
    repository = BreachRepository(open_sessions(engine))
    repository.save(Breach("order_rate", 1_000, None, "ticket"))
    repository.save(Breach("order_rate", 1_000, 2_000, "page"))
    repository.save(Breach("order_rate", 3_000, None, "page"))
    repository.save(Breach("checkout_abandonment", 3_000, None, "ticket"))
    assert repository.breaches("order_rate", 0) == [
        Breach("order_rate", 1_000, 2_000, "page"),
        Breach("order_rate", 3_000, None, "page"),
    ]
    assert repository.breaches("order_rate", 2_500) == [Breach("order_rate", 3_000, None, "page")]


def test_a_forgetful_memory_has_no_past() -> None:
    memory = ForgetfulMemory()
    memory.save(Breach("order_rate", 1_000, None, "page"))
    assert memory.breaches("order_rate", 0) == ()
