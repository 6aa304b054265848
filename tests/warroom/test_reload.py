"""The configuration changes while the service runs: all of it, or nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.service import Warroom, until
from tests.warroom.world import SLO, World, open_world

CONFIG = """
store: {url: 'duckdb:memory'}
rule_files: ['rules/*.yml']
slo_files: ['slos/*.yml']
alertmanager_file: am.yml
boards_dir: boards
"""
RULES = """
groups:
  - name: shop
    rules:
      - {record: doubled, expr: 2 * queue_length}
      - {alert: QueueGrows, expr: queue_length > 100, for: 20s, labels: {severity: page}}
"""
MORE = """      - {alert: QueueFull, expr: queue_length > 200, labels: {severity: page}}
"""
ROUTES = """
route: {receiver: %s, group_wait: 0s, group_by: [alertname]}
receivers:
  - {name: first, webhook_configs: [{url: 'http://127.0.0.1:1/'}]}
  - {name: second, webhook_configs: [{url: 'http://127.0.0.1:1/'}]}
"""
BOARD = "{name: %s, title: Mine, rows: []}"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    return {"rules/shop.yml": RULES, "am.yml": ROUTES % "first", "boards/a.yaml": BOARD % "a"}


@pytest.fixture
def world(tmp_path: Path, files: dict[str, str]) -> Iterator[World]:
    with open_world(tmp_path, CONFIG, files) as world:
        yield world


def write(directory: Path, name: str, text: str) -> None:
    path = directory / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")


def grow(world: World, length: float) -> dict[str, str]:
    """A tick at which the queue has a length; answers with each alert's state."""
    row = ({"__name__": "queue_length"}, world.clock.now_ms + 5_000, length)
    world.samples(row)
    world.evaluate()
    records = world.service.paging.engine.snapshot().records.values()
    return {record.name: str(record.state) for record in records}


def metric(world: World, name: str) -> float:
    lines = world.ask("GET", "/metrics").text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))


def test_rules_slos_routes_and_boards_change_and_clocks_go_on(world: World, tmp_path: Path) -> None:
    assert grow(world, 300) == {"QueueGrows": "pending"}
    assert grow(world, 300) == {"QueueGrows": "pending"}
    write(tmp_path, "rules/shop.yml", RULES.replace("2 * queue_length", "3 * queue_length") + MORE)
    write(tmp_path, "slos/one.yml", SLO)
    write(tmp_path, "am.yml", ROUTES % "second")
    write(tmp_path, "boards/b.yaml", BOARD % "b")
    answer = world.ask("POST", "/-/reload")
    assert (answer.status_code, "1 SLOs" in answer.text) == (200, True)
    assert grow(world, 300) == {"QueueGrows": "pending", "QueueFull": "firing"}
    grow(world, 300)
    assert grow(world, 300)["QueueGrows"] == "firing"  # 20 s after its first tick, not its reload
    told = {n.receiver for n in world.service.paging.engine.snapshot().entries.values()}
    assert told == {"second"}
    doubled = world.service.sight.rules
    assert [s.rule.expr for s in doubled.statuses() if s.rule.name == "doubled"] == [
        "3 * queue_length"
    ]
    assert {board["name"] for board in world.get("/boards")["boards"]} >= {"a", "b"}
    assert [slo["name"] for slo in world.get("/slos")["slos"]] == ["checkout"]


def test_what_a_removed_rule_said_ends(world: World, tmp_path: Path) -> None:
    grow(world, 300)
    write(tmp_path, "rules/shop.yml", "groups: []\n")
    assert world.ask("PUT", "/-/reload").status_code == 200
    assert grow(world, 300) == {}
    answer = world.ask(
        "GET", "/api/v1/query", params={"query": "doubled", "time": world.clock.now_ms / 1000}
    )
    assert answer.json()["data"]["result"] == []


def test_a_receiver_of_a_route_may_change_while_its_alert_fires(
    world: World, tmp_path: Path
) -> None:
    write(tmp_path, "rules/shop.yml", RULES + MORE)
    world.ask("POST", "/-/reload")
    grow(world, 300)
    write(
        tmp_path, "am.yml", (ROUTES % "second").replace("  - {name: first, ", "  - {name: third, ")
    )
    assert world.ask("POST", "/-/reload").status_code == 200
    grow(world, 300)
    assert all(unit.ok for unit in world.service.ticker.readings.health)


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        ("rules/shop.yml", RULES.replace("> 100", "> ("), "shop.yml:6: "),
        ("rules/new.yml", "groups: [{nam: x}]", "new.yml:1: "),
        ("slos/bad.yml", "apiVersion: openslo/v1\nkind: SLO\n", "bad.yml"),
        ("am.yml", ROUTES % "nobody", "am.yml:2: "),
        ("boards/b.yaml", "{name: b, title: b, rows: [{panels: [{kind: pie}]}]}", "b.yaml"),
        ("warroom.yaml", CONFIG + "evaluation_intervall: 5s\n", "warroom.yaml:7: "),
        ("rules/shop.yml", RULES.replace("labels: {", "labels: {a: '{{ end }}', "), "shop.yml:6: "),
    ],
)
def test_a_mistake_keeps_what_was_in_force(
    world: World, tmp_path: Path, name: str, text: str, where: str
) -> None:
    assert metric(world, "warroom_config_last_reload_successful") == 1
    before = [status.rule for status in world.service.sight.rules.statuses()]
    good = (tmp_path / name).read_text(encoding="utf-8") if (tmp_path / name).exists() else ""
    write(tmp_path, name, text)
    answer = world.ask("POST", "/-/reload")
    assert answer.status_code == 500
    assert answer.text.startswith("failed to reload config: ")
    assert where in answer.text
    assert [status.rule for status in world.service.sight.rules.statuses()] == before
    assert metric(world, "warroom_config_last_reload_successful") == 0
    info = world.ask("GET", "/api/v1/status/runtimeinfo").json()["data"]
    assert info["reloadConfigSuccess"] is False
    (tmp_path / name).unlink()
    if good:
        write(tmp_path, name, good)
    assert world.ask("POST", "/-/reload").status_code == 200
    assert metric(world, "warroom_config_last_reload_successful") == 1


