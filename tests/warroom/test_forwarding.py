"""`remote_write` in the composition root: who is told what, and what the check says."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import pytest

from store.documents import parse_document, without_secrets
from store.errors import ConfigError
from store.model import Batch, Labels, SampleBatch
from warroom.check import check
from warroom.config import Options, load
from warroom.forwarding import Forwarding, ForwardingAppender, read_remote_write

NOW_MS = 1_790_000_000_000
SECTION = """
remote_write:
  - url: https://metrics.example/api/v1/write?key=s3cret
    name: central
    headers: {X-Auth: s3cret}
    authorization: {credentials_env: CENTRAL_TOKEN}
"""


def batch() -> SampleBatch:
    return SampleBatch.of_rows([(Labels.of(__name__="a"), NOW_MS, 1.0)])


class Store:
    """Takes batches; the test says when they are durable."""

    def __init__(self) -> None:
        self.waiting: list[Future[None]] = []

    def append(self, _batch: Batch) -> Future[None]:
        self.waiting.append(Future())
        return self.waiting[-1]


def written(tmp_path: Path, text: str) -> Options:
    path = tmp_path / "warroom.yaml"
    path.write_text(text, encoding="utf-8")
    return Options(config=str(path), data_dir=str(tmp_path / "data"))


def test_what_rules_record_is_told_once_it_is_durable_and_not_when_it_is_lost() -> None:
    store, told = Store(), list[tuple[Batch, str]]()
    appender = ForwardingAppender(store, [lambda batch, source: told.append((batch, source))])
    kept, lost = batch(), batch()
    appender.append(kept)
    appender.append(lost)
    assert told == []
    store.waiting[0].set_result(None)
    store.waiting[1].set_exception(OSError("disk"))
    assert [(entry is kept, source) for entry, source in told] == [(True, "warroom")]


def test_without_an_endpoint_the_store_is_used_as_it_is() -> None:
    store = Store()
    assert Forwarding().around(store) is store
    assert Forwarding().listeners == ()


def test_a_check_names_the_endpoints_and_needs_no_secret(tmp_path: Path) -> None:
    told: list[str] = []
    assert check(written(tmp_path, SECTION), told.append) == 0
    assert "ok    remote_write: forwards to central" in told
    assert "s3cret" not in "".join(told)


def test_the_service_does_need_it(tmp_path: Path) -> None:
    options = written(tmp_path, SECTION)
    with pytest.raises(ConfigError, match="no variable CENTRAL_TOKEN"):
        read_remote_write(load(options, environment={}))
    (endpoint,) = read_remote_write(load(options, environment={"CENTRAL_TOKEN": "t"}))
    assert endpoint.http.request_headers()["Authorization"] == "Bearer t"


def test_a_store_without_a_disk_refuses_a_queue(tmp_path: Path) -> None:
    options = written(tmp_path, "store: {url: 'duckdb:memory'}\nremote_write: [{url: http://a}]\n")
    with pytest.raises(ConfigError, match="in memory only") as caught:
        read_remote_write(load(options, environment={}))
    assert caught.value.line == 2


def test_a_mistake_is_found_by_the_check(tmp_path: Path) -> None:
    told: list[str] = []
    assert check(written(tmp_path, "remote_write: [{url: a}]\n"), told.append) == 1
    assert any("warroom.yaml:1" in line and "http://" in line for line in told)


def test_the_shown_configuration_has_no_secret_of_an_endpoint() -> None:
    shown = without_secrets(parse_document(SECTION, "warroom.yaml").data)
    assert "s3cret" not in str(shown)
    assert shown["remote_write"][0]["headers"] == {"X-Auth": "<secret>"}
    assert shown["remote_write"][0]["authorization"] == {"credentials_env": "CENTRAL_TOKEN"}
