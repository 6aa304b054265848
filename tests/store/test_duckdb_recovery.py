"""Crashes, damaged files, full disks and second processes, with real files and processes."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pytest

from store.backends.duckdb import DuckDBStore, Found, StoreLimits
from store.backends.duckdb.append_log import DiskLog, segments_of
from store.backends.duckdb.head import Columns
from store.backends.duckdb.log_reading import read_segment
from store.backends.duckdb.rounds import Room, Round, encode
from store.errors import StoreUnavailable
from store.model import Labels, Matcher, MatchOp, SampleBatch
from store.ports import LogQuery

CHILD = Path(__file__).with_name("duckdb_child.py")
ROOT = Path(__file__).parents[2]
FILE = "telemetry.duckdb"
UP = Labels.of(__name__="up")


def child(*arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(CHILD), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def put(store: DuckDBStore, ts_ms: int, value: float = 1.0) -> None:
    store.append(SampleBatch.of_rows([(UP, ts_ms, value)])).result(timeout=60)


def times(store: DuckDBStore) -> list[int]:
    found = store.select([Matcher("__name__", MatchOp.EQUAL, "up")], 0, 10**15)
    return [int(ts_ms) for ts_ms in found.ts_ms]


class Writers:
    """Processes that write until they die, one after another."""

    def __init__(self, directory: Path) -> None:
        self._process = child("many", directory)

    def until_killed(self, first: int, enough: int = 0, step: str = "") -> list[int]:
        """Numbers that were acknowledged before the writer was killed, or killed itself."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{first} {step}\n")
        process.stdin.flush()
        pid = int(process.stdout.readline().removeprefix("pid "))
        said: list[int] = []
        for line in iter(process.stdout.readline, "ended\n"):
            assert line, "the writer ended by itself"
            said.append(int(line))
            if len(said) == enough:
                os.kill(pid, signal.SIGKILL)
        return said

    def end(self) -> None:
        self._process.communicate(timeout=60)


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """A directory that outlives a killed process as a disk does, but need not wait for one."""
    shared = Path("/dev/shm")  # a directory of our own in it
    if not os.access(shared, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=shared) as directory:
        yield Path(directory)


@pytest.fixture
def writers(in_memory: Path) -> Iterator[Writers]:
    opened = Writers(in_memory)
    yield opened
    opened.end()


