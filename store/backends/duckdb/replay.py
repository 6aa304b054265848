"""At a start: what the append log holds and the database does not goes into the database.

Nothing is taken from the log before the database has it. Where something is missing or does not
hold together, the segments are kept under a `.damaged-N` name and the loss is told in numbers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np

from store.backends.duckdb import schema
from store.backends.duckdb.append_log import DiskLog, refused, segments_of
from store.backends.duckdb.database import Connection, Database, proves_damage, unavailable
from store.backends.duckdb.flush import Flusher
from store.backends.duckdb.head import Columns
from store.backends.duckdb.ingest import Ingest
from store.backends.duckdb.limits import StoreLimits
from store.backends.duckdb.log_reading import Segment, read_segments
from store.backends.duckdb.rounds import BadRound, Round, decode
from store.backends.duckdb.series_index import SeriesIndex
from store.errors import StoreUnavailable

_LOG_ID = "log_id"


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a start took over from the append log.

    Attributes:
        rounds: Rounds that the database did not have yet.
        lost_rounds: Rounds that were acknowledged, as their numbers tell, and are not readable.
        orphans: Samples and exemplars of series that a lost round had named; left out.
        cut_bytes: A write at the end that a crash interrupted; nobody was told that it is durable.
        foreign: Segments of another database.
        set_aside: Where damaged, incomplete or foreign segments lie now.
    """

    rounds: int = 0
    lost_rounds: int = 0
    orphans: int = 0
    cut_bytes: int = 0
    foreign: int = 0
    set_aside: tuple[Path, ...] = ()

    def message(self) -> str:
        """What people should know, or nothing."""
        told: list[str] = []
        if self.rounds:
            told.append(f"{self.rounds} rounds of the append log were taken over")
        if self.cut_bytes:
            told.append(f"its last {self.cut_bytes} bytes are an unfinished write and were cut")
        if self.lost_rounds:
            told.append(f"{self.lost_rounds} acknowledged rounds are not readable")
        if self.orphans:
            told.append(f"{self.orphans} samples are left out: what named their series is lost")
        if self.foreign:
            told.append(f"{self.foreign} segments belong to another database")
        if self.set_aside:
            names = " and ".join(path.name for path in self.set_aside)
            told.append(f"these files of the log are kept as {names}")
        return "; ".join(told)


NOTHING_REPLAYED = Replayed()


class Replay:
    """One walk over the segments; gives each missing round to `restore`, in order."""

    def __init__(self, directory: Path, connection: Connection) -> None:
        self.directory = directory
        self._connection = connection
        self._log_id = schema.read_meta(connection, _LOG_ID)
        self._last = schema.read_meta(connection, schema.FLUSHED)
        self._new = not self._log_id
        self._rounds = 0
        self._lost = 0
        self._orphans = 0
        self._cut = 0
        self._foreign: list[Path] = []
        self._damaged: list[Path] = []
        self._whole: list[Path] = []

    def run(self, index: SeriesIndex, publish: Callable[[int, Round], None]) -> None:
        """Publish every round that the database lacks.

        Raises:
            StoreUnavailable: A segment cannot be read.
        """
        highest = -1
        try:
            for segment in read_segments(self.directory):
                for number, done in self._missing(segment):
                    highest = max(highest, highest_id(done))
                    self._orphans += fit_to(index, done)
                    publish(number, done)
        except OSError as exc:
            raise refused(exc, self.directory) from exc
        index.skip_to(highest + 1)  # what a lost round named is never given again

    def _missing(self, segment: Segment) -> Iterator[tuple[int, Round]]:
        if not self._log_id:  # a new database, or one that was lost: the log goes on
            self._log_id = segment.log_id or 0
        if segment.log_id not in {None, self._log_id}:
            self._foreign.append(segment.path)
            return
        sound = not segment.damaged
        for frame in segment.frames:
            if frame.number <= self._last:
                continue
            sound = sound and frame.number == self._last + 1
            if self._new:  # what came before was in a database that is not here
                self._new = False
            else:
                self._lost += frame.number - self._last - 1
            self._last = frame.number
            try:
                done = decode(frame.payload)
            except BadRound:
                self._lost += 1
                sound = False
            else:
                self._rounds += 1
                yield frame.number, done
        self._cut += segment.cut
        (self._whole if sound else self._damaged).append(segment.path)

    def open_log(self, segment_bytes: int) -> tuple[DiskLog, Replayed]:
        """Once the database holds what was restored: clear the segments away, and go on.

        Raises:
            StoreUnavailable: The directory refuses.
        """
        if not self._log_id:
            self._log_id = int.from_bytes(os.urandom(7), "little") | 1
        if schema.read_meta(self._connection, _LOG_ID) != self._log_id:
            schema.write_meta(self._connection, _LOG_ID, self._log_id)
        if self._lost or self._orphans:
            self._damaged += self._whole
            self._whole = []
        try:
            aside = tuple(_set_aside(path) for path in [*self._damaged, *self._foreign])
            for path in self._whole:
                path.unlink()
        except OSError as exc:
            raise refused(exc, self.directory) from exc
        if segments_of(self.directory):
            raise StoreUnavailable(f"{self.directory} changes under the store")
        log = DiskLog(self.directory, self._log_id, self._last, segment_bytes)
        return log, Replayed(
            self._rounds, self._lost, self._orphans, self._cut, len(self._foreign), aside
        )


