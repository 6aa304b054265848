"""One tick, one instant: rules, siblings, alerts, delivery, boards; each fails alone.

Boards are shown beside the tick: one that takes long must not hold up the next evaluation.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

import structlog

from alerts.model import Alert
from business_metrics.model import KpiReading
from detectors.finding import Finding
from slos.model import SloStatus
from store.errors import WarroomError
from store.model import UnitHealth
from warroom.telemetry import SelfMetrics

log = structlog.get_logger()
T = TypeVar("T")
Evaluated = tuple[Sequence[Alert], tuple[UnitHealth, ...]]


@dataclass(frozen=True, slots=True)
class Readings:
    """What the siblings said at the last tick; read by the API and the boards."""

    at_ms: int = 0
    findings: tuple[Finding, ...] = ()
    slos: tuple[SloStatus, ...] = ()
    kpis: tuple[KpiReading, ...] = ()
    health: tuple[UnitHealth, ...] = field(default=())


class Board(Protocol):
    """Shows the tick to the watchers."""

    async def publish(self, now_ms: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Steps:
    """What a tick runs, in order. Each takes `now_ms`; see `warroom.app` for who stands behind."""

    record: Callable[[int], tuple[UnitHealth, ...]]
    detect: Callable[[int], tuple[tuple[Finding, ...], tuple[UnitHealth, ...]]]
    burn: Callable[[int], tuple[tuple[SloStatus, ...], tuple[UnitHealth, ...]]]
    trade: Callable[[int], tuple[tuple[KpiReading, ...], tuple[UnitHealth, ...]]]
    rules: Callable[[int], Evaluated]
    sources: Callable[[Readings], tuple[Alert, ...]]
    unknown: Callable[[Readings, Sequence[UnitHealth]], frozenset[str]]
    alert: Callable[[int, Sequence[Alert], frozenset[str]], None]


class Ticker:
    """Runs the steps and keeps what they said."""

    def __init__(self, steps: Steps, board: Board, metrics: SelfMetrics) -> None:
        self._steps = steps
        self._board = board
        self._metrics = metrics
        self._shown: set[asyncio.Task[None]] = set()
        self.readings = Readings()

    async def run(self, now_ms: int, deliver: Callable[[int], None]) -> None:
        """One tick. `deliver` is told when new messages may be waiting; it must not block.

        The boards' task goes on after the tick.
        """
        await asyncio.to_thread(self.evaluate, now_ms)
        deliver(now_ms)
        task = asyncio.create_task(self._show(now_ms))
        self._shown.add(task)
        task.add_done_callback(self._shown.discard)
        self._metrics.last_tick.set(now_ms / 1000)

    async def shown(self) -> None:
        """Wait until the boards show every tick so far."""
        await asyncio.gather(*self._shown)

    async def close(self) -> None:
        """Give up what boards are still being shown."""
        for task in list(self._shown):
            task.cancel()
        await asyncio.gather(*self._shown, return_exceptions=True)

    async def _show(self, now_ms: int) -> None:
        started = time.perf_counter()
        error = ""
        try:
            await self._board.publish(now_ms)
        except Exception as exc:
            log.exception("boards could not be shown")
            error = f"{type(exc).__name__}: {exc}"
        duration_s = time.perf_counter() - started
        unit = UnitHealth(
            "tick/boards", ok=not error, at_ms=now_ms, duration_s=duration_s, error=error
        )
        self._metrics.observe_units((unit,))

    def evaluate(self, now_ms: int) -> None:
        """Everything but delivery and boards, on the calling thread."""
        health: list[UnitHealth] = []
        last, steps = self.readings, self._steps
        health += self._step("record", now_ms, lambda: steps.record(now_ms), (), health)
        found = self._step("detect", now_ms, lambda: steps.detect(now_ms), None, health)
        burnt = self._step("burn", now_ms, lambda: steps.burn(now_ms), None, health)
        traded = self._step("trade", now_ms, lambda: steps.trade(now_ms), None, health)
        ruled = self._step("rules", now_ms, lambda: steps.rules(now_ms), None, health)
        for answer in (found, burnt, traded, ruled):
            health += answer[1] if answer else ()
        self.readings = Readings(
            at_ms=now_ms,
            findings=found[0] if found else last.findings,
            slos=burnt[0] if burnt else last.slos,
            kpis=traded[0] if traded else last.kpis,
            # Until this tick's is known: a look amid a tick must not find that all is well.
            health=last.health,
        )
        said = self._step("sources", now_ms, lambda: steps.sources(self.readings), None, health)
        # A source that failed is unknown: its alerts must neither resolve nor repeat.
        unknown = frozenset(
            source
            for source, answer in (
                ("finding", found),
                ("burn_rate", burnt),
                ("kpi", traded),
                ("rule", ruled),
            )
            if answer is None or (said is None and source != "rule")
        )
        held = (*(said or ()), *(ruled[0] if ruled else ()))
        unknown |= steps.unknown(self.readings, health)
        self._step("alert", now_ms, lambda: steps.alert(now_ms, held, unknown), None, health)
        self.readings = replace(self.readings, health=tuple(health))
        self._metrics.observe_units(self.readings.health)

    def _step(
        self, name: str, now_ms: int, run: Callable[[], T], otherwise: T, health: list[UnitHealth]
    ) -> T:
        started = time.perf_counter()
        error = ""
        answer = otherwise
        try:
            answer = run()
        except WarroomError as exc:
            error = str(exc)
        except Exception as exc:
            log.exception("step of the tick failed", step=name)
            error = f"{type(exc).__name__}: {exc}"
        duration_s = time.perf_counter() - started
        self._metrics.tick_seconds.labels(name).observe(duration_s)
        unit = UnitHealth(
            f"tick/{name}", ok=not error, at_ms=now_ms, duration_s=duration_s, error=error
        )
        health.append(unit)
        return answer
