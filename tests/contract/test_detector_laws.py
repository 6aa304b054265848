"""Each law of the contract refuses a detector that breaks it: the suite can fail."""

from __future__ import annotations

import datetime as dates
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from typing_extensions import override

from detectors import registry
from detectors.detector import SignalContext, SignalDetector
from detectors.finding import Evidence, Finding, Impact, Priority
from detectors.settings import require
from detectors.traces.detector import DetectorResult, TraceDetector
from detectors.traces.frame import SpanFrame, build_frame
from detectors.traces.normaliser import Normaliser
from detectors.traces.trace import Trace
from store.model import BoolArray
from store.ports import Querier
from tests.contract.detector_laws import (
    is_silent_without_data,
    judges_an_instant_alone,
    judges_each_trace_alone,
    refuses_what_makes_no_sense,
)
from tests.contract.test_detectors import NOW_MS, run, told
from tests.detectors.corpus import TraceBuilder, table
from tests.detectors.counters import Counters


def said(key: str, at_ms: int = NOW_MS) -> Finding:
    evidence = Evidence(trace_id=f"{1:032x}", series="")
    return Finding(
        key, "toy", Priority.P2, "a toy", "shop", "toys/", at_ms, at_ms, evidence, Impact(), ""
    )


@dataclass(frozen=True)
class Honest:
    """Says of each trace that it is there. What it must not do is added below."""

    kinds: ClassVar[tuple[str, ...]] = ("toy",)
    seen: list[str] = field(default_factory=list)

    def candidates(self, frame: SpanFrame) -> BoolArray:
        return np.ones(len(frame), dtype=np.bool_)

    def key(self, trace: Trace) -> str:
        return trace.trace_id

    def detect(self, trace: Trace) -> DetectorResult:
        finding = said(self.key(trace))
        return DetectorResult((replace(finding, evidence=Evidence(trace_id=trace.trace_id)),))

    def evaluate(self, querier: Querier, context: SignalContext) -> tuple[Finding, ...]:
        there = querier.instant("up", context.now_ms).series
        return tuple(self.tell(labels.get("job"), context) for labels in there)

    def tell(self, job: str, context: SignalContext) -> Finding:
        return replace(said(job, context.now_ms), evidence=Evidence(series="up"))


class ReadsTheClock(Honest):
    @override
    def key(self, trace: Trace) -> str:
        return f"{trace.trace_id}-{time.time() > 0}"

    @override
    def tell(self, job: str, context: SignalContext) -> Finding:
        return super().tell(f"{job}-{time.time_ns() > 0}", context)


class ReadsTheDate(Honest):
    @override
    def key(self, trace: Trace) -> str:
        return f"{trace.trace_id}-{dates.datetime.now(tz=dates.UTC).year > 0}"

    @override
    def tell(self, job: str, context: SignalContext) -> Finding:
        return super().tell(f"{job}-{dates.date.today().year > 0}", context)  # noqa: DTZ011


class Remembers(Honest):
    """Keeps everything, and says nothing of it."""

    @override
    def key(self, trace: Trace) -> str:
        self.seen.append(trace.trace_id)
        return trace.trace_id

    @override
    def tell(self, job: str, context: SignalContext) -> Finding:
        self.seen.append(f"{job}-{context.now_ms}")
        return super().tell(job, context)


class Numbers(Honest):
    """Its answer is another one each time."""

    counted: ClassVar[Iterator[int]] = iter(range(10**9))

    @override
    def key(self, trace: Trace) -> str:
        return f"{trace.trace_id}-{next(self.counted)}"

    @override
    def tell(self, job: str, context: SignalContext) -> Finding:
        return super().tell(f"{job}-{next(self.counted)}", context)


class ComesAfter(Honest):
    """Judges by what came before, without keeping it in itself."""

    last: ClassVar[list[object]] = [None]

    @override
    def key(self, trace: Trace) -> str:
        before, self.last[0] = self.last[0], trace.trace_id
        return f"{trace.trace_id}-{before}"

    @override
    def tell(self, job: str, context: SignalContext) -> Finding:
        before, self.last[0] = self.last[0], context.now_ms
        return super().tell(f"{job}-{before}", context)


class IsUnlikeItsTwin(Honest):
    """Another process would say something else."""

    def __init__(self) -> None:
        super().__init__([f"{next(Numbers.counted)}"])

    @override
    def key(self, trace: Trace) -> str:
        return f"{trace.trace_id}-{self.seen[0]}"

    @override
    def tell(self, job: str, context: SignalContext) -> Finding:
        return super().tell(f"{job}-{self.seen[0]}", context)


def requests(count: int) -> list[dict[str, Any]]:
    return [row for number in range(1, count + 1) for row in TraceBuilder(number, ms=50).rows]


def up() -> Counters:
    querier = Counters()
    for step in range(8):
        querier.add("up", {"job": "shop"}, NOW_MS + step * 5_000, 1.0)
    return querier


