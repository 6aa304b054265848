"""What no detector may do, as functions that fail for one which does it.

They are held against every registered detector, and against detectors that break each of them on
purpose: a law that lets its own breach pass would prove nothing.
"""

from __future__ import annotations

import dataclasses
import math
import pickle
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from types import FrameType
from typing import Any

from detectors.detector import SignalContext, SignalDetector
from detectors.finding import Finding
from detectors.registry import DetectorSettings
from detectors.settings import change
from detectors.traces.detector import DetectorResult, TraceDetector
from detectors.traces.frame import SpanFrame
from detectors.traces.trace import traces_of
from store.errors import ConfigError
from store.ports import Querier
from tests.detectors.counters import Counters

_CLOCKS = frozenset({time.time, time.time_ns, time.localtime, time.gmtime, time.ctime})
_DATES = frozenset({"now", "utcnow", "today"})


@contextmanager
def without_a_clock() -> Iterator[None]:
    """Fails when the time of the wall is read inside, by whatever way; durations may be."""
    read: list[str] = []

    def watch(_frame: FrameType, event: str, called: Any) -> None:
        if event == "c_call" and _is_clock(called):
            read.append(called.__qualname__)

    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(None)
    assert not read, f"reads the clock: {read[0]}"


def _is_clock(called: Any) -> bool:
    owner = getattr(called, "__self__", None)
    of_dates = isinstance(owner, type) and issubclass(owner, date | datetime)
    return called.__name__ in _DATES if of_dates else called in _CLOCKS


@contextmanager
def unchanged(detector: object) -> Iterator[None]:
    """Fails when a detector is another one afterwards: what it keeps would grow and be lost."""
    before = pickle.dumps(detector)
    yield
    assert pickle.dumps(detector) == before, f"{type(detector).__name__} keeps something"


def _kept(detector: object) -> int:
    """Bytes of a detector and of all that it refers to."""
    return len(pickle.dumps(detector))


def judges_each_trace_alone(make: Callable[[], TraceDetector], frame: SpanFrame) -> None:
    """A trace is judged the same, whatever was judged before it, and by whom."""
    detector = make()
    with without_a_clock(), unchanged(detector):
        first = _judged(detector, frame)
        assert first == _judged(detector, frame), "judges another time otherwise"
        backwards = _judged(detector, frame, reverse=True)
    assert first == backwards, "judges by what came before"
    assert first == _judged(make(), frame), "judges by what it is, not by what it sees"


def _judged(
    detector: TraceDetector, frame: SpanFrame, *, reverse: bool = False
) -> dict[int, DetectorResult]:
    order = list(enumerate(traces_of(frame)))
    found = {place: detector.detect(trace) for place, trace in (order[::-1] if reverse else order)}
    return dict(sorted(found.items()))


def judges_an_instant_alone(
    make: Callable[[], SignalDetector], querier: Querier, instants_ms: Sequence[int]
) -> tuple[Finding, ...]:
    """The last instant is judged the same by one that saw the others and by one that did not.

    What was read of the past may be kept, as long as that does not grow from instant to instant.
    """
    old, context = make(), SignalContext(instants_ms[-1])
    first: tuple[Finding, ...] = ()
    middle = len(instants_ms) // 2
    with without_a_clock():
        for now_ms in instants_ms[:middle]:
            old.evaluate(querier, SignalContext(now_ms))
        half = _kept(old)
        for now_ms in instants_ms[middle:]:
            first = old.evaluate(querier, SignalContext(now_ms))
        assert first == old.evaluate(querier, context), "judges another time otherwise"
    assert _kept(old) <= 1.05 * half, f"{type(old).__name__} keeps more and more"
    assert first == make().evaluate(querier, context), "judges by what it saw before"
    return first


def is_silent_without_data(detector: SignalDetector, now_ms: int) -> None:
    """Nothing is known, nothing is said."""
    assert detector.evaluate(Counters(), SignalContext(now_ms)) == ()


def refuses_what_makes_no_sense(settings: Any, where: str = "detectors.x") -> None:
    """Each number has bounds, each value its type, no time is endless, nothing can be changed."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            refuses_what_makes_no_sense(value, f"{where}.{field.name}")
            continue
        for wrong in _wrong(field.name, value):
            told = _refusal(lambda: change(settings, {field.name: wrong}, where))  # noqa: B023
            assert told, f"{where}.{field.name} may be {wrong!r}"
            assert field.name in told
        told = _refusal(lambda: setattr(settings, field.name, value))  # noqa: B023
        assert told, f"{where}.{field.name} can be changed"


def _refusal(attempt: Callable[[], object]) -> str:
    """Why it was refused; empty when it was not."""
    try:
        attempt()
    except (ConfigError, dataclasses.FrozenInstanceError) as exc:
        return str(exc)
    return ""


def _wrong(name: str, value: object) -> list[object]:
    if isinstance(value, bool):
        return ["x", 1, None]
    if isinstance(value, int | float):
        endless = [math.inf] if name.endswith(("_s", "_ms", "_us")) else []
        return [-1, math.nan, "x", True, None, *endless]
    return [3, None]


def chosen_settings() -> dict[str, Any]:
    """The defaults of every section."""
    return dict(DetectorSettings().chosen)


def shuffled(rows: list[dict[str, Any]], seed: int, pieces: int) -> list[list[dict[str, Any]]]:
    """The rows in another order, in so many batches."""
    order = random.Random(seed).sample(rows, len(rows))
    return [order[place::pieces] for place in range(pieces)]
