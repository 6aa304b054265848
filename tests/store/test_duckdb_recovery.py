"""Crashes, damaged files, full disks and second processes, with real files and processes."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from store.backends.duckdb import DuckDBStore, Found, StoreLimits
from store.errors import StoreUnavailable
from store.model import Labels, Matcher, MatchOp, SampleBatch

CHILD = Path(__file__).with_name("duckdb_child.py")
ROOT = Path(__file__).parents[2]
FILE = "telemetry.duckdb"
UP = Labels.of(__name__="up")
# The slow marker's longer run asks for more through this variable.
ROUNDS = int(os.environ.get("WARROOM_KILL_ROUNDS", "5"))


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


def acknowledged_until_killed(directory: Path, first: int, enough: int) -> list[int]:
    """Numbers that the child printed before it was killed at a random moment."""
    process = child("write", directory, first)
    assert process.stdout is not None
    said: list[int] = []
    for line in process.stdout:
        said.append(int(line))
        if len(said) == enough:
            process.kill()
            break
    rest, errors = process.communicate(timeout=60)
    assert said, errors
    return said + [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    dice = random.Random(7)
    said: list[int] = []
    for _ in range(ROUNDS):
        first = said[-1] + 2 if said else 1
        said += acknowledged_until_killed(tmp_path, first, dice.randrange(1, 250))
        with DuckDBStore.open(tmp_path) as store:
            assert not store.recovery.lost_data
            found = store.select([Matcher("__name__", MatchOp.EQUAL, "m")], 0, 10**15)
            samples = found.ts_ms.tolist()
            stored = {ts_ms // 1_000 for ts_ms in samples}
            assert set(said) <= stored
            # A round is one transaction: a number is there whole or not at all.
            assert all(samples.count(number * 1_000) == 50 for number in said[-3:])
            spans = store.spans_after(0, limit=1_000_000)
            assert set(said) <= set(spans.column("received_ms").to_pylist())
            numbers = [int(seq) for seq in spans.column("seq").to_numpy()]
            assert numbers == sorted(set(numbers))
            events = store.events(0, 10**15).column("event_id").to_pylist()
            assert set(map(str, said)) <= set(events)
            assert len(events) == len(set(events))


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


def crashed_store(directory: Path) -> bytes:
    """A file with samples, and the bytes of a log that was never folded in."""
    with DuckDBStore.open(directory) as store:
        for ts_ms in range(1_000, 51_000, 1_000):
            put(store, ts_ms)
    acknowledged_until_killed(directory, 1, 40)
    return (directory / f"{FILE}.wal").read_bytes()


def test_a_torn_log_keeps_what_came_before_the_tear(tmp_path: Path) -> None:
    log = crashed_store(tmp_path)
    (tmp_path / f"{FILE}.wal").write_bytes(log[: len(log) * 2 // 3])
    with DuckDBStore.open(tmp_path) as store:
        assert store.recovery.found in {Found.LOG_REPLAYED, Found.LOG_SET_ASIDE}
        assert times(store) == list(range(1_000, 51_000, 1_000))
        put(store, 99_000)


def test_a_flipped_log_is_set_aside_and_the_checkpointed_part_stays(tmp_path: Path) -> None:
    log = bytearray(crashed_store(tmp_path))
    log[len(log) // 2] ^= 0xFF
    (tmp_path / f"{FILE}.wal").write_bytes(log)
    with DuckDBStore.open(tmp_path) as store:
        assert store.recovery.found in {Found.LOG_REPLAYED, Found.LOG_SET_ASIDE}
        assert times(store) == list(range(1_000, 51_000, 1_000))
        put(store, 99_000)


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


def test_a_full_disk_refuses_writes_and_the_writer_recovers(tmp_path: Path) -> None:
    said, errors = child("full", tmp_path).communicate(timeout=120)
    assert "free space" in errors, errors
    numbers = {int(line) for line in said.splitlines()}
    assert len(numbers) > 1, errors
    with DuckDBStore.open(tmp_path) as store:
        assert not store.recovery.lost_data
        found = store.select([Matcher("__name__", MatchOp.EQUAL, "m")], 0, 10**15)
        assert numbers <= {ts_ms // 1_000 for ts_ms in found.ts_ms.tolist()}


def test_a_newer_layout_is_left_alone(tmp_path: Path) -> None:
    DuckDBStore.open(tmp_path).close()
    import duckdb

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
