"""Crashes at random points, and a PagerDuty that fails in every way: one open, one resolve."""

from __future__ import annotations

import asyncio
import random
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from typing_extensions import override

from alerts.engine import AlertEngine
from alerts.ledger.repository import OutboxRepository
from alerts.outbox import Outbox, RetryPolicy
from alerts.registry import NOTIFIERS
from alerts.repository import AlertRepository, AlertTransaction
from store.sql import SessionFactory, open_engine, open_sessions
from tests.alerts.chaos_double import ChaosDouble, chaos_double
from tests.alerts.paging_process import ALERTS, ROUTINGS, START_MS, alerts

RETRY = RetryPolicy(first_s=1, longest_s=8, lease_ms=20_000)


class Killed(BaseException):
    """The process dies here."""


class DyingRows(OutboxRepository):
    """Outbox rows of a process that may die whenever it claims, or writes down a delivery."""

    def __init__(self, sessions: SessionFactory, chances: random.Random, dies: float) -> None:
        super().__init__(sessions)
        self._chances, self._dies = chances, dies

    @override
    def claim(self, *args: Any, **kwargs: Any) -> Any:
        found = super().claim(*args, **kwargs)
        self._die()
        return found

    @override
    def finish(self, *args: Any, **kwargs: Any) -> bool:
        self._die()
        done = super().finish(*args, **kwargs)
        self._die()
        return done

    def _die(self) -> None:
        if self._chances.random() < self._dies / 3:
            raise Killed


class DyingRepository(AlertRepository):
    """Transactions of a process that may die just before or after a commit."""

    def __init__(self, sessions: SessionFactory, chances: random.Random, dies: float) -> None:
        super().__init__(sessions)
        self._chances, self._dies = chances, dies

    @contextmanager
    @override
    def begin(self) -> Iterator[AlertTransaction]:
        with super().begin() as transaction:
            yield transaction
            if self._chances.random() < self._dies / 4:
                raise Killed
        if self._chances.random() < self._dies / 4:
            raise Killed


async def _life(path: Path, seed: int, how: str) -> tuple[ChaosDouble, dict[str, int], int]:
    """Alerts begin and end while the process dies again and again."""
    chances = random.Random(seed)
    kills = 0
    async with (
        chaos_double(chances, faults=12) as double,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        routing = ROUTINGS[how](double.url)
        for tick in range(40):
            database = open_engine(f"sqlite:///{path}")
            sessions = open_sessions(database)
            dies = 0.5 if tick < 24 else 0.0
            now_ms = START_MS + tick * 5_000
            try:
                engine = AlertEngine(DyingRepository(sessions, chances, dies), routing)
                engine.tick(now_ms, alerts() if tick < 10 else [])
                rows = DyingRows(sessions, chances, dies)
                outbox = Outbox(
                    rows, lambda: routing, client, NOTIFIERS, worker=f"w{tick}", retry=RETRY
                )
                await outbox.deliver_due(now_ms)
            except Killed:
                kills += 1
            finally:
                database.dispose()
        database = open_engine(f"sqlite:///{path}")
        counts = OutboxRepository(open_sessions(database)).counts()
        database.dispose()
    return double, counts, kills


def _judge(double: ChaosDouble, counts: dict[str, int]) -> None:
    """One open and one close for each key; what was refused is shown, and held nothing up."""
    assert len(double.keys) == ALERTS
    assert sorted(double.opened) == sorted(double.keys)
    assert sorted(double.closed) == sorted(double.keys)
    assert double.refused > 0
    assert counts["failed"] > 0
    assert set(counts) <= {"sent", "failed", "superseded"}


def _crash_and_judge(tmp_path: Path, migrated: Path, seed: int, how: str) -> int:
    path = tmp_path / "state.db"
    shutil.copyfile(migrated, path)
    double, counts, kills = asyncio.run(_life(path, seed, how))
    _judge(double, counts)
    return kills


@pytest.mark.parametrize(("seed", "how"), [(n, how) for how in ROUTINGS for n in range(4)])
def test_after_random_crashes_each_incident_was_opened_once_and_resolved_once(
    seed: int, how: str, tmp_path: Path, migrated: Path
) -> None:
    assert _crash_and_judge(tmp_path, migrated, seed, how) > 0


@pytest.mark.soak
@pytest.mark.parametrize("how", ROUTINGS)
@pytest.mark.parametrize("seed", range(100, 300))
def test_two_hundred_lives_full_of_crashes_end_with_one_open_and_one_resolve_each(
    seed: int, how: str, tmp_path: Path, migrated: Path
) -> None:
    assert _crash_and_judge(tmp_path, migrated, seed, how) > 0


async def _killed_by_signal(path: Path, seed: int, kills: int, how: str) -> ChaosDouble:
    """A real process is killed after a few of its ticks, again and again; the last one ends."""
    chances = random.Random(seed)
    async with chaos_double(chances, faults=12) as double:
        for turn in range(kills + 1):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.alerts.paging_process", str(path), double.url, how),
                stdout=asyncio.subprocess.PIPE,
            )
            assert process.stdout is not None
            if turn < kills:
                for _ in range(chances.randint(1, 8)):
                    await process.stdout.readline()
                await asyncio.sleep(chances.random() * 0.03)
                if process.returncode is None:
                    process.kill()
                await process.wait()
            else:
                await process.communicate()
                assert process.returncode == 0
    return double


def _kill_and_judge(tmp_path: Path, migrated: Path, seed: int, kills: int, how: str) -> None:
    path = tmp_path / "state.db"
    shutil.copyfile(migrated, path)
    double = asyncio.run(_killed_by_signal(path, seed, kills, how))
    database = open_engine(f"sqlite:///{path}")
    counts = OutboxRepository(open_sessions(database)).counts()
    database.dispose()
    _judge(double, counts)


def test_a_process_killed_by_signal_goes_on_where_it_stopped(
    tmp_path: Path, migrated: Path
) -> None:
    _kill_and_judge(tmp_path, migrated, 1, 3, "escalating")


@pytest.mark.soak
@pytest.mark.parametrize("how", ROUTINGS)
@pytest.mark.parametrize("seed", range(10))
def test_processes_killed_by_signal_many_times_still_page_once(
    seed: int, how: str, tmp_path: Path, migrated: Path
) -> None:
    _kill_and_judge(tmp_path, migrated, seed, 5, how)
