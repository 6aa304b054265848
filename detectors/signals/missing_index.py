"""Statements that cost the server too much: for lack of an index, or just slow."""

from __future__ import annotations

import re
from collections.abc import Iterable, Set
from dataclasses import dataclass, field, replace
from typing import ClassVar

from detectors.detector import SignalContext
from detectors.finding import Evidence, Finding, Impact, Priority
from detectors.fingerprint import fingerprint
from detectors.index_advice import IndexAdvice, advise, is_cut_off
from detectors.settings import require
from detectors.sql_names import schema_of
from detectors.statement_digests import (
    EXAMINED,
    TABLE_ROWS,
    TIME,
    WINDOW_S,
    Digest,
    Index,
    IndexCatalogue,
    PlanStep,
    TableScan,
    read_digests,
    read_plans,
    read_table_scans,
)
from store.model import Labels
from store.ports import Querier

_MAX_FINDINGS = 50
_SLOW = "slow_query"
# A whole table, or a whole index.
_SCANNING = frozenset({"ALL", "index"})
_SHOWN = 160
# Seconds of work a second that not even several reports at once make, in `page_load`.
_BATCH_LOAD = 4.0
_REPLICAS = "sig:db_is_replica"
# A backup's read, or a wait on purpose: neither is work that an index makes less.
_MEANT = re.compile(
    r"\bSQL_NO_CACHE\b|^\s*COPY\b.*\bTO STDOUT|\b(GET_LOCK|SLEEP|PG_SLEEP|PG_ADVISORY_\w*LOCK"
    r"|\w+_POS_WAIT|WAIT_FOR_EXECUTED_GTID_SET|WAIT_UNTIL_SQL_THREAD_AFTER_GTIDS)`?\s*\(",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class MissingIndexSettings:
    """When a statement reads too much, or takes too long.

    Attributes:
        min_rows: Fewest rows that one execution examines.
        min_ratio: Fewest rows examined for each row sent.
        min_no_index: Least share of executions that used no index, from 0 to 1.
        min_calls_per_s: Fewest executions, or scans of a table, a second.
        min_table_rows: Fewest rows of a scan, where the server counts scans by table.
        min_slow_calls_per_s: Fewest executions a second of what is slow; two in five minutes.
        slow_s: Mean seconds of an execution from which a statement is slow.
        slow_p95_s: Where the server knows quantiles: p95 from which it is slow, if its mean is now
            a third of that or more.
        page_load: Seconds of work a second from which it may page.
        page_calls_per_s: Fewest executions a second of what pages so; what is run less often, as
            reports are, pages from four times that work on.
        forget_s: A statement that is not run for so long has ended.
    """

    min_rows: float = 1_000.0
    min_ratio: float = 10.0
    min_no_index: float = 0.5
    min_calls_per_s: float = 0.02
    min_table_rows: float = 5_000.0
    min_slow_calls_per_s: float = 0.006
    slow_s: float = 1.0
    slow_p95_s: float = 1.0
    page_load: float = 1.0
    page_calls_per_s: float = 0.5
    forget_s: float = 900.0

    def __post_init__(self) -> None:
        require(self.min_rows >= 1, "min_rows", "1 or more", self.min_rows)
        require(self.min_ratio >= 1, "min_ratio", "1 or more", self.min_ratio)
        share = self.min_no_index
        require(0 < share <= 1, "min_no_index", "above 0, at most 1", share)
        for name in (
            "min_calls_per_s", "min_table_rows", "min_slow_calls_per_s", "slow_s", "slow_p95_s",
            "page_load", "page_calls_per_s", "forget_s",
        ):  # fmt: skip
            require(getattr(self, name) > 0, name, "above 0", getattr(self, name))


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What is wrong with a statement, the index that would help, and what EXPLAIN says of it."""

    kind: str
    advice: IndexAdvice | None = None
    there: Index | None = None
    step: PlanStep | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    """What else is known: the statement's plan, the indexes, and which servers are replicas."""

    plan: tuple[PlanStep, ...]
    there: IndexCatalogue
    replicas: Set[str]


@dataclass(frozen=True)
class MissingIndex:
    """A statement that scans or is slow, found in the server's own digests.

    Maths: of the executions of the last 5 minutes `min_no_index` or more used no index, one
    examined `min_rows` or more, and it examined `min_ratio` or more rows for each row that it sent
    (one that sends nothing counts as sending one). Where EXPLAIN was asked, it must scan a table,
    too. It is `missing_index` where the statement names columns that an index could serve and none
    does, with the `CREATE INDEX` to try: on the table that EXPLAIN says is scanned. Else it is
    `full_scan`. One that does not scan is a `slow_query` when an execution takes `slow_s` on
    average, or when its p95 (MySQL 8: since the server's start) is `slow_p95_s` and its mean a
    third of that. So each statement is told once. It pages when it keeps the server busy for
    `page_load` seconds a second, and is run `page_calls_per_s` or makes four times that load and
    runs on no replica. What a backup reads and what waits on purpose (a lock) never pages.

    What began just now hides in a rate of minutes: the last 10, 30 and 60 s are judged in the same
    way, where the statement ran twice or more in them. They page nobody.

    PostgreSQL counts scans by table. A table that is scanned `min_calls_per_s` with
    `min_table_rows` each is told with the dearest statement that reads it and names columns
    without an index, as `missing_index`; without such a statement as `full_scan`. It never pages.

    Parameters: `MissingIndexSettings`.

    Example: `SELECT … FROM orders WHERE email = ?` examines 599,120 rows to send 10:
    `CREATE INDEX ix_orders_email ON orders (email)`.

    Reference: the MySQL manual, "Statement Digest Aggregation", SUM_NO_INDEX_USED; M. Winand, "SQL
    Performance Explained".
    """

    settings: MissingIndexSettings = field(default_factory=MissingIndexSettings)

    kinds: ClassVar[tuple[str, ...]] = ("missing_index", "full_scan", _SLOW)

    def evaluate(self, querier: Querier, context: SignalContext) -> tuple[Finding, ...]:
        found: dict[str, Finding] = {}
        judged: set[str] = set()
        statements = tuple(read_digests(querier, context.now_ms))
        plans = read_plans(querier, context.now_ms) if statements else {}
        replicas = _replicas(querier, context.now_ms) if statements else frozenset()
        there = IndexCatalogue(querier, context.now_ms)
        for times in statements:
            judged.update(_key(kind, times[0].labels) for kind in self.kinds)
            finding = self._worst(
                times, _Known(plans.get(times[0].labels, ()), there, replicas), context
            )
            if finding is not None:
                found[finding.fingerprint] = finding
        for scan in read_table_scans(querier, context.now_ms):
            judged.update(_key(kind, scan.labels) for kind in self.kinds)
            if self._heavy(scan):
                digests = (times[0] for times in statements)
                finding = _of_table(scan, _reader(scan, digests, there), context)
                found[finding.fingerprint] = finding
        worst = sorted(found.values(), key=_load, reverse=True)[:_MAX_FINDINGS]
        # A statement that nobody runs proves nothing, for a while.
        return (*worst, *context.without_data(judged, self.settings.forget_s))

    def _worst(
        self,
        times: tuple[Digest, ...],
        known: _Known,
        context: SignalContext,
    ) -> Finding | None:
        """What five minutes say of a statement, or else what its last seconds say.

        Five minutes may know too few executions to say that it scans: it is slow to them.
        """
        wrong = [
            (digest.window_s >= WINDOW_S and self._pages(digest, known.replicas), digest, verdict)
            for digest in times
            if (verdict := self._judge(digest, known.plan, known.there)).kind
        ]
        if not wrong:
            return None
        # What pages comes first, then what says why it is slow.
        pages, digest, verdict = min(wrong, key=lambda one: (not one[0], one[2].kind == _SLOW))
        return self._finding(verdict, digest, context, pages=pages)

    def _pages(self, digest: Digest, replicas: Set[str]) -> bool:
        """It keeps the server busy, and is no report that one connection asks again and again.

        On a replica there may be many of these: that is what it is for.
        """
        chosen = self.settings
        often = digest.calls >= chosen.page_calls_per_s
        report = not often and digest.labels.get("instance") in replicas
        if report or digest.seconds < chosen.page_load * (1 if often else _BATCH_LOAD):
            return False
        return _MEANT.search(digest.text) is None

    def _judge(self, digest: Digest, plan: tuple[PlanStep, ...], there: IndexCatalogue) -> _Verdict:
        """What is wrong with a statement; the empty kind if nothing is."""
        scanned = next((step for step in plan if step.access_type in _SCANNING), None)
        if not self._scans(digest) or (plan and scanned is None):
            return _Verdict(self.kinds[2] if self._slow(digest) else "")
        advice = advise(digest.text, "mysql", "" if scanned is None else scanned.table)
        server, schema = digest.labels.get("instance"), digest.labels.get("schema")
        index = there.serving(server, schema, advice) if advice else None
        kind = self.kinds[0] if advice and index is None else self.kinds[1]
        return _Verdict(kind, advice, index, scanned)

    def _heavy(self, scan: TableScan) -> bool:
        often = scan.scans >= self.settings.min_calls_per_s
        return often and scan.rows_each >= self.settings.min_table_rows

    def _slow(self, digest: Digest) -> bool:
        chosen = self.settings
        if digest.calls < chosen.min_slow_calls_per_s:
            return False
        tail = digest.p95_s >= chosen.slow_p95_s and digest.mean_s >= chosen.slow_p95_s / 3
        return tail or digest.mean_s >= chosen.slow_s

    def _scans(self, digest: Digest) -> bool:
        chosen = self.settings
        return (
            digest.calls >= chosen.min_calls_per_s
            and digest.no_index >= chosen.min_no_index * digest.calls
            and digest.rows >= chosen.min_rows
            and digest.ratio >= chosen.min_ratio
        )

    def _finding(
        self, verdict: _Verdict, digest: Digest, context: SignalContext, *, pages: bool
    ) -> Finding:
        kind, step = verdict.kind, verdict.step
        key = _key(kind, digest.labels)
        active = context.active.get(key)
        detail: dict[str, float | str] = {
            "rows_examined": round(digest.rows, 1),
            "rows_sent": round(digest.sent / digest.calls, 1),
            "no_index_ratio": round(digest.no_index / digest.calls, 3),
            "load_seconds_per_second": round(digest.seconds, 4),
            "mean_seconds": round(digest.mean_s, 4),
            "p95_seconds": round(digest.p95_s, 4),
        }
        if step is not None:
            detail["explain"] = f"{step.table}: {step.access_type}, {step.rows:,.0f} rows"
        return Finding(
            fingerprint=key,
            kind=kind,
            priority=Priority.P1 if pages else Priority.P2,
            title=_title(kind, digest),
            service=digest.labels.get("instance"),
            route="",
            first_seen_ms=context.now_ms if active is None else active.first_seen_ms,
            last_seen_ms=context.now_ms,
            evidence=Evidence(
                series=(TIME if kind == self.kinds[2] else EXAMINED) + _selector(digest.labels),
                statement=digest.text,
                window_start_ms=context.now_ms - int(digest.window_s * 1_000),
                window_end_ms=context.now_ms,
                detail=detail,
            ),
            impact=Impact(
                wasted_seconds_per_request=digest.seconds / digest.calls,
                requests_per_second=round(digest.calls, 3),
            ),
            fix=_fix(verdict, digest),
            confidence=0.9 if step is not None else 0.7 if kind == self.kinds[1] else 0.8,
            labels=digest.labels.to_dict(),
        )


def _replicas(querier: Querier, now_ms: int) -> frozenset[str]:
    replicas = querier.instant(_REPLICAS, now_ms).items()
    return frozenset(labels.get("instance") for labels, value in replicas if value == 1)


def _reader(
    scan: TableScan, digests: Iterable[Digest], there: IndexCatalogue
) -> tuple[Digest, IndexAdvice] | None:
    """The dearest statement that reads a table and names columns without an index."""
    server, table = scan.labels.get("instance"), scan.labels.get("table")
    schema = schema_of(scan.labels.get("schema"))
    for digest in sorted(digests, key=lambda one: (-one.seconds, one.text)):
        if digest.labels.get("instance") != server or table.lower() not in digest.text.lower():
            continue
        advice = advise(digest.text, "postgres", table)
        if advice is None or advice.schema not in ("", schema):
            continue
        if there.serving(server, schema, advice) is None:
            # Only the usual schema is found without its name.
            return digest, advice if schema == "public" else replace(advice, schema=schema)
    return None


def _of_table(
    scan: TableScan, reader: tuple[Digest, IndexAdvice] | None, context: SignalContext
) -> Finding:
    kind = MissingIndex.kinds[1] if reader is None else MissingIndex.kinds[0]
    key = _key(kind, scan.labels)
    active = context.active.get(key)
    name = f"{scan.labels.get('schema').replace('|', '.')}.{scan.labels.get('table')}"
    server = scan.labels.get("instance")
    return Finding(
        fingerprint=key,
        kind=kind,
        priority=Priority.P2,
        title=f"Table {name} of {server} is read from end to end {scan.scans:.2g} times a second, "
        f"{scan.rows_each:,.0f} rows each",
        service=server,
        route="",
        first_seen_ms=context.now_ms if active is None else active.first_seen_ms,
        last_seen_ms=context.now_ms,
        evidence=Evidence(
            series=TABLE_ROWS + _selector(scan.labels),
            statement="" if reader is None else reader[0].text,
            window_start_ms=context.now_ms - int(WINDOW_S * 1_000),
            window_end_ms=context.now_ms,
            detail={
                "rows_examined": round(scan.rows_each, 1),
                "scans_per_second": round(scan.scans, 4),
                "load_seconds_per_second": 0.0 if reader is None else round(reader[0].seconds, 4),
            },
        ),
        impact=Impact(requests_per_second=round(scan.scans, 3)),
        fix=_NO_READER if reader is None else f"{reader[1].concurrent}; {_LOOK}",
        confidence=0.6,
        labels=scan.labels.to_dict(),
    )


def _load(finding: Finding) -> tuple[float, float]:
    detail = finding.evidence.detail
    return float(detail["load_seconds_per_second"]), float(detail["rows_examined"])


def _key(kind: str, labels: Labels) -> str:
    return fingerprint(kind, labels.get("instance"), "", repr(labels))


def _title(kind: str, digest: Digest) -> str:
    text = " ".join(digest.text.split())[:_SHOWN]
    if kind == MissingIndex.kinds[2]:
        slowest_s = max(digest.mean_s, digest.p95_s)
        which = "p95" if digest.p95_s >= digest.mean_s else "on average"
        return f"A statement takes {slowest_s:.1f} s {which}: {text}"
    return f"{digest.rows:,.0f} rows read for {digest.sent / digest.calls:,.0f} sent: {text}"


_LOOK = "look at EXPLAIN before and after, and build it while it is quiet"
_NO_READER = (
    "Look in pg_stat_statements (or auto_explain) for the statements that read it, and give them a "
    "WHERE on an indexed column or a LIMIT. A table that is always read whole wants a cache."
)


def _fix(verdict: _Verdict, digest: Digest) -> str:
    if verdict.kind == MissingIndex.kinds[2]:
        return (
            "Look at EXPLAIN ANALYZE: a sort or a temporary table without an index, too many rows "
            "fetched, a lock that it waits for. Ask for fewer rows, or keep the answer."
        )
    if verdict.there is not None:
        index = verdict.there
        return (
            f"Index {index.name} ({', '.join(index.columns)}) is there and is not used: look at "
            "EXPLAIN for another type or collation of what it is compared with, run ANALYZE TABLE, "
            "or ask for fewer rows where most of them match."
        )
    if verdict.advice is not None:
        return f"{verdict.advice.statement}; {_LOOK} (ALGORITHM=INPLACE, LOCK=NONE)."
    if is_cut_off(digest.text):
        return (
            "Its text is cut off, so that no index can be told: look at EXPLAIN, and let the "
            "exporter keep more of it (digest_text_limit)."
        )
    return (
        "No plain index serves this statement: give it a WHERE on an indexed column, a LIMIT, "
        "or keep its answer; a function around a column or an OR hides an index."
    )


def _selector(labels: Labels) -> str:
    inner = ",".join(f'{name}="{value}"' for name, value in labels if '"' not in value)
    return f"{{{inner}}}"
