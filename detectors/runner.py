"""One tick of all detectors: new spans and series in, findings that hold now out."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product

import structlog

from detectors.activity import Activity
from detectors.decision import Decision
from detectors.detector import SignalContext, SignalDetector
from detectors.finding import Finding
from detectors.fragments import Fragments
from detectors.micro_batch import MicroBatcher, SpanCursor
from detectors.money import Worth
from detectors.quiet import QuietWatch
from detectors.quorum import Quorum
from detectors.registry import DetectorSettings
from detectors.repository import Cursor, FindingRepository
from detectors.request_rate import RequestRates
from detectors.seasonal_history import Calendar
from detectors.stack import StackAdvisor
from detectors.told import Judged, Told
from detectors.topology import ServiceEdges, Topology
from detectors.traces.detector import TraceDetector
from detectors.traces.frame import SpanFrame, build_frame
from detectors.traces.normaliser import Normaliser
from detectors.traces.trace import traces_of
from store.errors import WarroomError
from store.model import UnitHealth
from store.ports import Querier, SpanReader

_log = structlog.get_logger()
_SPANS = "spans"
_RATES = "request_rates"
_QUIET = "quiet"
_QUORUM = "quorum"
_TOLD = "told"
_HISTORY_MS = 3_600_000
_MAX_UNRECORDED = 10_000
# A fault of everything at once needs no list of everything.
_MAX_TOLD = 200


class DetectionFailed(WarroomError):
    """A detector broke on some traces; the others were judged."""


@dataclass(frozen=True, slots=True)
class DetectionTick:
    """What the detectors say at one instant.

    Attributes:
        findings: What holds now, suppressed ones included (see their status).
        changed: Fingerprints that began or ended at this tick.
        health: One entry a detector, and one for the reading of spans (`traces`).
    """

    findings: tuple[Finding, ...] = ()
    changed: tuple[str, ...] = ()
    health: tuple[UnitHealth, ...] = ()


class DetectorRunner:
    """Runs every detector once a tick. A detector that fails stops no other."""

    def __init__(
        self,
        spans: SpanReader,
        querier: Querier,
        repository: FindingRepository,
        settings: DetectorSettings | None = None,
        calendar: Callable[[int], Calendar] = lambda _now_ms: Calendar(),
    ) -> None:
        self._spans = spans
        self._querier = querier
        self._repository = repository
        self._settings = settings or DetectorSettings()
        self._calendar = calendar
        self._trace_detectors = self._settings.trace_detectors()
        self._signal_detectors = self._settings.signal_detectors()
        self._normaliser = Normaliser()
        self._rates = RequestRates(self._settings.runner.rate_window_s)
        self._batcher: MicroBatcher | None = None
        self._activity = Activity(self._settings.runner)
        self._quorum = Quorum()
        self._quiet = QuietWatch(self._settings.runner.fixed_after_s)
        self._edges = ServiceEdges()
        self._advisor = StackAdvisor(spans)
        self._told = Told()
        self._fragments = Fragments(self._told)
        self._superseded: set[str] = set()
        self._fewer: Counter[str] = Counter()
        self._worth = Worth(querier, self._settings.chosen["blocking_call"].routes)
        self._judged_again: set[Judged] = set()
        self._last: set[str] = set()
        # What a failing state database did not take; handed over again at the next tick.
        self._unrecorded: deque[Finding] = deque(maxlen=_MAX_UNRECORDED)

    def tick(self, now_ms: int) -> DetectionTick:
        """Judge what arrived since the last tick, and the series at `now_ms`.

        Raises:
            SQLAlchemyError: The state database cannot be written; nothing was lost, tick again.
        """
        batcher = self._batcher or self._restore()
        units = _Units(now_ms, self._calendar(now_ms))
        judged = self._quorum.pass_on(self._enabled(self._judge_traces(batcher, units)))
        again, self._judged_again = self._judged_again, set()
        placed = self._fragments.place(judged, again)
        self._supersede(placed.gone)
        self._fewer.update(placed.fewer)
        seen = self._advisor.advise(placed.findings)
        priority = self._settings.priority
        changes = self._activity.observe_traces(seen, self._rates, priority, now_ms)
        for name, detector in self._signal_detectors.items():
            held = self._enabled(self._judge_signals(name, detector, units))
            kinds = frozenset(detector.kinds)
            changes.extend(self._activity.observe_signals(held, kinds, now_ms))
        self._fragments.forget(item for item in changes if not item.active)
        self._quiet.observe(changes, now_ms)
        self._quiet.count(self._rates, self._querier, now_ms)
        self._unrecorded.extend(self._worth.priced(changes, now_ms))
        self._repository.record(
            self._unrecorded,
            now_ms,
            cursors=self._cursors(batcher),
            superseded=self._superseded,
            fewer=self._fewer,
        )
        self._unrecorded.clear()
        self._superseded.clear()
        self._fewer.clear()
        for proof in self._quiet.proven(now_ms):
            self._repository.prove_fixed(proof.fingerprint, Decision(now_ms, reason=proof.reason))
        active = self._repository.active()
        return DetectionTick(active, self._changed(active), tuple(units.health))

    def _supersede(self, keys: Collection[str]) -> None:
        """These are gone, also where the state database did not take them yet."""
        if not keys:
            return
        self._activity.forget(keys)
        self._superseded.update(keys)
        kept = [item for item in self._unrecorded if item.fingerprint not in keys]
        self._unrecorded = deque(kept, maxlen=_MAX_UNRECORDED)

    def topology(self, now_ms: int) -> Topology:
        """Who calls whom, by the traces that were judged."""
        return self._edges.topology(now_ms)

    def _cursors(self, batcher: MicroBatcher) -> tuple[tuple[str, Cursor], ...]:
        cursor = batcher.cursor
        return (
            (_SPANS, Cursor(cursor.read_seq, cursor.dumps())),
            (_RATES, Cursor(0, self._rates.dumps())),
            (_QUORUM, Cursor(0, self._quorum.dumps())),
            (_TOLD, Cursor(0, self._told.dumps())),
            (_QUIET, Cursor(0, self._quiet.dumps())),
        )

    def _changed(self, active: Iterable[Finding]) -> tuple[str, ...]:
        now = {finding.fingerprint for finding in active}
        changed = tuple(sorted(now ^ self._last))
        self._last = now
        return changed

    def _restore(self) -> MicroBatcher:
        """Continue where the last process stopped."""
        cursor = self._repository.cursor(_SPANS)
        rates = self._repository.cursor(_RATES)
        if rates is not None:
            self._rates.loads(rates.body)
        quiet = self._repository.cursor(_QUIET)
        if quiet is not None:
            self._quiet.loads(quiet.body)
        held = self._repository.cursor(_QUORUM)
        if held is not None:
            self._quorum.loads(held.body)
        told = self._repository.cursor(_TOLD)
        if told is not None:
            self._told.loads(told.body)
        active = self._repository.active()
        self._fragments.restore(active)
        self._last = {finding.fingerprint for finding in active}
        place = SpanCursor.loads(cursor.body) if cursor is not None else None
        since_ms = max(0, place.tick_ms - _HISTORY_MS) if place is not None else 0
        self._activity.restore(active, self._repository.history(since_ms=since_ms))
        traces = map(bytes.fromhex, self._told.traces)
        batcher = MicroBatcher(self._settings.runner, place, traces)
        self._batcher = batcher
        return batcher

    def _enabled(self, findings: Iterable[Finding]) -> list[Finding]:
        return [item for item in findings if item.kind not in self._settings.disabled]

    def _judge_traces(self, batcher: MicroBatcher, units: _Units) -> list[Finding]:
        frames: list[SpanFrame] = []
        again: set[str] = set()

        def gather() -> dict[str, int]:
            batch = batcher.next(self._spans, units.now_ms)
            self._rates.count(batch.fresh, units.now_ms)
            if len(batch.ready):
                frames.append(build_frame(batch.ready, self._normaliser, batch.tree))
                again.update(self._told.traces & {trace.hex() for trace in batch.again})
                self._edges.observe(frames[-1], units.now_ms)
            return {
                "read": len(batch.fresh),
                "judged": len(batch.ready),
                "waiting": batch.waiting,
                "behind": int(batch.behind),
            }

        units.run("traces", gather)
        found: list[Finding] = []
        for frame in frames:
            for name, detector in self._trace_detectors.items():
                unjudged = set(again)
                units.run(name, partial(_detect, detector, frame, found, unjudged))
                kinds = set(detector.kinds) - self._settings.disabled
                self._judged_again.update(product(kinds, again - unjudged))
        return found

    def _judge_signals(self, name: str, detector: SignalDetector, units: _Units) -> list[Finding]:
        active = self._activity.of_kinds(detector.kinds)
        context = SignalContext(
            units.now_ms, active, self._activity.episodes, self._spans, units.calendar
        )
        found: list[Finding] = []

        def evaluate() -> dict[str, int]:
            found.extend(detector.evaluate(self._querier, context))
            return {"findings": len(found)}

        # A detector that cannot tell ends nothing.
        return _worst(found, active) if units.run(name, evaluate) else list(active.values())


def _worst(found: list[Finding], active: Mapping[str, Finding]) -> list[Finding]:
    """What is told of one detector: what holds already, then what is graver."""
    if len(found) <= _MAX_TOLD:
        return found
    return sorted(found, key=lambda item: (item.fingerprint not in active, item.priority))[
        :_MAX_TOLD
    ]


class _Units:
    """Runs each unit of a tick alone and keeps how it fared."""

    def __init__(self, now_ms: int, calendar: Calendar) -> None:
        self.now_ms = now_ms
        self.calendar = calendar
        self.health: list[UnitHealth] = []

    def run(self, unit: str, action: Callable[[], Mapping[str, int]]) -> bool:
        started = time.perf_counter()
        error = ""
        detail: Mapping[str, int] = {}
        try:
            detail = action()
        except Exception as exc:  # noqa: BLE001  # the boundary at which one unit fails alone
            error = f"{type(exc).__name__}: {exc}"[:500]
            _log.warning("detector failed", unit=unit, error=error)
        took = time.perf_counter() - started
        self.health.append(UnitHealth(unit, not error, self.now_ms, took, error, detail))
        return not error


def _detect(
    detector: TraceDetector, frame: SpanFrame, found: list[Finding], unjudged: set[str]
) -> dict[str, int]:
    """Judge the candidates of a frame; one trace that breaks the detector hides no other.

    Of the `unjudged` traces those stay on which the detector broke.
    """
    failures: list[str] = []
    broken: set[str] = set()
    judged = 0
    for trace in traces_of(frame, detector.candidates(frame), brief=True):
        judged += 1
        try:
            found.extend(detector.detect(trace).findings)
        except Exception as exc:  # noqa: BLE001  # told below, as the health of the detector
            broken.add(trace.trace_id)
            failures.append(f"trace {trace.trace_id}: {type(exc).__name__}: {exc}")
    unjudged &= broken
    if failures:
        raise DetectionFailed(f"{len(failures)} of {judged} traces failed, first {failures[0]}")
    return {"traces": len(frame), "candidates": judged}
