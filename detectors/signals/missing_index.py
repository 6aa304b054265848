"""Statements that cost the server too much: for lack of an index, or just slow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from detectors.detector import SignalContext
from detectors.finding import Evidence, Finding, Impact, Priority
from detectors.fingerprint import fingerprint
from detectors.index_advice import IndexAdvice, advise
from detectors.settings import require
from store.model import Labels
from store.ports import Querier

_IDENTITY = ("instance", "schema", "digest")
_CALLS = "sig:sql_digest_calls:rate5m"
_NO_INDEX = "sig:sql_digest_no_index:rate5m"
_EXAMINED = "sig:sql_digest_rows_examined:rate5m"
_SENT = "sig:sql_digest_rows_sent:rate5m"
_TIME = "sig:sql_digest_time:rate5m"
_P95 = "sig:sql_digest_p95:seconds"
_MAX_FINDINGS = 50
_SHOWN = 160


@dataclass(frozen=True, slots=True)
class MissingIndexSettings:
    """When a statement reads too much, or takes too long.

    Attributes:
        min_rows: Fewest rows that one execution examines.
        min_ratio: Fewest rows examined for each row sent.
        min_no_index: Least share of executions that used no index, from 0 to 1.
        min_calls_per_s: Fewest executions a second.
        slow_s: Mean seconds of an execution from which a statement is slow.
        slow_p95_s: Where the server knows quantiles: p95 from which it is slow, if its mean is now
            a third of that or more.
        page_load: Seconds of work a second from which it may page.
        forget_s: A statement that is not run for so long has ended.
    """

    min_rows: float = 1_000.0
    min_ratio: float = 10.0
    min_no_index: float = 0.5
    min_calls_per_s: float = 0.02
    slow_s: float = 1.0
    slow_p95_s: float = 1.0
    page_load: float = 1.0
    forget_s: float = 900.0

    def __post_init__(self) -> None:
        require(self.min_rows >= 1, "min_rows", "1 or more", self.min_rows)
        require(self.min_ratio >= 1, "min_ratio", "1 or more", self.min_ratio)
        share = self.min_no_index
        require(0 < share <= 1, "min_no_index", "above 0, at most 1", share)
        require(self.min_calls_per_s > 0, "min_calls_per_s", "above 0", self.min_calls_per_s)
        require(self.slow_s > 0, "slow_s", "above 0", self.slow_s)
        require(self.slow_p95_s > 0, "slow_p95_s", "above 0", self.slow_p95_s)
        require(self.page_load > 0, "page_load", "above 0", self.page_load)
        require(self.forget_s > 0, "forget_s", "above 0", self.forget_s)


@dataclass(frozen=True, slots=True)
class _Digest:
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


@dataclass(frozen=True)
class MissingIndex:
    """A statement that scans or is slow, found in the server's own digests.

    Maths: of the executions of the last 5 minutes `min_no_index` or more used no index, one
    examined `min_rows` or more, and it examined `min_ratio` or more rows for each row that it sent
    (one that sends nothing counts as sending one). It is `missing_index` where the statement names
    columns that an index could serve, with the `CREATE INDEX` to try; else `full_scan`. One
    that does not scan is a `slow_query` when an execution takes `slow_s` on average, or when its
    p95 (MySQL 8: since the server's start) is `slow_p95_s` and its mean a third of that. So each
    statement is told once. It pages when it keeps the server busy for `page_load` seconds a second.

    Parameters: `MissingIndexSettings`.

    Example: `SELECT … FROM orders WHERE email = ?` examines 599,120 rows to send 10:
    `CREATE INDEX ix_orders_email ON orders (email)`.

    Reference: the MySQL manual, "Statement Digest Aggregation", SUM_NO_INDEX_USED; M. Winand, "SQL
    Performance Explained".
    """

    settings: MissingIndexSettings = field(default_factory=MissingIndexSettings)

    kinds: ClassVar[tuple[str, ...]] = ("missing_index", "full_scan", "slow_query")

    def evaluate(self, querier: Querier, context: SignalContext) -> tuple[Finding, ...]:
        found: dict[str, Finding] = {}
        judged: set[str] = set()
        for digest in _digests(querier, context.now_ms):
            judged.update(_key(kind, digest) for kind in self.kinds)
            kind = self._kind(digest)
            if kind:
                key = _key(kind, digest)
                found[key] = self._finding(key, kind, digest, context)
        worst = sorted(found.values(), key=_load, reverse=True)[:_MAX_FINDINGS]
        # A statement that nobody runs proves nothing, for a while.
        return (*worst, *context.without_data(judged, self.settings.forget_s))

    def _kind(self, digest: _Digest) -> str:
        """What is wrong with a statement; empty if nothing is."""
        if self._scans(digest):
            return self.kinds[0] if advise(digest.text) else self.kinds[1]
        return self.kinds[2] if self._slow(digest) else ""

    def _slow(self, digest: _Digest) -> bool:
        chosen = self.settings
        if digest.calls < chosen.min_calls_per_s:
            return False
        tail = digest.p95_s >= chosen.slow_p95_s and digest.mean_s >= chosen.slow_p95_s / 3
        return tail or digest.mean_s >= chosen.slow_s

    def _scans(self, digest: _Digest) -> bool:
        chosen = self.settings
        return (
            digest.calls >= chosen.min_calls_per_s
            and digest.no_index >= chosen.min_no_index * digest.calls
            and digest.rows >= chosen.min_rows
            and digest.ratio >= chosen.min_ratio
        )

    def _finding(self, key: str, kind: str, digest: _Digest, context: SignalContext) -> Finding:
        active = context.active.get(key)
        since_ms = context.now_ms if active is None else active.first_seen_ms
        server = digest.labels.get("instance")
        pages = digest.seconds >= self.settings.page_load
        return Finding(
            fingerprint=key,
            kind=kind,
            priority=Priority.P1 if pages else Priority.P2,
            title=_title(kind, digest),
            service=server,
            route="",
            first_seen_ms=since_ms,
            last_seen_ms=context.now_ms,
            evidence=Evidence(
                series=(_TIME if kind == self.kinds[2] else _EXAMINED) + _selector(digest.labels),
                statement=digest.text,
                window_start_ms=context.now_ms - 300_000,
                window_end_ms=context.now_ms,
                detail={
                    "rows_examined": round(digest.rows, 1),
                    "rows_sent": round(digest.sent / digest.calls, 1),
                    "no_index_ratio": round(digest.no_index / digest.calls, 3),
                    "load_seconds_per_second": round(digest.seconds, 4),
                    "mean_seconds": round(digest.mean_s, 4),
                    "p95_seconds": round(digest.p95_s, 4),
                },
            ),
            impact=Impact(
                wasted_seconds_per_request=digest.seconds / digest.calls,
                requests_per_second=round(digest.calls, 3),
            ),
            fix=_fix(kind, advise(digest.text)),
            confidence=0.7 if kind == self.kinds[1] else 0.8,
            labels=digest.labels.to_dict(),
        )


def _load(finding: Finding) -> float:
    return float(finding.evidence.detail["load_seconds_per_second"])


def _key(kind: str, digest: _Digest) -> str:
    return fingerprint(kind, digest.labels.get("instance"), "", repr(digest.labels))


def _title(kind: str, digest: _Digest) -> str:
    text = " ".join(digest.text.split())[:_SHOWN]
    if kind == MissingIndex.kinds[2]:
        slowest_s = max(digest.mean_s, digest.p95_s)
        which = "p95" if digest.p95_s >= digest.mean_s else "on average"
        return f"A statement takes {slowest_s:.1f} s {which}: {text}"
    return f"{digest.rows:,.0f} rows read for {digest.sent / digest.calls:,.0f} sent: {text}"


def _fix(kind: str, advice: IndexAdvice | None) -> str:
    if kind == MissingIndex.kinds[2]:
        return (
            "Look at EXPLAIN ANALYZE: a sort or a temporary table without an index, too many rows "
            "fetched, a lock that it waits for. Ask for fewer rows, or keep the answer."
        )
    if advice is None:
        return (
            "No plain index serves this statement: give it a WHERE on an indexed column, a LIMIT, "
            "or keep its answer; a function around a column or an OR hides an index."
        )
    return (
        f"{advice.statement}; look at EXPLAIN before and after, and build it while it is quiet "
        "(ALGORITHM=INPLACE, LOCK=NONE)."
    )


def _selector(labels: Labels) -> str:
    inner = ",".join(f'{name}="{value}"' for name, value in labels if '"' not in value)
    return f"{{{inner}}}"


def _digests(querier: Querier, now_ms: int) -> Iterator[_Digest]:
    """Statements that ran in the last 5 minutes."""
    calls = _rates(querier, _CALLS, now_ms)
    if not calls:
        return
    rates = [_rates(querier, name, now_ms) for name in (_NO_INDEX, _EXAMINED, _SENT, _TIME, _P95)]
    texts = {
        series.keep(_IDENTITY): series.get("digest_text")
        for series in querier.instant(_TIME, now_ms).series
    }
    for labels, per_second in calls.items():
        if per_second > 0 and labels in texts:
            # PostgreSQL's exporters name a statement by its id alone.
            text = texts[labels] or labels.get("digest")
            yield _Digest(labels, text, per_second, *(rate.get(labels, 0.0) for rate in rates))


def _rates(querier: Querier, name: str, now_ms: int) -> Mapping[Labels, float]:
    sums: dict[Labels, float] = {}
    for series, value in querier.instant(name, now_ms).items():
        labels = series.keep(_IDENTITY)
        sums[labels] = sums.get(labels, 0.0) + value
    return sums
