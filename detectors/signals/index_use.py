"""Indexes that cost every write and serve no read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from detectors.detector import SignalContext
from detectors.finding import Evidence, Finding, Impact, Priority
from detectors.fingerprint import fingerprint
from detectors.settings import require
from detectors.sql_names import mysql_name, postgres_name, schema_of
from store.model import METRIC_NAME, Labels
from store.ports import Querier

_UNUSED = "sig:db_index_unused"
_REDUNDANT = "sig:db_index_redundant"
_UPTIME = "sig:db_uptime:seconds"


@dataclass(frozen=True, slots=True)
class IndexUseSettings:
    """When an index is worth telling.

    Attributes:
        min_uptime_s: So long the server must have counted before "never read" means anything.
        max_findings: Most indexes of each kind that are told.
        forget_s: A server that has been away for so long is gone, and its indexes with it.
    """

    min_uptime_s: float = 86_400.0
    max_findings: int = 50
    forget_s: float = 86_400.0

    def __post_init__(self) -> None:
        require(self.min_uptime_s >= 0, "min_uptime_s", "0 or more", self.min_uptime_s)
        most = self.max_findings
        require(1 <= most <= 500, "max_findings", "from 1 to 500", most)
        require(self.forget_s > 0, "forget_s", "above 0", self.forget_s)


@dataclass(frozen=True)
class IndexUse:
    """An index that nothing has read, or that another one makes needless.

    Maths: unused is what the server has counted no read of since its start, at least `min_uptime_s`
    ago (where the start is not known, that is taken on trust). Redundant is an index whose columns
    are the first ones of another index. It ends when the server no longer says so; while the server
    says nothing at all, it holds.

    Parameters: `IndexUseSettings`.

    Example: `ix_order_status` of `shop.shop_order` was not read in 12 days: each order writes it.

    Reference: the MySQL manual, "sys.schema_unused_indexes" and "sys.schema_redundant_indexes"; the
    PostgreSQL manual, "pg_stat_user_indexes", idx_scan.
    """

    settings: IndexUseSettings = field(default_factory=IndexUseSettings)

    kinds: ClassVar[tuple[str, ...]] = ("unused_index", "redundant_index")

    def evaluate(self, querier: Querier, context: SignalContext) -> tuple[Finding, ...]:
        uptimes = {
            labels.get("instance"): seconds
            for labels, seconds in querier.instant(_UPTIME, context.now_ms).items()
        }
        redundant = list(self._redundant(querier, context))
        told = {_place(finding.labels) for finding in redundant}
        unused = [
            finding
            for finding in self._unused(querier, context, uptimes)
            if _place(finding.labels) not in told
        ]
        most = self.settings.max_findings
        found = [*redundant[:most], *unused[:most]]
        # A server that says nothing has dropped no index; one that speaks has said it all.
        speaks = {*uptimes, *(finding.service for finding in found)}
        heard = {key for key, item in context.active.items() if item.service in speaks}
        return (*found, *context.without_data(heard, self.settings.forget_s))

    def _unused(
        self, querier: Querier, context: SignalContext, uptimes: dict[str, float]
    ) -> Iterator[Finding]:
        for labels in _listed(querier, _UNUSED, context.now_ms):
            uptime_s = uptimes.get(labels.get("instance"))
            if uptime_s is None or uptime_s >= self.settings.min_uptime_s:
                counted = f" in {uptime_s / 86_400:.0f} days" if uptime_s is not None else ""
                name = f"Index {labels.get('index')} of {_table(labels)}"
                title = f"{name} was never read{counted}"
                yield _finding(self.kinds[0], labels, title, _unused_fix(labels), context)

    def _redundant(self, querier: Querier, context: SignalContext) -> Iterator[Finding]:
        for labels in _listed(querier, _REDUNDANT, context.now_ms):
            other = labels.get("dominant_index")
            title = f"Index {labels.get('index')} of {_table(labels)} repeats {other}"
            fix = (
                f"{_drop(labels)}; {other} begins with the same columns and serves the same "
                "statements. Keep it if it is UNIQUE and the other one is not."
            )
            yield _finding(self.kinds[1], labels, title, fix, context)


def _listed(querier: Querier, name: str, now_ms: int) -> list[Labels]:
    """What a `sig:` series says yes to, in a fixed order."""
    answer = querier.instant(name, now_ms).items()
    return sorted(labels.drop((METRIC_NAME,)) for labels, value in answer if value == 1)


def _table(labels: Labels) -> str:
    """As it is told."""
    schema = labels.get("schema").replace("|", ".")
    return ".".join(part for part in (schema, labels.get("table")) if part)


def _place(labels: dict[str, str]) -> tuple[str, ...]:
    return tuple(labels.get(name, "") for name in ("instance", "schema", "table", "index"))


def _on_postgresql(labels: Labels) -> bool:
    return labels.get("system") == "postgresql"


def _drop(labels: Labels) -> str:
    if _on_postgresql(labels):
        index = postgres_name(schema_of(labels.get("schema")), labels.get("index"))
        return f"DROP INDEX CONCURRENTLY {index}"
    return f"{_alter(labels)} DROP INDEX {mysql_name(labels.get('index'))}"


def _alter(labels: Labels) -> str:
    return f"ALTER TABLE {mysql_name(labels.get('schema'), labels.get('table'))}"


def _unused_fix(labels: Labels) -> str:
    if _on_postgresql(labels):
        return (
            f"Wait for the month's reports, then {_drop(labels)}. Keep what serves a foreign key, "
            "and look at the replicas' statistics too: each server counts its own reads."
        )
    return (
        f"Make it invisible first ({_alter(labels)} ALTER INDEX {mysql_name(labels.get('index'))} "
        f"INVISIBLE, in MariaDB IGNORED), wait for the month's reports, then {_drop(labels)}. Keep "
        "what is UNIQUE or serves a foreign key, and look at the replicas' statistics too."
    )


def _finding(kind: str, labels: Labels, title: str, fix: str, context: SignalContext) -> Finding:
    server = labels.get("instance")
    key = fingerprint(kind, server, "", repr(labels.keep(("schema", "table", "index"))))
    active = context.active.get(key)
    return Finding(
        fingerprint=key,
        kind=kind,
        priority=Priority.P2,
        title=title,
        service=server,
        route="",
        first_seen_ms=context.now_ms if active is None else active.first_seen_ms,
        last_seen_ms=context.now_ms,
        evidence=Evidence(
            series=_UNUSED if kind == IndexUse.kinds[0] else _REDUNDANT,
            statement=_drop(labels),
            window_start_ms=context.now_ms,
            window_end_ms=context.now_ms,
        ),
        impact=Impact(),
        fix=fix,
        confidence=0.6 if kind == IndexUse.kinds[0] else 0.9,
        labels=labels.to_dict(),
    )
