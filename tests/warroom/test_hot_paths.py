"""Receivers that are answered before the middleware are guarded and metered as everything else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import cramjam
import httpx
import pytest
from starlette.types import ASGIApp

from api.tokens.repository import Role
from store.model import Labels, Matcher, MatchOp
from tests.collector.otlp_bodies import trace_request
from tests.collector.remote_write_bytes import HistogramBody, field, labels_bytes, series_bytes
from tests.warroom.world import IN_MEMORY, Clock, settings_of
from warroom.app import Service, build

PROTOBUF = {"content-type": "application/x-protobuf"}
OPEN = f"{IN_MEMORY}auth: {{allowed_hosts: [warroom.example]}}\n"
HOT = ("/api/v1/write", "/v1/traces", "/v1/metrics", "/v1/logs")


class Mounted:
    """A service and its main port's application, without a port."""

    def __init__(self, service: Service, runner: asyncio.Runner, host: str) -> None:
        self.service = service
        self.app: ASGIApp = service.web.app()
        self._runner = runner
        transport = httpx.ASGITransport(app=self.app)
        self._client = httpx.AsyncClient(transport=transport, base_url=f"http://{host}")

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        answer: httpx.Response = self._runner.run(self._client.request(method, path, **options))
        return answer

    def write(self, message: bytes, **headers: str) -> httpx.Response:
        body = bytes(cramjam.snappy.compress_raw(message))
        return self.ask("POST", "/api/v1/write", content=body, headers={**PROTOBUF, **headers})

    def close(self) -> None:
        self._runner.run(self._client.aclose())
        self._runner.run(self.service.stop())


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    with asyncio.Runner() as runner:
        service = build(settings_of(tmp_path_factory.mktemp("local")), now=Clock())
        mounted = Mounted(service, runner, "127.0.0.1:8600")
        yield mounted
        mounted.close()


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    """On an open address, with a token for each role; the secret is the role's name."""
    with asyncio.Runner() as runner:
        directory = tmp_path_factory.mktemp("public")
        service = build(settings_of(directory, OPEN, listen="0.0.0.0:0"), now=Clock())
        policy = replace(service.web.policy, role_of={role.value: role for role in Role}.get)
        service.web = replace(service.web, policy=policy)
        mounted = Mounted(service, runner, "warroom.example")
        yield mounted
        mounted.close()


def test_what_is_written_is_stored_and_metered(local: Mounted) -> None:
    now_ms = Clock().now_ms
    good = series_bytes([("__name__", "good")], [(now_ms, 42.0)])
    late = series_bytes([("__name__", "good")], [(now_ms + 7_200_000, 1.0), (1, 1.0)])
    sent = HistogramBody(now_ms, 3, 1.5, spans=((0, 1),), deltas=(3,)).encoded()
    native = field(1, labels_bytes([("__name__", "native")]) + field(4, sent))
    response = local.write(good + late + native)
    assert response.status_code == 400
    assert "timestamp_in_future: 1 " in response.text
    assert "too_old: 1 " in response.text
    everything = [Matcher("__name__", MatchOp.REGEX, "good|native")]
    found = local.service.store.select(everything, now_ms - 1, now_ms + 1)
    assert set(found.series) == {Labels.of(__name__="good"), Labels.of(__name__="native")}
    assert 42.0 in found.values.tolist()
    metrics = local.ask("GET", "/metrics").text
    dropped = 'warroom_collector_dropped_total{reason="too_old",source="remote_write"} 1.0'
    assert dropped in metrics
    answer = local.ask("GET", "/api/v1/query", params={"query": "histogram_count(native)"}).json()
    assert [one["value"][1] for one in answer["data"]["result"]] == ["3"]


@pytest.mark.parametrize("path", HOT)
def test_the_name_and_the_origin_are_checked(local: Mounted, path: str) -> None:
    for headers in ({"host": "evil.example"}, {"origin": "http://evil.example"}):
        assert local.ask("POST", path, headers=headers).status_code == 403
    assert local.ask("GET", path).status_code == 405


@pytest.mark.parametrize("path", HOT)
def test_elsewhere_a_token_of_the_right_role_is_asked(public: Mounted, path: str) -> None:
    assert public.ask("POST", path).status_code == 401
    statuses = {
        role: public.ask(
            "POST", path, headers={"authorization": f"Bearer {role.value}"}
        ).status_code
        for role in (Role.VIEWER, Role.INGEST)
    }
    assert statuses[Role.VIEWER] == 403
    assert statuses[Role.INGEST] in (400, 415)


def test_otlp_is_answered_there_as_well(local: Mounted) -> None:
    body = trace_request(2).SerializeToString()
    assert local.ask("POST", "/v1/traces", content=body, headers=PROTOBUF).status_code == 200


def test_other_paths_are_answered_by_the_rest_of_the_service(local: Mounted) -> None:
    assert local.ask("GET", "/-/healthy").status_code == 200
    assert local.ask("POST", "/api/v1/write/more").status_code in (404, 405)
