"""From the log into the database: many rounds in one large transaction.

The number of the last frame is written in the same transaction, so a crash at any moment brings
each row into the database once. The log's segments go after a checkpoint, so they also outlive
damage to DuckDB's own write-ahead log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress

import duckdb
import numpy as np
import orjson
import pyarrow as pa

from store.backends.duckdb import histograms, kernels, samples, schema
from store.backends.duckdb.append_log import AppendLog
from store.backends.duckdb.database import CHECKPOINT_THRESHOLD, Connection, Database
from store.backends.duckdb.head import Columns
from store.backends.duckdb.ingest import rollback
from store.backends.duckdb.tail import Generation, Tail
from store.model import Exemplar, Labels, MetricMetadata

# Rows go in by groups of so many series, in each by time: the zone maps of a large flush then
# tell series apart, and vectors of 2,048 rows still compress as well as those in time order.
_SERIES_A_GROUP = 2048
# Milliseconds of one flush that fit into a key: more than three months.
_TIME_BITS = 33


class Flusher:
    """Moves generations of the tail into the database. One thread at a time may use it.

    Attributes:
        large_bytes: Generations of this size go straight into the file.
    """

    large_bytes = 1024 * 1024

    def __init__(self, tail: Tail, log: AppendLog, database: Database) -> None:
        self._tail = tail
        self._log = log
        self._database = database
        self._committed = 0

    def flush(self, connection: Connection) -> bool:
        """Bring the oldest generation into the database; False when there is none.

        Raises:
            duckdb.Error: Nothing of it was written; the next call tries again.
        """
        generation = self._tail.freeze()
        if generation is None:
            return False
        # A commit that reported a failure may have arrived all the same.
        if schema.read_meta(connection, schema.FLUSHED) < generation.last:
            self._move(connection, generation)
        self._committed = generation.last
        self._tail.let_go()
        return True

    def _move(self, connection: Connection, generation: Generation) -> None:
        large = generation.size >= self.large_bytes
        with self._straight_to_the_file(connection) if large else nullcontext():
            connection.execute("BEGIN")
            try:
                _write(connection, generation)
                self._commit(connection)
            except BaseException:
                rollback(connection)
                raise

    @contextmanager
    def _straight_to_the_file(self, connection: Connection) -> Iterator[None]:
        """While a large transaction runs: its commit is a checkpoint, without DuckDB's own log.

        Our log has the rows already: a crash before the end leaves the file without the
        transaction, and the next start takes them from there.
        """
        with self._database.checkpointing(connection):
            connection.execute("SET checkpoint_threshold = '1KB'")
            try:
                yield
            finally:
                with suppress(duckdb.Error):  # one that failed is opened again, with its own
                    connection.execute(f"SET checkpoint_threshold = '{CHECKPOINT_THRESHOLD}'")

    def _commit(self, connection: Connection) -> None:
        connection.execute("COMMIT")

    def _checkpoint(self, connection: Connection) -> None:
        self._database.checkpoint(connection)

    def flush_all(self, connection: Connection) -> None:
        """Bring everything into the database that is durable now."""
        while self.flush(connection):
            pass

    def fold(self, connection: Connection) -> None:
        """Checkpoint, and drop what the log no longer needs to hold."""
        committed = self._committed
        self._checkpoint(connection)
        self._log.drop(committed)


def _write(connection: Connection, generation: Generation) -> None:
    if generation.series:
        _insert_series(connection, generation.series)
    if generation.metadata:
        _replace_metadata(connection, generation.metadata)
    if generation.samples.rows:
        samples.insert(connection, _grouped(generation.samples.view()))
    histograms.insert(connection, generation.histograms)
    if generation.exemplars:
        _insert_exemplars(connection, generation.exemplars)
    for name, tables in (
        ("spans", generation.spans),
        ("events", generation.events),
        ("logs", generation.logs),
    ):
        if tables.rows:
            insert_rows(connection, name, pa.concat_tables(tables.tables()))
    schema.write_meta(connection, schema.FLUSHED, generation.last)


def _grouped(columns: Columns) -> Columns:
    """By group, time and series, equal ones as they came: runs of series then take no room.

    Requests of several senders interleave: in the order of arrival the column of series took a
    byte and a half a sample.
    """
    groups = int(columns.series.max()) // _SERIES_A_GROUP + 1
    group_of = columns.series // _SERIES_A_GROUP
    series, ts_ms, bits = kernels.group_rows(
        columns.series, columns.ts_ms, columns.bits, group_of, groups
    )
    first_ms = int(ts_ms.min())
    if int(ts_ms.max()) - first_ms >= 1 << _TIME_BITS:
        return Columns(series, ts_ms, bits)
    group, place = np.divmod(series.astype(np.int64), _SERIES_A_GROUP)
    key = ((group << _TIME_BITS) | (ts_ms - first_ms)) * _SERIES_A_GROUP + place
    order = np.argsort(key, kind="stable")
    return Columns(series[order], ts_ms[order], bits[order])


def insert_rows(connection: Connection, name: str, table: pa.Table) -> None:
    """Append rows whose columns are those of the table, in its order.

    As one chunk: of many small ones DuckDB makes small vectors, and no row group at once. What is
    joined by place is read on one thread: it then goes where it belongs at once, while DuckDB's
    threads collect what is less than a row group apart and copy it, for twice the CPU.
    """
    whole = table.combine_chunks()
    names = whole.column_names
    connection.register("incoming", whole.select(names[:-1]))
    connection.register("incoming_last", whole.select(names[-1:]))
    try:
        connection.execute(
            f'INSERT INTO "{name}" SELECT * FROM incoming POSITIONAL JOIN incoming_last'  # noqa: S608  # names of our own
        )
    finally:
        connection.unregister("incoming")
        connection.unregister("incoming_last")


def _insert_series(connection: Connection, fresh: dict[Labels, int]) -> None:
    table = pa.table(
        {
            "id": np.fromiter(fresh.values(), dtype=np.int32, count=len(fresh)),
            "labels": [orjson.dumps(labels.to_dict()).decode() for labels in fresh],
        }
    )
    insert_rows(connection, "series", table)


def _insert_exemplars(connection: Connection, exemplars: Sequence[tuple[int, Exemplar]]) -> None:
    table = pa.table(
        {
            "series": pa.array([place for place, _ in exemplars], pa.int32()),
            "ts": pa.array([found.ts_ms for _, found in exemplars], pa.int64()),
            "value": pa.array([found.value for _, found in exemplars], pa.float64()),
            "labels": [orjson.dumps(found.labels.to_dict()).decode() for _, found in exemplars],
        }
    )
    insert_rows(connection, "exemplars", table)


def _replace_metadata(connection: Connection, changed: dict[str, MetricMetadata]) -> None:
    table = pa.table(
        {
            "family": list(changed),
            "type": [found.type.value for found in changed.values()],
            "help": [found.help for found in changed.values()],
            "unit": [found.unit for found in changed.values()],
        }
    )
    connection.execute(
        "DELETE FROM metadata WHERE family IN (SELECT unnest(?::VARCHAR[]))", [list(changed)]
    )
    insert_rows(connection, "metadata", table)
