"""Spans: appended in commit order, read by arrival, by trace and by search."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from store.backends.duckdb.coded import check_dictionaries, coded, is_coded
from store.backends.duckdb.database import Database, arrow
from store.backends.duckdb.tail import Tail, rows_after
from store.errors import BadInput, LimitExceeded
from store.model import SPAN_CODED_SCHEMA, SPAN_READ_SCHEMA, SPAN_SCHEMA
from store.ports import TROUBLED_SCHEMA, TraceQuery

_COLUMNS = ", ".join(f'"{name}"' for name in SPAN_READ_SCHEMA.names)
# Rows lie in commit order and scans keep it, so a limit takes the lowest `seq` first.
_AFTER = f"SELECT {_COLUMNS} FROM spans WHERE seq > ? ORDER BY seq LIMIT ?"  # noqa: S608
_STORED = "spans"
_WITH_AHEAD = f"(SELECT {_COLUMNS} FROM spans UNION ALL SELECT {_COLUMNS} FROM ahead)"  # noqa: S608
_TRACES = (
    "SELECT {columns} FROM {rows} WHERE trace_id IN (SELECT unnest(?::BLOB[]))"
    " QUALIFY row_number() OVER (PARTITION BY trace_id, span_id ORDER BY seq DESC) = 1"
    " ORDER BY trace_id, start_ns, span_id"
)
_FOUND = (
    "SELECT trace_id, max(start_ns) AS latest FROM {rows} WHERE {where}"
    " GROUP BY trace_id ORDER BY latest DESC, trace_id LIMIT ?"
)
# The first server span of a trace is the request that the visitor made. One row that is no JSON
# must not fail the query.
_TROUBLED = (
    "WITH odd AS (SELECT DISTINCT trace_id FROM {rows} WHERE kind = 2 AND start_ns BETWEEN ? AND ?"
    " AND (status = 2 OR http_status >= 500 OR end_ns - start_ns >= ?) LIMIT ?),"
    " entry AS (SELECT * FROM {rows} WHERE kind = 2 AND start_ns BETWEEN ? AND ?"
    " AND trace_id IN (SELECT trace_id FROM odd)"
    " QUALIFY row_number() OVER (PARTITION BY trace_id ORDER BY start_ns, span_id) = 1),"
    " troubled AS (SELECT trace_id, coalesce(TRY_CAST(attributes AS JSON) ->> '/session.id',"
    " TRY_CAST(attributes AS JSON) ->> '/session_id') AS session_id, start_ns // 1000000 AS ts_ms,"
    " coalesce(status = 2 OR http_status >= 500, false) AS failed FROM entry"
    " WHERE failed OR end_ns - start_ns >= ?)"
    # One row even when none is troubled: it tells whether all were looked at.
    " SELECT troubled.*, looked_at FROM (SELECT count(*) AS looked_at FROM odd)"
    " LEFT JOIN troubled ON true ORDER BY ts_ms, trace_id"
)
_OPERATIONS = "SELECT DISTINCT service, name, kind FROM {rows} WHERE seq > ? AND seq <= ?"
# OpenTracing's libraries, and bridges to them, say so in an attribute. Few rows have it, and
# reading JSON costs more than looking for its name.
_FAILED = (
    "(status = 2 OR coalesce(contains(attributes, '\"error\"')"
    " AND TRY_CAST(attributes AS JSON) ->> '/error' = 'true', false))"
)

# Where a searched attribute lives when the collector has promoted it out of the JSON.
_PROMOTED = {
    "http.method": "http_method",
    "http.request.method": "http_method",
    "http.route": "http_route",
    "http.status_code": "http_status",
    "http.response.status_code": "http_status",
    "http.url": "url",
    "http.target": "url",
    "url.full": "url",
    "url.path": "url",
    "net.peer.name": "server_address",
    "server.address": "server_address",
    "db.system": "db_system",
    "db.system.name": "db_system",
    "db.statement": "statement",
    "db.query.text": "statement",
    "code.filepath": "code_file",
    "code.file.path": "code_file",
    "code.lineno": "code_line",
    "code.line.number": "code_line",
    "code.function": "code_function",
    "code.function.name": "code_function",
    "otel.scope.name": "scope",
    "otel.library.name": "scope",
    "otel.status_description": "status_message",
}
_KINDS = {"unspecified": 0, "internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}
_STATUSES = {"UNSET": 0, "OK": 1, "ERROR": 2}
_MOST_ATTRIBUTES = 20
_MOST_TRACES = 10_000
_MOST_TROUBLED = 200_000


def checked(table: pa.Table) -> pa.Table:
    """The table with exactly the columns of `SPAN_CODED_SCHEMA`.

    Raises:
        BadInput: A column is missing, of another type, or null where it must not be; or a
            dictionary has a null, or a text twice.
    """
    if table.schema.equals(SPAN_CODED_SCHEMA):
        table = conform(table, SPAN_CODED_SCHEMA)
        # Without empty chunks: nobody looks at their dictionaries, and joining would.
        table = pa.Table.from_batches(table.to_batches(), table.schema)
        check_dictionaries(table)
        return table
    return coded(conform(table, SPAN_SCHEMA), SPAN_CODED_SCHEMA)


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Columns in the schema's order and types, and each cell valid.

    Once a row is acknowledged, the database must not refuse it.

    Raises:
        BadInput: As `checked`.
    """
    same = table.schema.equals(schema)
    if not same:
        present = set(table.column_names)
        missing = [name for name in schema.names if name not in present]
        if missing:
            raise BadInput(f"the batch lacks the columns {', '.join(missing)}")
        table = table.select(schema.names)
    try:
        table.validate(full=True)
        _check_nulls(table, schema)
        return table if same else table.cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as exc:
        raise BadInput(f"a column of the batch does not have its type: {exc}") from exc


