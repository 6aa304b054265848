"""What a trace detector is, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from detectors.finding import Finding
from detectors.traces.frame import SpanFrame
from detectors.traces.gates import NotReported
from detectors.traces.trace import Trace
from store.model import BoolArray


@dataclass(frozen=True, slots=True)
class DetectorResult:
    """What one detector says of one trace."""

    findings: tuple[Finding, ...] = ()
    not_reported: tuple[NotReported, ...] = ()


class TraceDetector(Protocol):
    """Judges one trace at a time; pure, so that order and splits of batches change nothing."""

    @property
    def kinds(self) -> tuple[str, ...]: ...

    def candidates(self, frame: SpanFrame) -> BoolArray:
        """For each trace of the frame: might `detect` find something? Never false when it would."""
        ...

    def detect(self, trace: Trace) -> DetectorResult: ...