def highest_id(done: Round) -> int:
    """The highest series id that a round uses, or -1."""
    used = [place for place, _ in done.exemplars]
    if done.columns is not None:
        used.append(int(done.columns.series.max()))
    return max(used, default=-1)


def fit_to(index: SeriesIndex, done: Round) -> int:
    """Leave out of a round what a lost round should have explained; returns how many rows."""
    done.fresh = {
        labels: place
        for labels, place in done.fresh.items()
        if place >= index.next_id and index.id_of(labels) is None
    }
    columns = done.columns
    named = set(done.fresh.values())
    used = set() if columns is None else set(np.unique(columns.series).tolist())
    used.update(place for place, _ in done.exemplars)
    strange = {
        place for place in used - named if place >= index.next_id or not index.labels_of([place])
    }
    if not strange:
        return 0
    rows = len(done.exemplars) + (0 if columns is None else len(columns))
    done.exemplars = [found for found in done.exemplars if found[0] not in strange]
    done.histograms = [found for found in done.histograms if found[0] not in strange]
    if columns is not None:
        keep = ~np.isin(columns.series, np.fromiter(strange, dtype=np.int32, count=len(strange)))
        kept = Columns(columns.series[keep], columns.ts_ms[keep], columns.bits[keep])
        done.columns = kept if len(kept) else None
    left = len(done.exemplars) + (0 if done.columns is None else len(done.columns))
    return rows - left


def _set_aside(path: Path) -> Path:
    """Beside the log's directory, so that the log itself may go."""
    directory = path.parent
    number = 1
    while (
        target := directory.with_name(f"{directory.name}-{path.name}.damaged-{number}")
    ).exists():
        number += 1
    path.rename(target)
    return target


def take_over_log(
    database: Database, index: SeriesIndex, ingest: Ingest, limits: StoreLimits
) -> Replayed:
    """Bring the database up to the append log beside it, and give `ingest` a log to go on with."""
    if database.file is None:
        return NOTHING_REPLAYED
    connection = database.writer
    replay = Replay(log_directory(database.file), connection)
    replay.run(index, ingest.publish)
    flusher = Flusher(ingest.tail, ingest.log, database)
    try:
        flusher.flush_all(connection)
        flusher.fold(connection)
    except (duckdb.DataError, duckdb.IntegrityError, duckdb.InvalidInputException) as exc:
        # Not damage of the database: it must not be set aside for this.
        raise StoreUnavailable(
            f"{replay.directory} holds rows that the database refuses: {exc}",
            hint="move that directory away to start without them, and report this",
        ) from exc
    except duckdb.Error as exc:
        # A write that failed tells of the disk, not of what the file holds.
        if proves_damage(exc):
            raise
        raise unavailable(exc, str(database.file)) from exc
    ingest.log, replayed = replay.open_log(limits.log_segment_bytes)
    if replayed.rounds:
        ingest.learn_events()  # those of the log were not there when it first did
    return replayed


def log_directory(file: Path) -> Path:
    """Where the append log of a database lies."""
    return file.with_name(file.name + ".log")
