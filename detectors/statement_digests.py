"""What a database server says of its statements: digests, plans, scans of tables and indexes.

Read from the canonical `sig:` series at one instant: rates of the last 5 minutes, all a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from detectors.index_advice import IndexAdvice
from detectors.sql_names import schema_of
from store.model import Labels
from store.ports import Querier

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
_SCANS = "sig:db_table_scans:rate5m"
_INDEXES = "sig:db_index_columns"


@dataclass(frozen=True, slots=True)
class Digest:
    """What the server says of one statement: rates a second, and its p95 in seconds."""

    labels: Labels
    text: str
    calls: float
    no_index: float
    examined: float
    sent: float
    seconds: float
    p95_s: float = 0.0

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


def read_digests(querier: Querier, now_ms: int) -> Iterator[Digest]:
    """Statements that ran in the last 5 minutes."""
    calls = _sums(querier, _CALLS, now_ms, IDENTITY)
    if not calls:
        return
    names = (_NO_INDEX, EXAMINED, _SENT, TIME, _P95)
    rates = [_sums(querier, name, now_ms, IDENTITY) for name in names]
    texts = {
        series.keep(IDENTITY): series.get("digest_text")
        for series in querier.instant(TIME, now_ms).series
    }
    # PostgreSQL's exporters name a statement by its id, and its text in a series of its own.
    apart = {
        (series.get("instance"), series.get("digest")): series.get("digest_text")
        for series in querier.instant(_TEXT, now_ms).series
    }
    for labels, per_second in calls.items():
        if per_second > 0 and labels in texts:
            digest = labels.get("digest")
            text = texts[labels] or apart.get((labels.get("instance"), digest), digest)
            yield Digest(labels, text, per_second, *(rate.get(labels, 0.0) for rate in rates))


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
