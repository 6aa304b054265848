"""Backups: a directory with a consistent copy of everything, and a list of what must be in it.

`take` makes one from an open store; the service does so at `POST /api/v1/admin/tsdb/snapshot`.
`warroom backup` fetches that from a running service, or opens the data directory of a stopped one.
`warroom restore` makes a data directory of a backup, or nothing at all.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import orjson
import structlog

from store.backends.duckdb import DuckDBStore, is_in_use
from store.errors import StoreUnavailable, WarroomError
from store.ports import Snapshotter
from store.state_copy import copy_state
from warroom.client import snapshot
from warroom.clock import system_now_ms
from warroom.config import Options, Settings, load

log = structlog.get_logger()

TELEMETRY, STATE, MANIFEST = "telemetry.duckdb", "state.db", "backup.json"
SNAPSHOTS = "snapshots"
# In the data directory: when the last backup was finished, for the checklist of readiness.
LAST_BACKUP = "last_backup_ms"
_FORMAT = 1
_PIECE = 4 * 1024 * 1024
_MOST_SNAPSHOTS = 100
Show = Callable[[str], None]


class NoBackup(WarroomError):
    """What was given is not a whole backup, or the place for it is taken."""


@contextmanager
def _private_files() -> Iterator[None]:
    """What is made here only its owner can read."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def last_backup_ms(settings: Settings) -> int | None:
    """When the newest backup was made, by `warroom backup` or as a snapshot that is kept."""
    if settings.in_memory:
        return None
    found = [
        settings.data_dir / LAST_BACKUP,
        *(settings.data_dir / SNAPSHOTS).glob(f"*/{MANIFEST}"),
    ]
    made = [_made_ms(path) for path in found]
    return max((at_ms for at_ms in made if at_ms is not None), default=None)


def _made_ms(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="utf-8")
        return int(orjson.loads(text)["made_at_ms"]) if path.name == MANIFEST else int(text)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def take_snapshot(store: Snapshotter, settings: Settings, now_ms: int) -> str:
    """A backup below the data directory, of the running service; returns its name.

    Raises:
        StoreUnavailable: It cannot be written, or the service keeps nothing on disk.
    """
    if settings.in_memory:
        raise StoreUnavailable("this service keeps its data in memory: there is nothing to copy")
    parent = settings.data_dir / SNAPSHOTS
    if parent.is_dir() and sum(1 for _ in parent.iterdir()) >= _MOST_SNAPSHOTS:
        raise StoreUnavailable(
            f"{parent} holds {_MOST_SNAPSHOTS} snapshots already", hint="remove old ones"
        )
    at = datetime.fromtimestamp(now_ms / 1000, UTC)
    name = f"{at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(8)}"
    take(store, settings, parent / name, now_ms)
    log.info("snapshot taken", name=name)
    return name


def take(store: Snapshotter, settings: Settings, directory: Path, now_ms: int) -> None:
    """Copy the store and the SQLite state into a directory, and list them."""
    try:
        store.snapshot(directory)
        if settings.file.state.url == "sqlite":
            copy_state(settings.data_dir / STATE, directory / STATE)
        _write_manifest(directory, now_ms)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _write_manifest(directory: Path, now_ms: int) -> None:
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": _digest(path)}
        for path in sorted(directory.iterdir())
    }
    body = {
        "format": _FORMAT,
        "made_at_ms": now_ms,
        "warroom": metadata.version("warroom"),
        "files": files,
    }
    (directory / MANIFEST).write_bytes(orjson.dumps(body, option=orjson.OPT_INDENT_2))


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


