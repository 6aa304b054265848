"""What a signal detector is, and what it may know."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Protocol

from detectors.finding import Finding
from detectors.seasonal_history import Calendar
from store.ports import Querier, SpanReader


@dataclass(frozen=True, slots=True)
class SignalContext:
    """What a signal detector may know beside the series.

    Attributes:
        active: Findings that held at the last tick, by fingerprint.
        episodes: Recent times `(start_ms, end_ms)` at which a fingerprint was active; never learned
            from.
        spans: Where evidence is looked up; None where there are no spans.
        calendar: Which times of earlier days are no measure, and the clock on the wall.
    """

    now_ms: int
    active: Mapping[str, Finding] = field(default_factory=dict)
    episodes: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    spans: SpanReader | None = None
    calendar: Calendar = field(default_factory=Calendar)

    def without_data(self, judged: Set[str], forget_s: float) -> tuple[Finding, ...]:
        """Active findings that could not be judged: no data is no recovery.

        Args:
            judged: Fingerprints of what had data.
            forget_s: What has been without data for so long is gone, and its finding with it.
        """
        return tuple(
            finding
            for key, finding in self.active.items()
            if key not in judged and self.remembers(finding, forget_s)
        )

    def remembers(self, finding: Finding, forget_s: float) -> bool:
        """A finding without data is not too old to hold."""
        return self.now_ms - finding.last_seen_ms < forget_s * 1_000


class SignalDetector(Protocol):
    """Judges series at one instant; a function of series, spans and context, nothing else."""

    @property
    def kinds(self) -> tuple[str, ...]: ...

    def evaluate(self, querier: Querier, context: SignalContext) -> tuple[Finding, ...]:
        """Every finding that holds now. One that is active and lacks data still holds.

        Raises:
            QueryError: The series cannot be read.
        """
        ...
