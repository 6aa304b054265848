"""`warroom backup` and `warroom restore` over a stopped service's directory."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from store.annotations.repository import AnnotationRepository
from store.backends.duckdb import DuckDBStore
from store.errors import StoreUnavailable
from store.model import Labels, SampleBatch
from store.sql import open_engine, open_sessions, upgrade
from warroom.backups import MANIFEST, NoBackup, backup, restore, take_snapshot
from warroom.cli import main
from warroom.config import Options, load

UP = Labels.of(__name__="up")
NOW_MS = 1_795_773_600_000


def fill(directory: Path) -> None:
    with DuckDBStore.open(directory / "telemetry.duckdb") as store:
        store.append(SampleBatch.of_rows([(UP, NOW_MS, 5.0)])).result(timeout=60)
    engine = open_engine(f"sqlite:///{directory / 'state.db'}")
    upgrade(engine)
    AnnotationRepository(open_sessions(engine))
    engine.dispose()


def arguments(**given: object) -> argparse.Namespace:
    return argparse.Namespace(**{"config": None, "url": "", "token": "", **given})


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A backup of a stopped service."""
    (tmp_path / "data").mkdir()
    fill(tmp_path / "data")
    assert main(["backup", "--data-dir", str(tmp_path / "data"), "--to", str(tmp_path / "b")]) == 0
    return tmp_path / "b"


def put_back(source: Path, target: Path) -> None:
    restore(arguments(source=str(source), data_dir=str(target)), print)


def test_a_backup_comes_back_with_samples_and_state(made: Path, tmp_path: Path) -> None:
    assert sorted(path.name for path in made.iterdir()) == [
        "backup.json",
        "state.db",
        "telemetry.duckdb",
    ]
    target = tmp_path / "new" / "data"
    assert main(["restore", "--from", str(made), "--data-dir", str(target)]) == 0
    assert sorted(path.name for path in target.iterdir()) == ["state.db", "telemetry.duckdb"]
    with DuckDBStore.open(target / "telemetry.duckdb") as store:
        assert store.select((), 0, NOW_MS).values.tolist() == [5.0]
    engine = open_engine(f"sqlite:///{target / 'state.db'}")
    upgrade(engine)
    engine.dispose()


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_a_directory_that_holds_anything_is_left_alone(
    made: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine").write_text("mine")
    given = {
        "backup": ["--data-dir", str(tmp_path / "data"), "--to", str(taken)],
        "restore": ["--from", str(made), "--data-dir", str(taken)],
    }
    assert main([command, *given[command]]) == 1
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in taken.iterdir()] == ["mine"]


def test_backups_and_what_comes_back_are_their_owners_alone(made: Path, tmp_path: Path) -> None:
    target = tmp_path / "new"
    put_back(made, target)
    for directory in (made, target):
        for path in (directory, *directory.iterdir()):
            assert path.stat().st_mode & 0o077 == 0, path


def flip(made: Path) -> None:
    data = bytearray((made / "telemetry.duckdb").read_bytes())
    data[len(data) // 2] ^= 1
    (made / "telemetry.duckdb").write_bytes(data)


def cut(made: Path) -> None:
    data = (made / "telemetry.duckdb").read_bytes()
    (made / "telemetry.duckdb").write_bytes(data[:-1])


def lose(made: Path) -> None:
    (made / "state.db").unlink()


def unlist(made: Path) -> None:
    (made / MANIFEST).write_text("{")


def climb(made: Path) -> None:
    body = json.loads((made / MANIFEST).read_text())
    body["files"]["../escaped"] = body["files"]["state.db"]
    (made / MANIFEST).write_text(json.dumps(body))


def age(made: Path) -> None:
    body = json.loads((made / MANIFEST).read_text())
    (made / MANIFEST).write_text(json.dumps(body | {"format": 99}))


@pytest.mark.parametrize("harm", [flip, cut, lose, unlist, climb, age])
def test_a_backup_that_is_not_whole_restores_nothing(
    made: Path, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    harm(made)
    with pytest.raises(NoBackup):
        put_back(made, tmp_path / "new")
    assert not (tmp_path / "new").exists() or not any((tmp_path / "new").iterdir())
    assert not (tmp_path / "escaped").exists()


def test_a_directory_without_a_store_is_no_service(tmp_path: Path) -> None:
    with pytest.raises(NoBackup, match="no store"):
        backup(arguments(data_dir=str(tmp_path / "data"), to=str(tmp_path / "b")), print)
    assert not (tmp_path / "b").exists()


def test_snapshots_are_bounded_and_none_is_left_half_done(tmp_path: Path) -> None:
    settings = load(Options(data_dir=str(tmp_path)), {})
    with DuckDBStore.open(tmp_path / "telemetry.duckdb") as store:
        with pytest.raises(StoreUnavailable, match="no state database"):
            take_snapshot(store, settings, NOW_MS)
        assert list((tmp_path / "snapshots").iterdir()) == []
        for number in range(100):
            (tmp_path / "snapshots" / str(number)).mkdir()
        with pytest.raises(StoreUnavailable, match="100 snapshots"):
            take_snapshot(store, settings, NOW_MS)
    memory = load(Options(data_dir=str(tmp_path)), {"WARROOM_STORE_URL": "duckdb:memory"})
    with DuckDBStore.open(None) as store, pytest.raises(StoreUnavailable, match="in memory"):
        take_snapshot(store, memory, NOW_MS)
