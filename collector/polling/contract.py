"""What a poller is, what it reads, and how it fails."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from store.errors import LimitExceeded, WarroomError
from store.model import MetricMetadata, MetricType

MAX_SAMPLES = 20_000
MAX_TEXT = 300

_NOT_IN_A_NAME = re.compile(r"[^a-z0-9_]")


class PollFailed(WarroomError):
    """The system did not answer, or refused. `retry_after_s` is what it asked for, if anything."""

    permanent = False

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message[:MAX_TEXT], hint=hint)
        self.retry_after_s = retry_after_s


class Denied(PollFailed):
    """The account may not read this part."""


class Absent(PollFailed):
    """This server does not have this part."""


class TimedOut(PollFailed):
    """The server gave this part up after its time, and answers otherwise."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One value. `ts_ms` is None where it is the time of the poll."""

    name: str
    labels: Mapping[str, str]
    value: float
    ts_ms: int | None = None


@dataclass(frozen=True, slots=True)
class MissingPart:
    """A part of the system that could not be read, while the rest could."""

    part: str
    error: str
    remedy: str


@dataclass(slots=True)
class Reading:
    """What one poll brought. Bounded: one sample too many raises LimitExceeded."""

    max_samples: int = MAX_SAMPLES
    samples: list[Sample] = field(default_factory=list)
    families: dict[str, MetricMetadata] = field(default_factory=dict)
    missing: list[MissingPart] = field(default_factory=list)

    def gauge(self, name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
        self.add(MetricMetadata(name, MetricType.GAUGE), Sample(name, labels or {}, value))

    def counter(self, name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
        self.add(MetricMetadata(name, MetricType.COUNTER), Sample(name, labels or {}, value))

    def add(self, family: MetricMetadata, sample: Sample) -> None:
        """One sample of a family.

        Raises:
            LimitExceeded: The poll brought more samples than a poll may.
        """
        if len(self.samples) >= self.max_samples:
            raise LimitExceeded(
                f"a poll may bring {self.max_samples} samples, this one brought more",
                reason="poll_samples",
                hint="poll fewer databases, keys or queries with this poller",
            )
        self.families.setdefault(family.family, family)
        self.samples.append(sample)

    def lacks(self, part: str, error: str, remedy: str) -> None:
        """Note a part that could not be read."""
        self.missing.append(MissingPart(part, error[:MAX_TEXT], remedy))


class Poller(Protocol):
    """One system that is asked. Connections are made at the first poll and kept."""

    async def poll(self, now_ms: int) -> Reading:
        """Ask once.

        It may be cancelled at any await; the next poll then starts with a fresh connection.

        Raises:
            PollFailed: Nothing could be read; the message names no secret.
            LimitExceeded: It answered too much.
        """

    async def aclose(self) -> None:
        """Give every connection back. Safe to call twice."""


def name_part(text: str) -> str:
    """A system's own name of a figure, as part of a metric name.

    >>> name_part("Aria.page-cache Hits")
    'aria_page_cache_hits'
    """
    return _NOT_IN_A_NAME.sub("_", text.lower())
