"""One load test. Times are milliseconds since the epoch, durations seconds, ratios 0 to 1."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a test at one multiple of the usual traffic."""

    multiple: float
    from_ms: int
    to_ms: int


@dataclass(frozen=True, slots=True)
class Threshold:
    """A bound that the test set itself, such as `http_req_duration: p(95)<500`."""

    name: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Durations:
    """How long requests took, in seconds; None is not told."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None
    mean: float | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """What a summary tells; None where it does not.

    Attributes:
        run_ms: How long the test ran.
        ended_ms: When it ended.
    """

    run_ms: int | None = None
    ended_ms: int | None = None
    requests: int | None = None
    requests_per_second: float | None = None
    error_ratio: float | None = None
    durations: Durations = Durations()
    checks_passed: int | None = None
    checks_failed: int | None = None
    virtual_users: int | None = None
    thresholds: tuple[Threshold, ...] = ()

    @property
    def ok(self) -> bool | None:
        """Whether every threshold held; None without any."""
        return all(one.ok for one in self.thresholds) if self.thresholds else None


@dataclass(frozen=True, slots=True)
class LoadTest:
    """A test that was run.

    Attributes:
        id: The same for the same summary: sending it twice keeps one.
        source: What made the summary: `k6`.
        target_multiple: How many times the usual traffic it was to reach.
    """

    id: str
    name: str
    source: str
    started_ms: int
    ended_ms: int
    target_multiple: float | None = None
    url: str = ""
    stages: tuple[Stage, ...] = ()
    figures: Figures = field(default_factory=Figures)
