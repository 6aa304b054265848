"""Who is asked for a token, and that no secret of the configuration is ever shown."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import pytest
import structlog

from api.guard import GuardPolicy
from store.errors import WarroomError
from tests.warroom.world import IN_MEMORY, Clock, World, open_world, settings_of
from warroom.app import build
from warroom.config import Options
from warroom.serve import serve
from warroom.telemetry import configure_logs

SECRETS = ("hunter2-scrape", "hunter2-pager-key-0123456789abcd", "hunter2-hook")
ALERTING = """
route: {receiver: pager}
receivers:
  - name: pager
    pagerduty_configs: [{routing_key: hunter2-pager-key-0123456789abcd}]
    webhook_configs: [{url: "http://127.0.0.1:9/hook?key=hunter2-hook"}]
"""
CONFIGURATION = f"""{IN_MEMORY}
alertmanager_file: alerts.yml
scrape_configs:
  - job_name: shop
    basic_auth: {{username: warroom, password: hunter2-scrape}}
    static_configs: [{{targets: ["127.0.0.1:9"]}}]
"""


@contextmanager
def policy(directory: Path, **options: Any) -> Iterator[GuardPolicy]:
    service = build(settings_of(directory, **options), now=Clock())
    try:
        yield service.web.policy
    finally:
        asyncio.run(service.stop())


def test_on_loopback_the_name_is_checked_and_no_token_is_asked(tmp_path: Path) -> None:
    with policy(tmp_path) as chosen:
        assert not chosen.tokens_required
        assert chosen.hosts == {"127.0.0.1", "localhost", "::1"}


def test_elsewhere_a_token_is_asked(tmp_path: Path) -> None:
    text = f"{IN_MEMORY}auth: {{allowed_hosts: [warroom.example]}}\n"
    with policy(tmp_path, text=text, listen="0.0.0.0:0") as chosen:
        assert chosen.tokens_required
        assert chosen.hosts == {"warroom.example"}
        assert chosen.role_of("nonsense") is None


def test_each_listener_asks_by_its_own_address(tmp_path: Path) -> None:
    service = build(settings_of(tmp_path, otlp_http="0.0.0.0:0"), now=Clock())
    try:
        assert not service.web.policy.tokens_required
        assert service.web.otlp_policy.tokens_required
    finally:
        asyncio.run(service.stop())


def test_behind_a_proxy_the_proxy_asks(tmp_path: Path) -> None:
    with policy(tmp_path, listen="0.0.0.0:0", behind_proxy=True) as chosen:
        assert not chosen.tokens_required


@pytest.mark.parametrize("option", ["listen", "otlp_http"])
def test_an_open_address_without_tls_or_proxy_is_refused(tmp_path: Path, option: str) -> None:
    options: dict[str, Any] = {"listen": "127.0.0.1:0", "otlp_http": "off", "otlp_grpc": "off"}
    options[option] = "0.0.0.0:0"
    chosen = Options(data_dir=str(tmp_path), **options)
    with pytest.raises(WarroomError, match="neither TLS nor a proxy"):
        serve(chosen, log_level="error", log_json=True)


@contextmanager
def logged() -> Iterator[io.StringIO]:
    """Everything that is logged meanwhile, as JSON lines."""
    text = io.StringIO()
    kept = structlog.get_config()
    try:
        with redirect_stderr(text):
            configure_logs(level="debug", json=True)
            yield text
    finally:
        structlog.configure(**kept)


def ask_everything(world: World) -> str:
    paths = (
        "/api/v1/status/config",
        "/api/v1/status/runtimeinfo",
        "/api/v1/targets",
        "/api/v2/status",
        "/api/v2/receivers",
        "/api/warroom/v1/sources",
        "/api/warroom/v1/alerts",
        "/api/warroom/v1/incidents",
        "/api/openapi.json",
        "/metrics",
    )
    return "\n".join(world.ask("GET", path).text for path in paths)


def test_no_secret_of_the_configuration_is_answered_or_logged(tmp_path: Path) -> None:
    with logged() as log, open_world(tmp_path, CONFIGURATION, {"alerts.yml": ALERTING}) as world:
        alert = [{"labels": {"alertname": "A", "severity": "page"}}]
        assert world.ask("POST", "/api/v2/alerts", json=alert).status_code == 200
        world.evaluate()
        world.evaluate(60_000)
        for target in world.service.intake.scraper.targets():
            world.run(world.service.intake.scraper.scrape(target, world.clock.now_ms))
        answers = ask_everything(world)
        settings = repr(world.service.settings.environment)
    assert "pager" in answers
    for secret in SECRETS:
        assert secret not in answers
        assert secret not in log.getvalue()
        assert secret not in settings


def test_the_settings_do_not_show_the_environment(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    assert "environment" not in repr(settings)
