"""Every SLO at one tick: judged and recorded. Each fails alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from slos import recording
from slos.definition import CompositeSli, Slo
from slos.measure import Meter, WindowMeter, composite_meter, query_reader
from slos.model import SloStatus
from slos.policy import Policy, PolicyChanges, PolicySpan, follow
from slos.run import SloRun, Span, Surroundings
from slos.tiers import Searches
from store.errors import WarroomError
from store.model import UnitHealth
from store.ports import Appender, Querier

_log = structlog.get_logger()
_APPEND_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class SloTick:
    """What one tick found: a status for each SLO, in the order of the files, and how each fared."""

    statuses: tuple[SloStatus, ...]
    health: tuple[UnitHealth, ...]


class PolicyBook(Protocol):
    """Keeps since when a policy's action holds."""

    def open(self) -> Sequence[PolicySpan]: ...

    def apply(self, changes: PolicyChanges, now_ms: int) -> None: ...


class SloEvaluator:
    """Evaluates SLOs and their error-budget policies. Not thread-safe: one tick at a time."""

    def __init__(
        self,
        querier: Querier,
        appender: Appender,
        slos: Sequence[Slo],
        around: Surroundings | None = None,
        book: PolicyBook | None = None,
        policies: Sequence[Policy] = (),
    ) -> None:
        self._querier = querier
        self._appender = appender
        self._around = around or Surroundings()
        self._book = book
        self._runs: tuple[SloRun, ...] = ()
        self.reload(slos, policies)

    def reload(self, slos: Sequence[Slo], policies: Sequence[Policy] = ()) -> None:
        """Judge other SLOs from the next tick on; those that did not change go on as they were.

        A composite is kept when its members are, too.
        """
        before = {run.slo.id: run for run in self._runs}
        kept = {slo.id for slo in slos if slo.id in before and before[slo.id].slo == slo}
        self.slos, self.policies = tuple(slos), tuple(policies)
        meters: dict[str, Meter] = {}
        runs: dict[str, SloRun] = {}
        # Members come before the composites of them.
        for slo in sorted(slos, key=lambda slo: isinstance(slo.sli, CompositeSli)):
            members = slo.sli.members if isinstance(slo.sli, CompositeSli) else ()
            if slo.id in kept and all(member.slo_id in kept for member in members):
                runs[slo.id] = before[slo.id]
            else:
                runs[slo.id] = SloRun(slo, self._meter(slo, meters), self._around)
            meters[slo.id] = runs[slo.id].meter
        self._runs = tuple(runs[slo.id] for slo in slos)

    def maintenance(self, slo: Slo, start_ms: int, end_ms: int) -> Sequence[Span]:
        """Spans within which the SLO's events do not count."""
        reader = self._around.maintenance
        return reader.spans(slo.id, start_ms, end_ms) if reader is not None else ()

    def _meter(self, slo: Slo, meters: dict[str, Meter]) -> Meter:
        if isinstance(slo.sli, CompositeSli):
            return composite_meter(slo.sli, meters)
        return WindowMeter(query_reader(slo.name, slo.sli, self._querier))

    def tick(self, now_ms: int) -> SloTick:
        """Judge every SLO at one instant and record its series."""
        statuses: list[SloStatus] = []
        health: list[UnitHealth] = []
        rows: list[recording.Row] = []
        searches = Searches()
        for run in self._runs:
            started = time.perf_counter()
            error = ""
            try:
                status, readings = run.evaluate(now_ms, searches)
                rows.extend(recording.rows(run.slo, status, readings))
            except Exception as exc:  # noqa: BLE001  # an SLO fails alone; its health says so
                error = f"{type(exc).__name__}: {exc}"
                _log.warning("slo_failed", slo=run.slo.id, error=error)
                status = run.failed(now_ms, error)
            else:
                status = _with_outlook(run, status, now_ms)
            statuses.append(status)
            health.append(_health(run.slo, now_ms, time.perf_counter() - started, error))
        if rows:
            health.append(self._record(rows, now_ms))
        if self._book is not None:
            health.append(self._agreed(self._book, statuses, now_ms))
        return SloTick(tuple(statuses), tuple(health))

    def _agreed(self, book: PolicyBook, statuses: Sequence[SloStatus], now_ms: int) -> UnitHealth:
        """Note which policies begin and cease to hold."""
        started = time.perf_counter()
        error = ""
        try:
            changes = follow(self.policies, statuses, book.open(), now_ms)
            if changes != PolicyChanges():
                book.apply(changes, now_ms)
        except Exception as exc:  # noqa: BLE001  # policies fail alone; their health says so
            error = f"{type(exc).__name__}: {exc}"
            _log.warning("slo_policies_failed", error=error)
        duration_s = time.perf_counter() - started
        return UnitHealth("slo-policies", not error, now_ms, duration_s, error)

    def _record(self, rows: list[recording.Row], now_ms: int) -> UnitHealth:
        started = time.perf_counter()
        error = ""
        try:
            self._appender.append(recording.batch(rows)).result(timeout=_APPEND_TIMEOUT_S)
        except (WarroomError, TimeoutError) as exc:
            error = f"{type(exc).__name__}: {exc}"
            _log.warning("slo_series_not_recorded", error=error)
        duration_s = time.perf_counter() - started
        return UnitHealth("slo-recording", not error, now_ms, duration_s, error)


def _with_outlook(run: SloRun, status: SloStatus, now_ms: int) -> SloStatus:
    """The status with the next sale's outlook; without, when that cannot be read."""
    try:
        return replace(status, outlook=run.look_ahead(now_ms))
    except WarroomError as exc:
        _log.warning("slo_outlook_failed", slo=run.slo.id, error=str(exc))
        return status


def _health(slo: Slo, now_ms: int, duration_s: float, error: str) -> UnitHealth:
    detail = {"refused_tiers": list(slo.refused_tiers)} if slo.refused_tiers else {}
    return UnitHealth(f"slo:{slo.id}", not error, now_ms, duration_s, error, detail)
