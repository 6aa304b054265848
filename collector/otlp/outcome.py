"""What a decoder made of a body."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from store.model import LogBatch, SampleBatch, SpanBatch

Columns = TypeVar("Columns", SampleBatch, SpanBatch, LogBatch)


class Rejections:
    """Items that cannot be taken, counted by source and reason; kept while decoding one body."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def add(self, source: str, reason: str, count: int = 1) -> None:
        self.counts[(source, reason)] += count

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def sentence(self) -> str:
        """What was refused, in one sentence, most frequent first."""
        by_reason: Counter[str] = Counter()
        for (_, reason), count in self.counts.items():
            by_reason[reason] += count
        parts = [f"{count} x {reason}" for reason, count in by_reason.most_common(5)]
        return f"rejected: {', '.join(parts)}" if parts else ""


@dataclass(frozen=True, slots=True)
class Decoded(Generic[Columns]):
    """Columns to store, how many items each service sent, and what was refused."""

    batch: Columns
    by_source: Mapping[str, int]
    rejections: Rejections = field(default_factory=Rejections)


@dataclass(frozen=True, slots=True)
class DecodedTogether:
    """Columns of several bodies, spans by service, and what was refused of each body."""

    batch: SpanBatch
    by_source: Mapping[str, int]
    rejections: Sequence[Rejections]


def source_of(service: str) -> str:
    """The name of a service among the sources."""
    return f"otlp:{service[:200]}"
