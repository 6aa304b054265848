from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from structlog.testing import capture_logs

from warroom.clock import system_now_ms
from warroom.schedule import Schedule

DEADLINE_S = 20.0


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)


def test_jobs_get_instants_of_the_grid() -> None:
    seen: list[int] = []
    shifted: list[int] = []

    async def job(now_ms: int) -> None:
        seen.append(now_ms)

    async def later(now_ms: int) -> None:
        shifted.append(now_ms)

    async def run() -> None:
        schedule = Schedule(system_now_ms)
        schedule.every("job", 0.05, job)
        schedule.every("later", 0.05, later, offset_s=0.02)
        schedule.start()
        await until(lambda: len(seen) >= 3 and len(shifted) >= 3)
        schedule.stop()

    asyncio.run(run())
    assert all(now_ms % 50 == 0 for now_ms in seen)
    assert all(now_ms % 50 == 20 for now_ms in shifted)
    assert seen == sorted(seen)


def test_a_job_that_fails_says_so_and_runs_again() -> None:
    runs: list[int] = []

    async def job(now_ms: int) -> None:
        runs.append(now_ms)
        if len(runs) == 1:
            raise ZeroDivisionError("first time")

    async def run() -> None:
        schedule = Schedule(system_now_ms)
        schedule.every("job", 0.02, job)
        schedule.start()
        await until(lambda: bool(schedule.health))
        (failed,) = schedule.health
        assert failed.unit == "job/job"
        assert not failed.ok
        assert failed.error == "ZeroDivisionError: first time"
        await until(lambda: schedule.health[0].ok)
        assert schedule.health[0].error == ""
        schedule.stop()

    with capture_logs() as logs:
        asyncio.run(run())
    assert [entry["job"] for entry in logs if entry["log_level"] == "error"] == ["job"]


def test_a_job_that_still_runs_is_not_started_again_and_holds_no_other_up() -> None:
    running = 0
    most = 0
    others: list[int] = []

    async def run() -> None:
        release = asyncio.Event()

        async def slow(_now_ms: int) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await release.wait()
            running -= 1

        async def other(now_ms: int) -> None:
            others.append(now_ms)

        schedule = Schedule(system_now_ms)
        schedule.every("slow", 0.02, slow)
        schedule.every("other", 0.02, other)
        schedule.start()
        await until(lambda: running == 1 and len(others) >= 5)
        assert most == 1
        release.set()
        schedule.stop()
        await until(lambda: running == 0)

    asyncio.run(run())


def test_a_schedule_that_never_started_can_be_stopped() -> None:
    Schedule(system_now_ms).stop()