def holds_everything(store: DuckDBStore, said: list[int]) -> None:
    """Every acknowledged number is there, once and whole."""
    assert not store.recovery.lost_data, store.recovery.message
    found = store.select([Matcher("__name__", MatchOp.EQUAL, "m")], 0, 10**15)
    stored = Counter((found.ts_ms // 1_000).tolist())
    assert set(said) <= set(stored)
    # A round is one frame: a number is there whole or not at all.
    assert set(stored.values()) == {50}
    spans = store.spans_after(0, limit=1_000_000)
    assert set(said) <= set(spans.column("received_ms").to_pylist())
    numbers = spans.column("seq").to_pylist()
    assert numbers == list(range(1, len(numbers) + 1))
    events = store.events(0, 10**15)
    assert set(map(str, said)) <= set(events.column("event_id").to_pylist())
    assert len(set(events.column("event_id").to_pylist())) == events.num_rows
    assert sorted(events.column("seq").to_numpy()) == list(range(1, events.num_rows + 1))
    logs = store.logs(LogQuery(0, 10**18, limit=1_000_000))
    assert set(said) <= set(logs.column("received_ms").to_pylist())
    assert sorted(logs.column("seq").to_numpy()) == list(range(1, logs.num_rows + 1))


def rows_stored_twice(directory: Path) -> int:
    with duckdb.connect(str(directory / FILE), read_only=True) as connection:
        query = "SELECT count(*) - count(DISTINCT (series, ts)) FROM samples"
        rows: list[tuple[int]] = connection.execute(query).fetchall()
    return rows[0][0]


def kill_rounds(directory: Path, writers: Writers, rounds: int, seed: int) -> None:
    dice = random.Random(seed)
    said: list[int] = []
    for number in range(rounds):
        first = said[-1] + 2 if said else 1
        step = "-straight" if number % 2 else ""
        said += writers.until_killed(first, enough=dice.randrange(1, 40), step=step)
        with DuckDBStore.open(directory) as store:
            holds_everything(store, said)
    assert rows_stored_twice(directory) == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kill_9_loses_nothing_that_was_acknowledged(in_memory: Path, writers: Writers) -> None:
    kill_rounds(in_memory, writers, rounds=20, seed=7)


@pytest.mark.soak
def test_kill_9_loses_nothing_that_was_acknowledged_however_often(
    in_memory: Path, writers: Writers
) -> None:
    kill_rounds(in_memory, writers, rounds=500, seed=random.SystemRandom().randrange(10**9))


@pytest.mark.slow
@pytest.mark.parametrize(
    "step",
    [
        "commit",
        "committed",
        "folded",
        "torn",
        "commit-straight",
        "committed-straight",
        "torn-straight",
    ],
)
def test_a_crash_between_log_and_database_brings_each_row_once(
    in_memory: Path, writers: Writers, step: str
) -> None:
    said = writers.until_killed(1, step=step)
    said += writers.until_killed(said[-1] + 2, step=step)
    with DuckDBStore.open(in_memory) as store:
        assert store.recovery.found is Found.LOG_REPLAYED
        holds_everything(store, said)
        put(store, 1_000)
    assert rows_stored_twice(in_memory) == 0


def test_a_restart_finds_the_same_series_and_goes_on(tmp_path: Path) -> None:
    with DuckDBStore.open(tmp_path) as store:
        assert store.recovery.found is Found.NEW
        put(store, 1_000)
    with DuckDBStore.open(tmp_path) as store:
        assert store.recovery.found is Found.CLEAN
        put(store, 1_000, 5.0)
        put(store, 2_000)
        assert times(store) == [1_000, 2_000]
        assert store.select([], 0, 1_500).values.tolist() == [5.0]
        assert store.series([], 0, 9_000) == [UP]


def test_a_second_process_is_told_who_has_the_store(tmp_path: Path) -> None:
    process = child("hold", tmp_path)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(StoreUnavailable, match=f"process {process.pid}") as raised:
            DuckDBStore.open(tmp_path)
        assert str(tmp_path) in str(raised.value)
    finally:
        process.communicate("", timeout=60)
    with DuckDBStore.open(tmp_path) as store, pytest.raises(StoreUnavailable, match="in use"):
        DuckDBStore.open(tmp_path)
    assert store.recovery.found is Found.CLEAN


def test_a_file_that_is_no_database_is_set_aside_and_said(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database" * 1_000)
    with DuckDBStore.open(tmp_path) as store:
        assert store.recovery.found is Found.FILE_SET_ASIDE
        assert store.recovery.lost_data
        assert FILE in store.recovery.message
        assert [path.name for path in store.recovery.set_aside] == [f"{FILE}.damaged-1"]
        put(store, 1_000)
    with DuckDBStore.open(tmp_path) as store:
        assert store.recovery.found is Found.CLEAN
        assert times(store) == [1_000]


def log_files(directory: Path) -> list[Path]:
    return segments_of(directory / f"{FILE}.log")


def crashed_store(directory: Path) -> None:
    """A database with samples, and an append log with ten rounds that it does not have."""
    with DuckDBStore.open(directory) as store:
        for ts_ms in range(1_000, 51_000, 1_000):
            put(store, ts_ms)
    process = child("crash", directory)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, errors


OLD = list(range(1_000, 51_000, 1_000))
NEW = list(range(51_000, 61_000, 1_000))


def test_the_log_of_a_crash_is_taken_over_and_said(tmp_path: Path) -> None:
    crashed_store(tmp_path)
    with DuckDBStore.open(tmp_path) as store:
        assert store.recovery.found is Found.LOG_REPLAYED
        assert "10 rounds of the append log were taken over" in store.recovery.message
        assert store.recovery.replayed.rounds == 10
        assert times(store) == OLD + NEW
        assert log_files(tmp_path) == []
    assert not (tmp_path / f"{FILE}.log").exists()
    with DuckDBStore.open(tmp_path) as store:
        assert store.recovery.found is Found.CLEAN


def test_a_torn_log_keeps_what_came_before_the_tear(tmp_path: Path) -> None:
    crashed_store(tmp_path)
    (path,) = log_files(tmp_path)
    content = path.read_bytes().rstrip(b"\0")
    path.write_bytes(content[:-5])
    with DuckDBStore.open(tmp_path) as store:
        assert store.recovery.found is Found.LOG_REPLAYED
        assert "unfinished write" in store.recovery.message
        assert not store.recovery.lost_data
        assert times(store) == OLD + NEW[:-1]
        put(store, 99_000)
    with DuckDBStore.open(tmp_path) as store:
        assert times(store) == [*OLD, *NEW[:-1], 99_000]


def test_a_flipped_log_loses_the_round_that_was_hit_and_says_so(tmp_path: Path) -> None:
    crashed_store(tmp_path)
    (path,) = log_files(tmp_path)
    segment = read_segment(path)
    content = bytearray(path.read_bytes())
    hit = content.index(bytes(segment.frames[4].payload)) + 20
    content[hit] ^= 0x10
    path.write_bytes(content)
    with DuckDBStore.open(tmp_path) as store:
        assert store.recovery.found is Found.LOG_SET_ASIDE
        assert "1 acknowledged rounds are not readable" in store.recovery.message
        assert store.recovery.replayed.lost_rounds == 1
        assert [path.name for path in store.recovery.set_aside] == [
            f"{FILE}.log-segment-0000000001.damaged-1"
        ]
        assert store.recovery.set_aside[0].read_bytes() == content
        assert times(store) == OLD + [ts_ms for ts_ms in NEW if ts_ms != NEW[4]]
    with DuckDBStore.open(tmp_path) as store:
        assert store.recovery.found is Found.CLEAN
        assert len(times(store)) == len(OLD) + 9


def test_samples_whose_series_was_lost_with_its_round_go_to_no_other(tmp_path: Path) -> None:
    """The round that names a series is hit; a later series must not inherit its samples."""
    crashed_store(tmp_path)
    (path,) = log_files(tmp_path)
    frames = read_segment(path).frames
    fresh = Labels.of(__name__="fresh")
    ahead = DiskLog(path.parent, *log_identity(path), 20_000)
    names = Round(fresh={fresh: 1}, columns=columns(1, 70_000))
    ahead.append(encode(names, Room()))
    ahead.append(encode(Round(columns=columns(1, 71_000)), Room()))
    ahead.append(encode(Round(columns=columns(0, 72_000)), Room()))
    ahead.close()
    second = log_files(tmp_path)[1]
    content = bytearray(second.read_bytes())
    content[60] ^= 1
    second.write_bytes(content)
    assert len(frames) == 10
    with DuckDBStore.open(tmp_path) as store:
        assert store.recovery.replayed.lost_rounds == 1
        assert store.recovery.replayed.orphans == 1
        assert times(store) == [*OLD, *NEW, 72_000]
        other = Labels.of(__name__="other")
        store.append(SampleBatch.of_rows([(other, 90_000, 1.0)])).result(timeout=60)
        assert store.select([Matcher("__name__", MatchOp.EQUAL, "other")], 0, 10**15).ts_ms == [
            90_000
        ]
        assert store.series([], 0, 10**15) == [other, UP]


def log_identity(path: Path) -> tuple[int, int]:
    segment = read_segment(path)
    assert segment.log_id is not None
    return segment.log_id, segment.frames[-1].number


def columns(series: int, ts_ms: int) -> Columns:
    return Columns(np.array([series], np.int32), np.array([ts_ms]), np.array([0]))


def test_the_log_of_another_database_is_set_aside(tmp_path: Path) -> None:
    crashed_store(tmp_path)
    (tmp_path / "other").mkdir()
    with DuckDBStore.open(tmp_path / "other") as store:
        put(store, 1_000)
    (tmp_path / f"{FILE}.log").rename(tmp_path / "other" / f"{FILE}.log")
    with DuckDBStore.open(tmp_path / "other") as store:
        assert store.recovery.replayed.foreign == 1
        assert "another database" in store.recovery.message
        assert times(store) == [1_000]


def test_a_lost_database_keeps_what_only_the_log_had(tmp_path: Path) -> None:
    crashed_store(tmp_path)
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content[:5_000])
    with DuckDBStore.open(tmp_path) as store:
        assert store.recovery.found is Found.FILE_SET_ASIDE
        assert {path.name for path in store.recovery.set_aside} >= {
            f"{FILE}.damaged-1",
            f"{FILE}.log-segment-0000000001.damaged-1",
        }  # to be looked at together
        assert store.recovery.replayed.orphans == 10
        put(store, 2_000)
        assert times(store) == [2_000]


def test_damage_to_the_log_of_duckdb_loses_no_row(in_memory: Path, writers: Writers) -> None:
    said = writers.until_killed(1, step="committed")
    wal = in_memory / f"{FILE}.wal"
    content = bytearray(wal.read_bytes())
    content[len(content) // 2] ^= 0xFF
    wal.write_bytes(content)
    with DuckDBStore.open(in_memory) as store:
        if store.recovery.found is Found.LOG_SET_ASIDE:
            assert [path.name for path in store.recovery.set_aside] == [f"{FILE}.wal.damaged-1"]
        found = store.select([Matcher("__name__", MatchOp.EQUAL, "m")], 0, 10**15)
        assert set(said) <= set((found.ts_ms // 1_000).tolist())
        assert store.spans_after(0).num_rows >= len(said)
    assert rows_stored_twice(in_memory) == 0


@pytest.mark.parametrize("place", [0.0, 0.01, 0.3, 0.6, 0.99])
def test_a_flipped_file_never_stops_the_start(tmp_path: Path, place: float) -> None:
    with DuckDBStore.open(tmp_path) as store:
        for ts_ms in range(1_000, 21_000, 1_000):
            put(store, ts_ms)
    content = bytearray((tmp_path / FILE).read_bytes())
    at = int(len(content) * place)
    content[at : at + 64] = bytes(byte ^ 0xFF for byte in content[at : at + 64])
    (tmp_path / FILE).write_bytes(content)
    with DuckDBStore.open(tmp_path) as store:
        put(store, 99_000)
        found = times(store)
        intact = [*range(1_000, 21_000, 1_000), 99_000]
        assert found == intact if not store.recovery.lost_data else 99_000 in found


def test_a_truncated_file_is_set_aside(tmp_path: Path) -> None:
    with DuckDBStore.open(tmp_path) as store:
        put(store, 1_000)
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content[:5_000])
    with DuckDBStore.open(tmp_path) as store:
        assert store.recovery.lost_data
        put(store, 2_000)
        assert times(store) == [2_000]


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreUnavailable, match="file"):
        DuckDBStore.open(tmp_path / "file")
    with pytest.raises(StoreUnavailable, match="absent"):
        DuckDBStore.open(tmp_path / "absent" / "deep.duckdb")


def test_a_large_flush_is_in_the_file_once_it_is_committed(
    in_memory: Path, writers: Writers
) -> None:
    said = writers.until_killed(1, step="committed-straight")
    wal = in_memory / f"{FILE}.wal"
    assert not wal.exists() or not wal.stat().st_size
    shutil.rmtree(in_memory / f"{FILE}.log")  # the file has the flushed rows without it
    with DuckDBStore.open(in_memory) as store:
        spans = store.spans_after(0).column("received_ms").to_pylist()
    assert spans == list(range(1, len(spans) + 1))
    assert 0 < len(spans) <= len(said) + 1


@pytest.mark.parametrize("what", ["full", "unflushed", "straight"])
def test_a_full_disk_refuses_writes_and_the_writer_recovers(tmp_path: Path, what: str) -> None:
    said, errors = child(what, tmp_path).communicate(timeout=120)
    assert "free space" in errors, errors
    numbers = {int(line) for line in said.splitlines()}
    assert len(numbers) > 2, errors
    with DuckDBStore.open(tmp_path) as store:
        assert not store.recovery.lost_data
        found = store.select([Matcher("__name__", MatchOp.EQUAL, "m")], 0, 10**15)
        assert numbers <= {ts_ms // 1_000 for ts_ms in found.ts_ms.tolist()}


def test_a_newer_layout_is_left_alone(tmp_path: Path) -> None:
    DuckDBStore.open(tmp_path).close()
    with duckdb.connect(str(tmp_path / FILE)) as connection:
        connection.execute("UPDATE meta SET value = 999 WHERE key = 'version'")
    with pytest.raises(StoreUnavailable, match="newer Warroom"):
        DuckDBStore.open(tmp_path)
    assert not list(tmp_path.glob("*.damaged-*"))


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = DuckDBStore.open(tmp_path, limits=StoreLimits(head_window_ms=0))
    put(store, 1_000)
    store.close()
    store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        put(store, 2_000)
    with pytest.raises(StoreUnavailable, match="closed"):
        times(store)