def test_of_two_reloads_at_once_the_later_files_are_in_force(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = world.service.configuration
    read, first_has_read, go_on = configuration._read, threading.Event(), threading.Event()
    reads: list[object] = []

    def slow() -> object:
        parsed = read()
        reads.append(parsed)
        if len(reads) == 1:
            first_has_read.set()
            go_on.wait(30)
        return parsed

    monkeypatch.setattr(configuration, "_read", slow)

    async def both() -> None:
        first = asyncio.create_task(configuration.reload())
        await asyncio.to_thread(first_has_read.wait, 30)
        write(tmp_path, "rules/shop.yml", RULES + MORE)
        second = asyncio.create_task(configuration.reload())
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(reads) == 1
        go_on.set()
        await asyncio.gather(first, second)

    world.run(both())
    assert "QueueFull" in {status.rule.name for status in world.service.sight.rules.statuses()}


def test_a_change_that_needs_a_restart_is_told(world: World, tmp_path: Path) -> None:
    write(tmp_path, "warroom.yaml", CONFIG + "evaluation_interval: 10s\n")
    assert "evaluation_interval waits for a restart" in world.ask("POST", "/-/reload").text


def test_a_page_of_another_origin_cannot_reload(world: World) -> None:
    answer = world.ask("POST", "/-/reload", headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_hangup_signal_reloads(tmp_path: Path) -> None:
    service = Warroom(tmp_path, config="rule_files: ['r*.yml']\n")
    service.start()
    try:
        write(tmp_path, "r.yml", "groups: [{name: g, rules: [{record: answer, expr: vector(42)}]}]")
        assert service.process is not None
        os.kill(service.process.pid, signal.SIGHUP)
        until(lambda: service.vector("answer") == {"": 42.0}, "the new rule records")
        write(
            tmp_path, "r.yml", "groups: [{name: g, rules: [{record: 'no name', expr: vector(1)}]}]"
        )
        os.kill(service.process.pid, signal.SIGHUP)
        until(
            lambda: "r.yml:1: 'no name' is no metric name" in service.log, "the mistake is logged"
        )
        assert service.ready()
    finally:
        service.stop()


ASKED = """
scrape_configs:
  - {job_name: %s, static_configs: [{targets: ['127.0.0.1:1']}]}
pollers:
  - {type: host, name: %s, proc: /no/such/proc}
"""


def asked(world: World) -> tuple[list[str], list[str]]:
    intake = world.service.intake
    jobs = [target.labels["job"] for target in intake.scraper.targets()]
    return jobs, [target.name for target in intake.pollers.targets()]


def test_scrapes_and_pollers_change_and_a_mistake_keeps_both(world: World, tmp_path: Path) -> None:
    write(tmp_path, "warroom.yaml", CONFIG + ASKED % ("shop", "here"))
    answer = world.ask("POST", "/-/reload")
    assert "1 scrape jobs, 1 pollers" in answer.text
    assert "restart" not in answer.text
    assert asked(world) == (["shop"], ["here"])
    write(tmp_path, "warroom.yaml", CONFIG + ASKED % ("other", "there, interval: 0s"))
    answer = world.ask("POST", "/-/reload")
    assert (answer.status_code, "warroom.yaml:11: " in answer.text) == (500, True)
    assert asked(world) == (["shop"], ["here"])
    write(tmp_path, "warroom.yaml", CONFIG + ASKED % ("other", "there"))
    assert world.ask("POST", "/-/reload").status_code == 200
    assert asked(world) == (["other"], ["there"])
    jobs = {job.id for job in world.service.schedule._scheduler.get_jobs()}
    assert {name for name in jobs if name.startswith("poll/")} == {"poll/host/there"}
    assert len([name for name in jobs if name.startswith("scrape/other/127.0.0.1:1/")]) == 1


def test_a_secret_of_a_target_is_in_no_metric_and_no_shown_configuration(
    world: World, tmp_path: Path
) -> None:
    text = """
scrape_configs:
  - job_name: shop
    metrics_path: /metrics?api_key=s3cret-path
    params: {token: [s3cret-param]}
    static_configs: [{targets: ['127.0.0.1:1'], labels: {__param_x: s3cret-label}}]
"""
    write(tmp_path, "warroom.yaml", CONFIG + text)
    assert world.ask("POST", "/-/reload").status_code == 200
    schedule = world.service.schedule
    jobs = {job.id: job for job in schedule._scheduler.get_jobs()}
    (name,) = (name for name in jobs if name.startswith("scrape/"))
    assert "s3cret" not in name
    world.run(jobs[name].func())
    assert name in {unit.unit.removeprefix("job/") for unit in schedule.health}
    for path in ("/metrics", "/api/v1/status/config", "/api/v1/targets"):
        answer = world.ask("GET", path)
        assert answer.status_code == 200
        assert "s3cret" not in answer.text, path
