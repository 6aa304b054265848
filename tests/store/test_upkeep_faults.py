"""Upkeep on a disk that is full, in a directory that refuses, over a file that was harmed."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from store.backends.duckdb import DuckDBStore
from store.errors import StoreUnavailable
from store.model import Labels, SampleBatch

CHILD = Path(__file__).with_name("upkeep_child.py")
ROOT = Path(__file__).parents[2]
FILE = "telemetry.duckdb"
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
START_MS = 1_795_773_600_000
SERIES = tuple(Labels.of(__name__="m", n=str(n)) for n in range(100))


def test_a_full_disk_is_said_and_upkeep_goes_on_when_there_is_room(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(CHILD), str(tmp_path)],
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = done.stdout.splitlines()
    assert told[-1] == "done"
    assert [line.split(":")[0] for line in told[:-1]] == ["snapshot refused", "upkeep refused"]
    assert all("free space" in line for line in told[:-1]), told


def filled(directory: Path) -> bytes:
    """A closed store with roll-ups of a day, as bytes."""
    directory.mkdir()
    with DuckDBStore.open(directory) as store:
        for hour in range(24):
            rows = 20 * len(SERIES)
            first_ms = START_MS + hour * HOUR_MS
            batch = SampleBatch(
                SERIES,
                np.tile(np.arange(len(SERIES), dtype=np.int32), 20),
                np.repeat(first_ms + np.arange(20, dtype=np.int64) * 180_000, len(SERIES)),
                np.random.default_rng(hour).random(rows),
            )
            store.append(batch).result(timeout=60)
        now = SampleBatch.of_rows([(Labels.of(__name__="now"), START_MS + 30 * DAY_MS, 1.0)])
        store.append(now).result(timeout=60)
        store.retain(START_MS + 30 * DAY_MS, 15 * DAY_MS, rollup_ms=400 * DAY_MS)
    return (directory / FILE).read_bytes()


@pytest.mark.parametrize("place", [0.3, 0.5, 0.7, 0.9])
def test_a_flipped_byte_never_gives_a_wrong_answer(tmp_path: Path, place: float) -> None:
    whole = filled(tmp_path / "data")
    with DuckDBStore.open(tmp_path / "data") as store:
        expected = store.select((), 0, START_MS + DAY_MS)
    harmed = bytearray((tmp_path / "data" / FILE).read_bytes())
    harmed[int(len(whole) * place)] ^= 0x10
    (tmp_path / "data" / FILE).write_bytes(harmed)
    told = ""
    try:
        with DuckDBStore.open(tmp_path / "data") as store:
            if store.recovery.lost_data:
                told = store.recovery.message
            else:
                found = store.select((), 0, START_MS + DAY_MS)
                # The byte lies in a block that nothing uses.
                assert np.array_equal(found.values, expected.values)
                assert np.array_equal(found.ts_ms, expected.ts_ms)
                return
    except StoreUnavailable as exc:
        told = str(exc)
    assert FILE in told