def _check_nulls(table: pa.Table, schema: pa.Schema) -> None:
    needed = [at for at, field in enumerate(schema) if not field.nullable]
    for batch in table.to_batches():  # whose columns cost a third of the table's to look at
        for at in needed:
            if batch.column(at).null_count:
                raise BadInput(f"the column {schema.names[at]} of the batch has nulls")


class SpanStore:
    """Implements `SpanReader` over the table and what is ahead of it.

    What is ahead is looked at first: a span that moves into the table in between is then seen
    twice and told once, never missed.
    """

    def __init__(self, database: Database, tail: Tail) -> None:
        self._database = database
        self._tail = tail
        self._lock = threading.Lock()
        self._operations: dict[str, set[tuple[str, int]]] = {}
        self._counted_seq = 0
        self.last_seq = 0

    def spans_after(self, seq: int, *, limit: int) -> pa.Table:
        table = rows_after(self._database, self._tail.spans(), _AFTER, seq, limit)
        return table if is_coded(table) else table.cast(SPAN_READ_SCHEMA)

    def traces(self, trace_ids: Sequence[bytes]) -> pa.Table:
        if len(trace_ids) > _MOST_TRACES:
            raise BadInput(f"at most {_MOST_TRACES} traces can be asked for at once")
        wanted = pa.array(list(trace_ids), pa.binary())
        ahead = [
            found
            for table in self._tail.spans()
            if (found := table.filter(pc.is_in(table.column("trace_id"), wanted))).num_rows
        ]
        table = self._ask(_TRACES, {"columns": _COLUMNS}, ahead, [list(trace_ids)])
        return table.cast(SPAN_READ_SCHEMA)

    def find_traces(self, query: TraceQuery) -> list[bytes]:
        where, params = conditions(query)
        ahead = [
            table
            for table in self._tail.spans()
            if pc.max(table.column("start_ns")).as_py() >= query.start_ns
            and pc.min(table.column("start_ns")).as_py() <= query.end_ns
        ]
        parts = {"where": " AND ".join(where)}  # holds no input
        table = self._ask(_FOUND, parts, ahead, [*params, max(query.limit, 0)])
        return cast(list[bytes], table.column("trace_id").to_pylist())

    def troubled_requests(self, start_ms: int, end_ms: int, slow_s: float) -> pa.Table:
        start_ns, end_ns, slow_ns = start_ms * 1_000_000, end_ms * 1_000_000, round(slow_s * 1e9)
        window = [start_ns, end_ns - 1]
        params = [*window, slow_ns, _MOST_TROUBLED + 1, *window, slow_ns]
        table = self._ask(_TROUBLED, {}, list(self._tail.spans()), params)
        if table.column("looked_at")[0].as_py() > _MOST_TROUBLED:
            # A part of them would count the visitors of the rest as untroubled.
            raise LimitExceeded(
                f"more than {_MOST_TROUBLED} requests of the range failed or were slow",
                reason="too_many_requests",
                hint="ask for a shorter range",
            )
        found = table.filter(pc.is_valid(table.column("trace_id")))
        return found.select(TROUBLED_SCHEMA.names).cast(TROUBLED_SCHEMA)

    def _ask(
        self, text: str, parts: dict[str, str], ahead: list[pa.Table], params: list[Any]
    ) -> pa.Table:
        """The answer of a query over the stored spans and those ahead."""
        if not ahead:
            return self._database.table(text.format(rows=_STORED, **parts), params)
        with self._database.reader() as cursor:
            cursor.register("ahead", pa.concat_tables(ahead))
            try:
                return arrow(cursor, text.format(rows=_WITH_AHEAD, **parts), params)
            finally:
                cursor.unregister("ahead")

    def services(self, kind: int | None) -> dict[str, list[str]]:
        """Each service with its operations; reads only what came since the last call."""
        with self._lock:
            upto = self.last_seq
            if upto > self._counted_seq:
                ahead = self._tail.spans()
                table = self._ask(_OPERATIONS, {}, ahead, [self._counted_seq, upto])
                for service, *told in zip(*(c.to_pylist() for c in table.columns), strict=True):
                    self._operations.setdefault(service, set()).add(tuple(told))
                self._counted_seq = upto
            return {
                service: names
                for service, found in sorted(self._operations.items())
                if (names := sorted({name for name, of in found if kind in {None, of}}))
            }

    def forget_operations(self) -> None:
        """Count services anew: spans have been deleted."""
        with self._lock:
            self._operations = {}
            self._counted_seq = 0