@_private_files()
def backup(arguments: argparse.Namespace, show: Show) -> int:
    """Copy a service's data, running or not, to a directory.

    Raises:
        WarroomError: The target is taken, the service refuses, or the disk does.
    """
    settings = load(Options(config=arguments.config, data_dir=arguments.data_dir))
    target = Path(arguments.to)
    _check_empty(target)
    if not (settings.data_dir / TELEMETRY).exists():
        raise NoBackup(f"there is no store in {settings.data_dir}", hint="see --data-dir")
    if is_in_use(settings.data_dir):
        _fetch(settings, arguments, target)
    else:
        with closing(DuckDBStore.open(settings.data_dir)) as store:
            take(store, settings, target, system_now_ms())
    (settings.data_dir / LAST_BACKUP).write_text(str(system_now_ms()))
    size = sum(path.stat().st_size for path in target.iterdir())
    show(f"{target}: {size} bytes")
    if settings.file.state.url != "sqlite":
        show("the state is in PostgreSQL: back it up with pg_dump")
    return 0


def _fetch(settings: Settings, arguments: argparse.Namespace, target: Path) -> None:
    """Let the running service make a snapshot, and take it from there."""
    name = snapshot(arguments.url, arguments.token)
    made = settings.data_dir / SNAPSHOTS / Path(name).name
    if not made.is_dir():
        raise NoBackup(
            f"the service at {arguments.url} has another data directory than {settings.data_dir}",
            hint="give --url and --data-dir of the same service",
        )
    try:
        _copy_checked(made, target)
    finally:
        shutil.rmtree(made, ignore_errors=True)


@_private_files()
def restore(arguments: argparse.Namespace, show: Show) -> int:
    """Make a data directory of a backup.

    Raises:
        WarroomError: The backup is not whole, or the directory is not empty.
    """
    target = Path(arguments.data_dir)
    _check_empty(target)
    _copy_checked(Path(arguments.source), target)
    (target / MANIFEST).unlink()
    show(f"{target} is ready: warroom serve --data-dir {target}")
    return 0


def _check_empty(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise NoBackup(f"{target} is not empty", hint="name a directory that is empty or new")


def _copy_checked(source: Path, target: Path) -> None:
    """Copy the files of a backup; they come under their names only when all of them are right."""
    files = _manifest(source)
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_room(target, sum(size for size, _ in files.values()))
        for name, listed in files.items():
            shutil.copyfile(source / name, target / f"{name}.partial")
            _check_copy(target / f"{name}.partial", source / name, listed)
        for name in files:
            (target / f"{name}.partial").rename(target / name)
        shutil.copyfile(source / MANIFEST, target / MANIFEST)
    except (OSError, NoBackup) as exc:
        for name in (*files, MANIFEST):
            (target / name).unlink(missing_ok=True)
            (target / f"{name}.partial").unlink(missing_ok=True)
        if isinstance(exc, NoBackup):
            raise
        raise NoBackup(f"copying {source} to {target} failed: {exc}") from exc


def _check_room(target: Path, wanted: int) -> None:
    if shutil.disk_usage(target).free < wanted:
        raise NoBackup(f"{wanted} bytes do not fit on the disk of {target}")


def _check_copy(copy: Path, source: Path, listed: tuple[int, str]) -> None:
    if (copy.stat().st_size, _digest(copy)) != listed:
        raise NoBackup(
            f"{source} is damaged: it is not what the backup's list says",
            hint="use another backup",
        )


def _manifest(source: Path) -> dict[str, tuple[int, str]]:
    """Size and digest of each file that must be there."""
    try:
        body = orjson.loads((source / MANIFEST).read_bytes())
        version = int(body["format"])
        files = {
            str(name): (int(entry["bytes"]), str(entry["sha256"]))
            for name, entry in body["files"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise NoBackup(
            f"{source} is no backup: {MANIFEST} is missing or damaged",
            hint="name the directory that `warroom backup` made",
        ) from exc
    if version != _FORMAT:
        raise NoBackup(f"{source} was made by another version of Warroom")
    if TELEMETRY not in files or not files.keys() <= {TELEMETRY, STATE}:
        raise NoBackup(f"{source} is no backup: {MANIFEST} names other files")
    return files