INSTANTS_MS = [NOW_MS + step * 5_000 for step in range(8)]
IMPURE = [
    (ReadsTheClock, "reads the clock: time"),
    (ReadsTheDate, "reads the clock: "),
    (Remembers, "Remembers keeps "),
    (Numbers, "judges another time otherwise"),
    (ComesAfter, "judges "),
    (IsUnlikeItsTwin, "judges by what it "),
]


def test_an_honest_detector_keeps_every_law() -> None:
    judges_each_trace_alone(Honest, build_frame(table(requests(5)), Normaliser()))
    assert judges_an_instant_alone(Honest, up(), INSTANTS_MS)
    is_silent_without_data(Honest(), NOW_MS)


@pytest.mark.parametrize(("toy", "why"), IMPURE, ids=[toy.__name__ for toy, _ in IMPURE])
def test_a_trace_detector_that_is_not_pure_is_refused(toy: type[Honest], why: str) -> None:
    frame = build_frame(table(requests(5)), Normaliser())
    with pytest.raises(AssertionError, match=why):
        judges_each_trace_alone(toy, frame)


@pytest.mark.parametrize(("toy", "why"), IMPURE, ids=[toy.__name__ for toy, _ in IMPURE])
def test_a_signal_detector_that_is_not_pure_is_refused(toy: type[Honest], why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        judges_an_instant_alone(toy, up(), INSTANTS_MS)


class Talks(Honest):
    @override
    def evaluate(self, querier: Querier, context: SignalContext) -> tuple[Finding, ...]:
        return (said("always", context.now_ms),)


def test_a_detector_that_speaks_on_no_data_is_refused() -> None:
    toy: SignalDetector = Talks()
    with pytest.raises(AssertionError):
        is_silent_without_data(toy, NOW_MS)


class CountsItsBatch(Honest):
    """Finds something only where three traces came together."""

    @override
    def candidates(self, frame: SpanFrame) -> BoolArray:
        return np.full(len(frame), len(frame) >= 3)


class TakesTheFirst(Honest):
    """Names what it finds by what came first."""

    def __init__(self) -> None:
        super().__init__([])

    @override
    def key(self, trace: Trace) -> str:
        self.seen.append(trace.trace_id)
        return self.seen[0]


def found(monkeypatch: pytest.MonkeyPatch, toy: type[Honest], **arrived: Any) -> Any:
    """What a service says whose only detector is a toy."""
    only: Mapping[str, Callable[[Mapping[str, Any]], TraceDetector]] = {"toy": lambda _: toy()}
    monkeypatch.setattr(registry, "TRACE_DETECTORS", only)
    monkeypatch.setattr(registry, "SIGNAL_DETECTORS", {})
    return told(run(**arrived))


def whole(count: int) -> list[list[dict[str, Any]]]:
    return [requests(count)]


def one_by_one(count: int) -> list[list[dict[str, Any]]]:
    """Each trace is judged before the next one comes."""
    return [batch for row in requests(count) for batch in ([row], *([[]] * 6))]


def test_whoever_judges_by_the_batch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(monkeypatch, Honest, batches=whole(3)) == found(
        monkeypatch, Honest, batches=one_by_one(3)
    )
    assert found(monkeypatch, CountsItsBatch, batches=whole(3)) != found(
        monkeypatch, CountsItsBatch, batches=one_by_one(3)
    )


def test_whoever_judges_by_the_order_or_before_a_restart_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backwards = one_by_one(3)[::-1]
    known = found(monkeypatch, Honest, batches=one_by_one(3))
    assert found(monkeypatch, Honest, batches=backwards) == known
    assert found(monkeypatch, Honest, batches=one_by_one(3), restart_after=10) == known
    toy = found(monkeypatch, TakesTheFirst, batches=one_by_one(3))
    assert found(monkeypatch, TakesTheFirst, batches=backwards) != toy
    assert found(monkeypatch, TakesTheFirst, batches=one_by_one(3), restart_after=10) != toy


@dataclass(frozen=True)
class Unchecked:
    hold_s: float = 5.0


@dataclass(frozen=True)
class CheckedInPart:
    hold_s: float = 5.0
    share: float = 0.5

    def __post_init__(self) -> None:
        require(self.hold_s > 0, "hold_s", "above 0", self.hold_s)


@dataclass
class Loose:
    name: str = "x"


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (Unchecked(), "hold_s may be -1"),
        (CheckedInPart(), "share may be"),
        (Loose(), "can be changed"),
    ],
)
def test_settings_that_are_not_checked_or_not_frozen_are_refused(settings: Any, why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        refuses_what_makes_no_sense(settings)


def test_ten_thousand_statements_are_not_ten_thousand_memories() -> None:
    normaliser = Normaliser(cache_size=500)
    for number in range(10_000):
        normaliser.statement("mysql", f"SELECT c{number} FROM t{number} WHERE id = {number}")
    assert normaliser.remembered <= 1_000
