"""Servers that several modules ask, started once a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.collector.pollers.asking import Asking
from tests.collector.pollers.servers import (
    Pair,
    RedisServer,
    SilentServer,
    mariadb_pair,
    mariadb_template,
)

Ask = Callable[..., Asking]


@pytest.fixture
def ask() -> Iterator[Ask]:
    """A poller from the text of its configuration, closed with the test."""
    with ExitStack() as opened:

        def asking(text: str, secrets: Mapping[str, str] | None = None) -> Asking:
            made = Asking(text, secrets or {})
            opened.callback(made.close)
            return made

        yield asking


@pytest.fixture(scope="session")
def mariadb_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mariadb_template(tmp_path_factory.mktemp("mariadb") / "template")


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory, mariadb_data: Path) -> Iterator[Pair]:
    with mariadb_pair(tmp_path_factory.mktemp("pair"), mariadb_data) as running:
        yield running


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def silent() -> Iterator[SilentServer]:
    server = SilentServer()
    yield server
    server.close()
