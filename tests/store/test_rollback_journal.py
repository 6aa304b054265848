"""A checkpoint that was cut off is undone, one that arrived is not, and nothing else is touched."""

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.backends.duckdb.database import CHECKPOINT_THRESHOLD, Database
from store.backends.duckdb.limits import StoreLimits
from store.backends.duckdb.rollback_journal import journal_of, take_back
from store.errors import StoreUnavailable

PAGE = 4096
FIRST_BLOCK = 3 * PAGE
BLOCK = 256 * 1024
Rows = list[tuple[object, ...]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "t.duckdb"


def opened(file: Path) -> Database:
    return Database(file, StoreLimits(threads=1))


def fill(database: Database, rows: int) -> None:
    database.writer.execute("CREATE TABLE IF NOT EXISTS t (a BIGINT, b VARCHAR)")
    database.writer.execute("INSERT INTO t SELECT range, 'x' || range FROM range(?)", [rows])


def count(file: Path) -> int:
    with duckdb.connect(str(file)) as connection:
        rows: list[tuple[int]] = connection.execute("SELECT count(b) FROM t").fetchall()
    return rows[0][0]


def overwrite(file: Path, at: int, content: bytes) -> None:
    with file.open("r+b") as opened_file:
        opened_file.seek(at)
        opened_file.write(content)


@contextmanager
def dying(database: Database) -> Iterator[None]:
    """Around a checkpoint whose process ends before it tells the journal."""
    with suppress(InterruptedError), database.checkpointing(database.writer):
        yield
        raise InterruptedError


def cut_off(file: Path) -> None:
    """A file with 100 rows, whose next checkpoint stops in the middle of the metadata."""
    database = opened(file)
    fill(database, 100)
    database.checkpoint(database.writer)
    with dying(database):
        overwrite(file, FIRST_BLOCK + BLOCK // 4, os.urandom(BLOCK // 2))
    database.close()


def test_metadata_that_is_half_written_is_put_back(file: Path) -> None:
    cut_off(file)
    damaged = file.with_name("damaged.duckdb")
    shutil.copy(file, damaged)
    with pytest.raises(duckdb.Error, match=r"checksum|orrupt"):
        count(damaged)
    assert take_back(file)
    assert count(file) == 100
    assert not take_back(file)


def test_a_torn_page_that_switches_is_put_back_too(file: Path) -> None:
    cut_off(file)
    overwrite(file, PAGE + 512, os.urandom(512))
    assert take_back(file)
    assert count(file) == 100


def test_a_checkpoint_that_arrived_is_kept_though_its_journal_lies_there(file: Path) -> None:
    database = opened(file)
    fill(database, 100)
    with dying(database):
        database.writer.execute("CHECKPOINT")
    database.close()
    assert not take_back(file)
    assert count(file) == 100


def test_after_a_checkpoint_nothing_is_put_back(file: Path) -> None:
    database = opened(file)
    fill(database, 100)
    database.checkpoint(database.writer)
    database.close()
    before = file.read_bytes()
    assert not take_back(file)
    assert file.read_bytes() == before


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("unfinished") / "t.duckdb"
    cut_off(file)
    return file


@given(cut=st.integers(0, 300_000), flipped=st.integers(0, 255))
def test_a_journal_that_is_not_whole_changes_nothing(
    unfinished: Path, cut: int, flipped: int
) -> None:
    """It was cut off before the checkpoint began."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / unfinished.name
        shutil.copy(unfinished, file)
        whole = journal_of(unfinished).read_bytes()
        at = min(cut, len(whole) - 1)
        flip = bytes([flipped]) if flipped != whole[at] else b""
        journal_of(file).write_bytes(whole[:at] + flip + (whole[at + 1 :] if flip else b""))
        assert not take_back(file)
        assert file.read_bytes() == unfinished.read_bytes()


def test_a_failed_checkpoint_is_undone_before_the_file_is_opened_again(file: Path) -> None:
    database = opened(file)
    fill(database, 100)
    database.checkpoint(database.writer)
    with dying(database):
        overwrite(file, FIRST_BLOCK, os.urandom(BLOCK))
    database.reopen()
    assert database.table("SELECT count(b) AS n FROM t")["n"].to_pylist() == [100]
    database.close()


def test_no_checkpoint_begins_where_the_journal_cannot_be_written(file: Path) -> None:
    journal_of(file).mkdir()
    database = opened(file)
    fill(database, 100)
    before = file.read_bytes()
    with pytest.raises(StoreUnavailable, match="journal"):
        database.checkpoint(database.writer)
    database.close()
    assert file.read_bytes() == before


def one_more_change(connection: duckdb.DuckDBPyConnection, dice: random.Random) -> None:
    """What the store does to its tables: appends of any size, deletions, updates, new tables."""
    texts = ", ".join(f"'y' || range % {dice.randint(2, 3000)}" for _ in range(8))
    rows = dice.choice([10, 3_000, 20_000])
    connection.execute(f"INSERT INTO t SELECT range, {texts} FROM range({rows})")
    match dice.randrange(8):
        case 0 | 1:
            connection.execute("DELETE FROM t WHERE a > ?", [dice.randrange(3_000)])
        case 2:
            connection.execute("DELETE FROM u")
        case 3:
            connection.execute("UPDATE u SET c0 = 'q'")
        case 4:
            connection.execute(f"CREATE OR REPLACE TABLE z{rows} AS FROM t LIMIT 9000")
        case _:
            connection.execute("INSERT INTO u FROM t LIMIT 5000")


def everything(file: Path) -> dict[str, Rows]:
    """How many rows each table has, and a hash of all of them: each block is read."""
    with duckdb.connect(str(file), read_only=True) as connection:
        names = sorted(name for (name,) in connection.execute("SHOW TABLES").fetchall())
        question = "SELECT count(*), bit_xor(hash(t)) FROM {} AS t"
        return {name: connection.execute(question.format(name)).fetchall() for name in names}


def test_duckdb_writes_over_nothing_that_the_journal_lacks(tmp_path: Path) -> None:
    """Whatever a checkpoint changed of the old one is destroyed: the journal must bring it back."""
    file, copy = tmp_path / "t.duckdb", tmp_path / "copy.duckdb"
    with duckdb.connect() as connection:  # small groups of rows: much metadata
        connection.execute(f"ATTACH '{file}' AS x (ROW_GROUP_SIZE 2048)")
        texts = ", ".join(f"c{n} VARCHAR" for n in range(8))
        for table in "tu":
            connection.execute(f"CREATE TABLE x.{table} (a BIGINT, {texts})")
    database = opened(file)
    dice = random.Random(11)
    in_place = 0
    for number in range(16):
        before = file.read_bytes()
        shutil.copy(file, copy)
        straight = number % 2 == 1
        with dying(database):
            if straight:
                database.writer.execute("SET checkpoint_threshold = '1KB'")
            database.writer.execute("BEGIN")
            one_more_change(database.writer, dice)
            database.writer.execute("COMMIT")
            database.writer.execute(
                f"SET checkpoint_threshold = '{CHECKPOINT_THRESHOLD}'" if straight else "CHECKPOINT"
            )
        after = file.read_bytes()
        # What is cut off behind went after the switch.
        for at in range(FIRST_BLOCK, min(len(before), len(after)), BLOCK):
            if before[at : at + BLOCK] != after[at : at + BLOCK]:
                overwrite(copy, at, bytes(BLOCK))
                in_place += 1
        expected = tmp_path / "expected.duckdb"
        expected.write_bytes(before)
        shutil.copy(journal_of(file), journal_of(copy))
        assert take_back(copy)
        assert everything(copy) == everything(expected)
    assert in_place > 15
    database.close()
