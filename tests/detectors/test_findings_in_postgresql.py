"""Findings in a real PostgreSQL, where two may write at once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest
from sqlalchemy import Engine, event

from detectors.decision import Decision
from detectors.finding import Evidence, Finding, Impact, Priority
from detectors.repository import FindingRepository
from store.sql import open_engine, open_sessions, upgrade
from tests.collector.pollers.postgres_servers import postgres_alone

pytestmark = pytest.mark.timeout(120)
T0_MS = 1_700_000_000_000
LATER_MS = T0_MS + 3_600_000


@pytest.fixture
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with postgres_alone(tmp_path_factory.mktemp("postgres") / "state") as server:
        engine = open_engine(f"postgresql+psycopg://postgres@127.0.0.1:{server.port}/postgres")
        upgrade(engine)
        yield engine
        engine.dispose()


def gone(number: int) -> Finding:
    """A finding that does not hold any more."""
    return Finding(
        f"f{number}", "slow_query", Priority.P2, "slow", "shop", "cart/", T0_MS, T0_MS + number,
        Evidence(), Impact(), "", active=False,
    )  # fmt: skip


def test_nothing_that_somebody_accepted_is_forgotten(engine: Engine) -> None:
    """Somebody accepts the oldest just when it has to give way: it stays, or they are told."""
    repository = FindingRepository(open_sessions(engine), most=10)
    repository.record([gone(number) for number in range(10)], T0_MS)
    with ThreadPoolExecutor(1) as pool:
        answers: list[Future[Finding | None]] = []

        def accept(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
            if statement.startswith("DELETE FROM findings") and not answers:
                decision = Decision(T0_MS, "anna", "known")
                answers.append(pool.submit(repository.suppress, "f0", LATER_MS, decision))
                wait(answers, timeout=1)

        event.listen(engine, "before_cursor_execute", accept)
        repository.record([gone(10)], T0_MS)
        (answer,) = answers
        accepted = answer.result(60)
    assert (accepted is not None) == (repository.get("f0") is not None)
    assert len(repository.list().findings) <= 10
