"""What a signal detector is, and what it may know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from detectors.finding import Finding
from store.ports import Querier, SpanReader


@dataclass(frozen=True, slots=True)
class SignalContext:
    """What a signal detector may know beside the series.

    Attributes:
        active: Findings that held at the last tick, by fingerprint.
        episodes: Recent times `(start_ms, end_ms)` at which a fingerprint was active; never learned
            from.
        spans: Where evidence is looked up; None where there are no spans.
    """

    now_ms: int
    active: Mapping[str, Finding] = field(default_factory=dict)
    episodes: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    spans: SpanReader | None = None


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
