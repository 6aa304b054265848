"""What a database server says of its statements: digests, plans, scans of tables and indexes.

Read from the canonical `sig:` series at one instant: rates of the last 5 minutes, all a second.
What began just now is read from the counters of the last minute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from detectors.increases import of_each
from detectors.index_advice import IndexAdvice
from detectors.sql_names import schema_of
from store.model import Float64Array, Labels
from store.ports import Querier

# The rates of the canonical series.
WINDOW_S = 300.0
IDENTITY = ("instance", "schema", "digest")
TABLE = ("instance", "schema", "table")
EXAMINED = "sig:sql_digest_rows_examined:rate5m"
TIME = "sig:sql_digest_time:rate5m"
TABLE_ROWS = "sig:db_table_scan_rows:rate5m"
_CALLS = "sig:sql_digest_calls:rate5m"
_NO_INDEX = "sig:sql_digest_no_index:rate5m"
_SENT = "sig:sql_digest_rows_sent:rate5m"
_P95 = "sig:sql_digest_p95:seconds"
_TEXT = "sig:sql_digest_text"
_PLAN = "sig:sql_plan_rows"
_STEP_MS = 5_000
# Seconds back that are judged by themselves, the shortest first: what was fast for minutes hides
# in a rate of minutes when it turns slow.
_RECENT_S = (10, 30, 60)
# A digest that comes among the dearest with all that it ever did is no news: nobody works so much.
_MOST_LOAD = 100.0
_LEAST_CALLS = 2
_SERVER = ("instance",)
# Figures of a digest: calls, those without an index, rows examined, rows sent, seconds.
_NUMBER = 5
# Counters by the names of exporters and collectors: which figure of a digest it is, and one unit.
_PERF_SCHEMA = "mysql_perf_schema_events_statements"
_EVENT_COUNT = "mysql_statement_event_count"
_FIGURES = {
    (f"{_PERF_SCHEMA}_total", ""): (0, 1.0),
    (f"{_PERF_SCHEMA}_no_index_used_total", ""): (1, 1.0),
    (f"{_PERF_SCHEMA}_rows_examined_total", ""): (2, 1.0),
    (f"{_PERF_SCHEMA}_rows_sent_total", ""): (3, 1.0),
    (f"{_PERF_SCHEMA}_seconds_total", ""): (4, 1.0),
    (f"{_EVENT_COUNT}_stars", ""): (0, 1.0),
    (f"{_EVENT_COUNT}_stars_total", ""): (0, 1.0),
    (_EVENT_COUNT, "no_index_used"): (1, 1.0),
    (_EVENT_COUNT, "rows_examined"): (2, 1.0),
    (_EVENT_COUNT, "rows_sent"): (3, 1.0),
    ("mysql_statement_event_wait_time_nanoseconds", ""): (4, 1e-9),
    ("pg_stat_statements_calls_total", ""): (0, 1.0),
    ("pg_stat_statements_seconds_total", ""): (4, 1.0),
}
# All in one query: each costs a search of the store.
_COUNTERS = f"{{__name__=~'{'|'.join(sorted({name for name, _ in _FIGURES}))}'}}"
_SCANS = "sig:db_table_scans:rate5m"
_INDEXES = "sig:db_index_columns"


@dataclass(frozen=True, slots=True)
class Digest:
    """What the server says of one statement in a time: rates a second, its p95 in seconds."""

    labels: Labels
    text: str
    calls: float
    no_index: float
    examined: float
    sent: float
    seconds: float
    p95_s: float = 0.0
    window_s: float = WINDOW_S

    @property
    def mean_s(self) -> float:
        return self.seconds / self.calls

    @property
    def rows(self) -> float:
        return self.examined / self.calls

    @property
    def ratio(self) -> float:
        return self.examined / max(self.sent, self.calls)


@dataclass(frozen=True, slots=True)
class TableScan:
    """A table that is read from end to end: scans a second, and rows that they read."""

    labels: Labels
    scans: float
    rows: float

    @property
    def rows_each(self) -> float:
        return self.rows / self.scans


@dataclass(frozen=True, slots=True)
class PlanStep:
    """One table of a statement's plan: its alias, how it is reached, and rows read for it."""

    table: str
    access_type: str
    rows: float


@dataclass(frozen=True, slots=True)
class Index:
    """An index that is there: its name, and its columns in their order, in small letters."""

    name: str
    columns: tuple[str, ...]


def read_digests(querier: Querier, now_ms: int) -> Iterator[tuple[Digest, ...]]:
    """What each statement did: in the last 5 minutes, and in its last 10, 30 and 60 s.

    Of these times only those are there in which it ran (twice or more in the short ones).

    Raises:
        QueryError: The series cannot be read.
    """
    recent = _RecentCounts(querier, now_ms)
    names = (_CALLS, _NO_INDEX, EXAMINED, _SENT, TIME, _P95)
    calls, *rates = (_sums(querier, name, now_ms, IDENTITY) for name in names)
    texts = {
        series.keep(IDENTITY): series.get("digest_text")
        for series in querier.instant(TIME, now_ms).series
    }
    # PostgreSQL's exporters name a statement by its id, and its text in a series of its own.
    apart = {
        (series.get("instance"), series.get("digest")): series.get("digest_text")
        for series in querier.instant(_TEXT, now_ms).series
    }
    for labels in dict.fromkeys((*texts, *recent.texts)):
        digest = labels.get("digest")
        text = texts.get(labels) or recent.texts.get(labels)
        text = text or apart.get((labels.get("instance"), digest), digest)
        times = [
            replace(Digest(labels, text, *figures), window_s=window_s)
            for window_s, figures in recent.of(labels)
        ]
        per_second = calls.get(labels, 0.0)
        if per_second > 0:
            figures = (rate.get(labels, 0.0) for rate in rates)
            times.insert(0, Digest(labels, text, per_second, *figures))
        if times:
            yield tuple(times)


