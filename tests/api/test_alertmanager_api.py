"""Alertmanager's API v2 on a real port, asked by the real amtool."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn
import yaml
from fastapi import FastAPI

from alerts.engine import AlertEngine
from alerts.model import Alert
from alerts.repository import AlertRepository
from alerts.routing import parse_alertmanager
from api.routers.alertmanager import router
from store.model import Labels
from store.sql import open_engine, open_sessions, upgrade
from tests.e2e.service import free_port, needs, until

CONFIG = """
route:
  receiver: pager
  group_by: [service]
  routes: [{matchers: [severity="ticket"], receiver: desk}]
receivers: [{name: pager, pagerduty_configs: [{routing_key: S3CR3T}]}, {name: desk}]
inhibit_rules:
  - {source_matchers: [severity="page"], target_matchers: [severity="ticket"], equal: [service]}
"""


@dataclass
class Server:
    url: str
    engine: AlertEngine
    now_ms: int


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    database = open_engine(f"sqlite:///{tmp_path}/state.db")
    upgrade(database)
    # amtool reckons with its own clock: the server's must be the same.
    now_ms = int(time.time() * 1000)
    engine = AlertEngine(
        AlertRepository(open_sessions(database)), parse_alertmanager(CONFIG, "am.yml")
    )
    app = FastAPI()
    app.include_router(router(engine, lambda: int(time.time() * 1000)))
    listener = socket.create_server(("127.0.0.1", 0))
    running = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=running.run, args=([listener],), daemon=True)
    thread.start()
    yield Server(f"http://127.0.0.1:{listener.getsockname()[1]}", engine, now_ms)
    running.should_exit = True
    thread.join(timeout=10)
    listener.close()
    database.dispose()


def amtool(server: Server, *arguments: str) -> str:
    binary = shutil.which("amtool")
    if binary is None:
        if os.environ.get("CI") == "true":
            pytest.fail("amtool is missing (Debian package prometheus-alertmanager)")
        pytest.skip("amtool is not installed")
    told = subprocess.run(
        [binary, f"--alertmanager.url={server.url}", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.returncode == 0, told.stderr
    return told.stdout


def fire(server: Server) -> None:
    alerts = [
        Alert(Labels.of(alertname="Orders", service="shop", severity="page"), {"summary": "gone"}),
        Alert(Labels.of(alertname="Slow", service="shop", severity="ticket")),
        Alert(Labels.of(alertname="Slow", service="cart", severity="ticket")),
    ]
    server.engine.tick(server.now_ms, alerts)


def test_amtool_reads_alerts_and_silences_one(server: Server) -> None:
    fire(server)
    assert "Orders" in amtool(server, "alert", "query")
    identity = amtool(
        server, "silence", "add", "--author=ann", "--comment=known", "alertname=Orders"
    ).strip()
    assert identity in amtool(server, "silence", "query")
    assert "Orders" not in amtool(server, "alert", "query")
    assert "Orders" in amtool(server, "alert", "query", "--silenced")
    amtool(server, "silence", "expire", identity)
    assert identity not in amtool(server, "silence", "query")
    assert "Orders" in amtool(server, "alert", "query")


def test_amtool_adds_an_alert_that_fires_at_the_next_tick(server: Server) -> None:
    amtool(server, "alert", "add", "alertname=Posted", "service=shop", "--annotation=summary=hi")
    result = server.engine.tick(server.now_ms + 60_000, [])
    assert [record.name for record in result.records if record.firing] == ["Posted"]


def test_amtool_shows_the_configuration_without_its_secrets(server: Server) -> None:
    shown = amtool(server, "config", "show")
    assert "receiver: pager" in shown
    assert "S3CR3T" not in shown


def test_groups_say_who_is_told_and_what_is_inhibited(server: Server) -> None:
    fire(server)
    groups = httpx.get(f"{server.url}/api/v2/alerts/groups", trust_env=False).json()
    seen = {
        (g["receiver"]["name"], g["labels"]["service"]): [a["status"]["state"] for a in g["alerts"]]
        for g in groups
    }
    assert seen == {
        ("pager", "shop"): ["active"],
        ("desk", "shop"): ["suppressed"],
        ("desk", "cart"): ["active"],
    }
    only = httpx.get(
        f"{server.url}/api/v2/alerts",
        params={"filter": 'service="cart"', "receiver": "de.k"},
        trust_env=False,
    ).json()
    assert [alert["labels"]["service"] for alert in only] == ["cart"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "silences",
            {
                "matchers": [],
                "startsAt": "2026-01-01T00:00:00Z",
                "endsAt": "2099-01-01T00:00:00Z",
                "createdBy": "a",
                "comment": "c",
            },
        ),
        ("alerts", [{"labels": {"bad name": "x"}}]),
        ("alerts", [{"labels": {"a": ""}}]),
        (
            "alerts",
            [
                {
                    "labels": {"a": "b"},
                    "startsAt": "2026-01-02T00:00:00Z",
                    "endsAt": "2026-01-01T00:00:00Z",
                }
            ],
        ),
    ],
)
def test_what_makes_no_sense_is_refused(server: Server, path: str, body: object) -> None:
    answer = httpx.post(f"{server.url}/api/v2/{path}", json=body, trust_env=False)
    assert answer.status_code == 400, answer.text


def test_an_unknown_silence_and_a_bad_filter_are_told(server: Server) -> None:
    nobody = "00000000-0000-0000-0000-000000000000"
    assert httpx.get(f"{server.url}/api/v2/silence/{nobody}", trust_env=False).status_code == 404
    bad = httpx.get(f"{server.url}/api/v2/alerts", params={"filter": "a=~("}, trust_env=False)
    assert bad.status_code == 400


def test_a_real_prometheus_posts_its_alerts_and_their_end(server: Server, tmp_path: Path) -> None:
    # It ends some seconds after it began, and begins again.
    began = 'max(ALERTS_FOR_STATE{alertname="Often"})'
    rule = {
        "alert": "Often",
        "expr": f"vector(1) unless on () (time() - {began} > 4)",
        "labels": {"severity": "page", "service": "shop"},
        "annotations": {"summary": "posted by Prometheus"},
    }
    rules = {"groups": [{"name": "g", "interval": "1s", "rules": [rule]}]}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    target = {"static_configs": [{"targets": [server.url.removeprefix("http://")]}]}
    config = {"rule_files": ["rules.yml"], "alerting": {"alertmanagers": [target]}}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    process = subprocess.Popen(
        [
            needs("prometheus"),
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{free_port()}",
            "--log.level=error",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def state() -> str:
        now_ms = int(time.time() * 1000)
        return next((str(r.state) for r in server.engine.tick(now_ms, []).records), "")

    try:
        until(lambda: state() == "firing", "the alert of Prometheus fires", 60)
        (record,) = server.engine.snapshot().records.values()
        assert record.annotations == {"summary": "posted by Prometheus"}
        until(lambda: state() == "resolved", "Prometheus tells its end", 60)
    finally:
        process.terminate()
        process.wait(30)