def conditions(query: TraceQuery) -> tuple[list[str], list[Any]]:
    """The search as SQL conditions and their parameters; all hold for one span.

    Raises:
        BadInput: Too many attributes.
    """
    if len(query.attributes) > _MOST_ATTRIBUTES:
        raise BadInput(f"at most {_MOST_ATTRIBUTES} attributes can be searched at once")
    where = ["start_ns BETWEEN ? AND ?"]
    params: list[Any] = [query.start_ns, query.end_ns]
    for condition, value in (
        ("service = ?", query.service),
        ("name = ?", query.operation),
        ("end_ns - start_ns >= ?", query.min_duration_ns),
        ("end_ns - start_ns <= ?", query.max_duration_ns),
        ("received_ms <= ?", query.received_until_ms),
    ):
        if value is not None:
            where.append(condition)
            params.append(value)
    for name, value in query.attributes:
        condition, values = _attribute(name, value)
        where.append(condition)
        params.extend(values)
    return where, params


def _attribute(name: str, value: str) -> tuple[str, list[Any]]:
    if name == "error" and value in {"true", "false"}:
        return (_FAILED if value == "true" else f"NOT {_FAILED}"), []
    if name == "otel.status_code":
        return "status = ?", [_STATUSES.get(value.upper(), -1)]
    if name == "span.kind":
        return "kind = ?", [_KINDS.get(value.lower(), -1)]
    path = "/" + name.replace("~", "~0").replace("/", "~1")
    either = "coalesce(TRY_CAST(attributes AS JSON) ->> ?, TRY_CAST(resource AS JSON) ->> ?) = ?"
    column = _PROMOTED.get(name)
    if column is None:
        return either, [path, path, value]
    return f"(CAST({column} AS VARCHAR) = ? OR {either})", [value, path, path, value]
