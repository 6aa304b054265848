"""One running query: what it reads, what it may use, and what it has to say beside its result."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from store.errors import QueryError
from store.model import Int64Array
from store.ports import RollupReader, SeriesReader
from store.promql.parse import position
from store.promql.syntax import Expr
from store.promql.values import Value


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Bounds and defaults of every query; Prometheus's own.

    Attributes:
        lookback_ms: How far back an instant selector looks for a sample.
        subquery_step_ms: The resolution of a subquery that names none.
        max_samples: Samples one query may hold at once.
        timeout_s: How long one query may run; a request may ask for less, never more.
        max_points: Steps of one range query.
    """

    lookback_ms: int = 300_000
    subquery_step_ms: int = 60_000
    max_samples: int = 50_000_000
    timeout_s: float = 120.0
    max_points: int = 11_000


@dataclass(frozen=True, slots=True)
class QueryWindow:
    """The instants that the query as a whole asks for; an instant query has step 0."""

    start_ms: int
    end_ms: int
    step_ms: int


class Annotations:
    """Warnings and infos, each once, with the place in the query that caused them."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._warnings: dict[str, None] = {}
        self._infos: dict[str, None] = {}

    def warn(self, message: str, node: Expr) -> None:
        self._warnings[f"PromQL warning: {message} ({self._where(node)})"] = None

    def info(self, message: str, node: Expr) -> None:
        self._infos[f"PromQL info: {message} ({self._where(node)})"] = None

    def _where(self, node: Expr) -> str:
        return position(self._text, node.span.start)

    def lists(self, limit: int = 10) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Warnings and infos, each capped, with a note of how many more there were."""
        return _capped(self._warnings, limit, "warning"), _capped(self._infos, limit, "info")


def _capped(messages: dict[str, None], limit: int, kind: str) -> tuple[str, ...]:
    kept = tuple(messages)[:limit]
    if len(messages) <= limit:
        return kept
    return (*kept, f"{len(messages) - limit} more {kind} annotations omitted")


@dataclass(slots=True)
class Stats:
    """What a query cost."""

    samples_read: int = 0
    peak_samples: int = 0
    series_read: int = 0
    selects: int = 0


Evaluate = Callable[["Run", Expr, Int64Array], Value]


@dataclass(slots=True)
class Run:
    """The state of one query. `evaluate` is the evaluator itself, handed in to avoid a cycle.

    `rollups` is the reader once more, where it has any.
    """

    reader: SeriesReader
    evaluate: Evaluate
    options: EngineOptions
    window: QueryWindow
    annotations: Annotations
    deadline_s: float
    stats: Stats = field(default_factory=Stats)
    invariant: dict[int, bool] = field(default_factory=dict)
    selected: dict[object, object] = field(default_factory=dict)
    counted_only: frozenset[int] = frozenset()
    rollups: RollupReader | None = None
    stopped: Callable[[], bool] | None = None

    def eval(self, node: Expr, times_ms: Int64Array) -> Value:
        """A node's value at these instants.

        Raises:
            QueryError: The query ran too long, holds too much, or makes no sense with this data.
        """
        self.check_time()
        return self.evaluate(self, node, times_ms)

    def check_time(self) -> None:
        if self.stopped is not None and self.stopped():
            raise QueryError("query was canceled in expression evaluation", kind="canceled")
        if time.monotonic() > self.deadline_s:
            raise QueryError("query timed out in expression evaluation", kind="timeout")

    def hold(self, samples: int) -> None:
        """Account for a result of so many samples before it is made."""
        self.stats.peak_samples = max(self.stats.peak_samples, samples)
        if samples > self.options.max_samples:
            raise QueryError(
                "query processing would load too many samples into memory in query execution"
            )
