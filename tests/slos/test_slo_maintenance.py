"""Maintenance spans over a real database."""

from __future__ import annotations

import pytest

from slos.repository import EVERY_SLO, MaintenanceRepository
from store.errors import BadInput
from store.sql import open_engine, open_sessions, upgrade


@pytest.fixture
def repository() -> MaintenanceRepository:
    engine = open_engine("sqlite://")
    upgrade(engine)
    return MaintenanceRepository(open_sessions(engine))


def test_spans_of_one_slo_and_of_all_are_joined(repository: MaintenanceRepository) -> None:
    repository.add("shop-api", 1_000, 2_000, "deploy")
    repository.add(EVERY_SLO, 1_500, 3_000, "network")
    repository.add("other", 0, 9_000, "theirs")
    repository.add("shop-api", 5_000, 6_000, "again")
    assert repository.spans("shop-api", 0, 10_000) == [(1_000, 3_000), (5_000, 6_000)]
    assert repository.spans("shop-api", 3_500, 4_500) == []


@pytest.mark.parametrize(("end_ms", "reason"), [(1_000, "x"), (40 * 86_400_000, "x"), (2_000, " ")])
def test_a_span_without_length_bound_or_reason_is_refused(
    repository: MaintenanceRepository, end_ms: int, reason: str
) -> None:
    with pytest.raises(BadInput):
        repository.add("shop-api", 1_000, end_ms, reason)