class _RecentCounts:
    """Counters of statements within the last minute, and their texts."""

    def __init__(self, querier: Querier, now_ms: int) -> None:
        start_ms = now_ms - _RECENT_S[-1] * 1_000
        matrix = querier.range(_COUNTERS, start_ms, now_ms, _STEP_MS)
        # A digest that appears on a server that was known before counts from zero.
        steps = of_each(matrix, _SERVER)
        lasts = [steps[:, -window_s * 1_000 // _STEP_MS :].sum(axis=1) for window_s in _RECENT_S]
        sums = np.stack(lasts, axis=1)
        now = matrix.present[:, -1] if len(matrix.series) else ()
        self.texts: dict[Labels, str] = {}
        self._sums: dict[Labels, Float64Array] = {}
        counted: set[str] = set()
        for series, row, present in zip(matrix.series, sums, now, strict=True):
            figure, unit = _FIGURES.get((series.metric, series.get("kind")), (None, 1.0))
            if figure is None:
                continue
            labels = _identity(series)
            figures = self._sums.setdefault(labels, np.zeros((_NUMBER, len(_RECENT_S))))
            figures[figure] += row * unit
            if figure == 0:
                counted.add(labels.get("instance"))
            elif figure == _NUMBER - 1 and present:
                self.texts[labels] = series.get("digest_text")
        for labels, figures in self._sums.items():
            # A collector may tell of calls only when they used no index.
            if labels.get("instance") not in counted:
                figures[0] = figures[1]

    def of(self, labels: Labels) -> Iterator[tuple[int, list[float]]]:
        """Each of the last times in seconds, the shortest first, and its five figures a second."""
        figures = self._sums.get(labels)
        if figures is None:
            return
        for window_s, sums in zip(_RECENT_S, figures.T, strict=True):
            if sums[0] >= _LEAST_CALLS and sums[-1] <= _MOST_LOAD * window_s:
                yield window_s, (sums / window_s).tolist()


@lru_cache(maxsize=4_096)
def _identity(series: Labels) -> Labels:
    """A digest's, by whatever names its exporter has for that."""
    names = series.to_dict()
    return Labels.of(
        instance=names.get("instance", ""),
        schema=names.get("schema") or names.get("datname", ""),
        digest=names.get("digest") or names.get("queryid", ""),
    )


def read_table_scans(querier: Querier, now_ms: int) -> Iterator[TableScan]:
    """Tables that were scanned in the last 5 minutes, where the server counts that by table."""
    rows = _sums(querier, TABLE_ROWS, now_ms, TABLE)
    for labels, scans in _sums(querier, _SCANS, now_ms, TABLE).items():
        if scans > 0:
            yield TableScan(labels, scans, rows.get(labels, 0.0))


def read_plans(querier: Querier, now_ms: int) -> Mapping[Labels, tuple[PlanStep, ...]]:
    """Plans by the identity of their statement, the step that reads most first."""
    found: dict[Labels, list[PlanStep]] = {}
    for series, rows in querier.instant(_PLAN, now_ms).items():
        step = PlanStep(series.get("table"), series.get("access_type"), rows)
        found.setdefault(series.keep(IDENTITY), []).append(step)
    return {
        labels: tuple(sorted(steps, key=lambda step: (-step.rows, step.table)))
        for labels, steps in found.items()
    }


class IndexCatalogue:
    """Which indexes there are, as far as anybody says."""

    def __init__(self, querier: Querier, now_ms: int) -> None:
        self._found: dict[tuple[str, str, str], list[Index]] = {}
        for series in sorted(querier.instant(_INDEXES, now_ms).series):
            place = _place(series.get("instance"), series.get("schema"), series.get("table"))
            columns = tuple(series.get("columns").lower().split(","))
            self._found.setdefault(place, []).append(Index(series.get("index"), columns))

    def serving(self, instance: str, schema: str, advice: IndexAdvice) -> Index | None:
        """An index that does what is advised; None where none is known.

        It begins with the columns compared for equality, in whatever order, and goes on with the
        range or the order.

        Args:
            instance: The server.
            schema: Where a table is looked for that the statement names alone.
            advice: What is wanted.
        """
        wanted = tuple(column.lower() for column in advice.columns)
        equal = advice.equal
        place = _place(instance, advice.schema or schema, advice.table)
        for index in self._found.get(place, ()):
            begins = set(index.columns[:equal]) == set(wanted[:equal])
            if begins and index.columns[equal : len(wanted)] == wanted[equal:]:
                return index
        return None


def _place(instance: str, schema: str, table: str) -> tuple[str, str, str]:
    return instance, schema_of(schema).lower(), table.lower()


def _sums(querier: Querier, name: str, now_ms: int, by: tuple[str, ...]) -> Mapping[Labels, float]:
    sums: dict[Labels, float] = {}
    for series, value in querier.instant(name, now_ms).items():
        labels = series.keep(by)
        sums[labels] = sums.get(labels, 0.0) + value
    return sums
