"""Drills through the real service, and the dead-man's switch."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from typing_extensions import override

from alerts.deadman import Deadman, Ping, Pulse, decide
from alerts.drill import plan
from alerts.notification import DeliveryError
from alerts.route_tree import Secret
from alerts.routing import default_routing, parse_alertmanager
from alerts.silences import Silence, equality
from store.errors import BadInput, ConfigError, StoreUnavailable
from tests.alerts.http_double import Says, http_double
from tests.e2e.service import Warroom, until
from tests.warroom.world import NOW_MS, World, open_world, settings_of
from warroom.alerting_section import read_deadman, read_storm
from warroom.app import _pulse
from warroom.cli import main
from warroom.heartbeat import Heartbeat
from warroom.telemetry import SelfMetrics

OWN = "/api/warroom/v1"
ROUTES = """
route:
  receiver: nobody
  routes:
    - receiver: on-call
      matchers: [severity="page"]
      mute_time_intervals: [always]
      continue: true
    - {receiver: tickets, matchers: [severity="page"]}
receivers:
  - {name: nobody}
  - {name: on-call, pagerduty_configs: [{routing_key: k}]}
  - {name: tickets, webhook_configs: [{url: 'http://127.0.0.1:1/', send_resolved: false}]}
time_intervals: [{name: always, time_intervals: [{weekdays: ['sunday:saturday']}]}]
"""


def test_a_drill_takes_the_routes_of_its_labels_and_is_marked() -> None:
    routing = parse_alertmanager(ROUTES, "am.yml")
    silence = Silence("s1", (equality("severity", "page"),), NOW_MS - 1, NOW_MS + 9, "", "", 0)
    drill = plan({"severity": "page"}, routing, [silence], NOW_MS, external_url="http://w")
    assert [(r.receiver, r.kinds) for r in drill.routes] == [
        ("on-call", ("pagerduty",)),
        ("tickets", ("webhook",)),
    ]
    assert drill.routes[0].held_by == ("in_mute_time_interval: always", "silence s1")
    assert [(n.receiver, str(n.action)) for n in drill.notices] == [
        ("on-call", "trigger"),
        ("on-call", "resolve"),
        ("tickets", "trigger"),
    ]
    assert {n.alerts[0].labels.get("drill") for n in drill.notices} == {"true"}
    assert all(n.alerts[0].annotations["summary"].startswith("DRILL") for n in drill.notices)
    assert len({n.id for n in drill.notices}) == 3
    assert len({n.dedup_key for n in drill.notices}) == 2


def test_a_drill_that_would_reach_nobody_is_refused() -> None:
    with pytest.raises(BadInput, match="nobody is behind the receiver wall-only"):
        plan({"severity": "info"}, default_routing(), [], NOW_MS)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    config = "store: {url: 'duckdb:memory'}\nalertmanager_file: am.yml\n"
    with open_world(tmp_path, config, {"am.yml": ROUTES}) as world:
        yield world


def test_the_receipts_of_a_drill_can_be_asked_for(world: World) -> None:
    begun = world.post("/drills", {"labels": {"severity": "page"}}, 202)
    told = world.get(f"/drills/{begun['id']}")
    assert (told["done"], told["ok"]) == (False, False)
    assert [one["state"] for one in told["deliveries"]] == ["pending"] * 3
    assert world.get("/alerts")["alerts"] == []
    assert world.get("/incidents")["incidents"] == []


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/drills/nothing", 404, None),
        ("GET", "/drills/%25", 404, None),
        ("POST", "/drills", 400, {"labels": {"severity": "info"}}),
        ("POST", "/drills", 400, {"labels": {"a-b": "x"}}),
        ("POST", "/drills", 400, {"what": {}}),
    ],
)
def test_a_wrong_drill_is_refused(
    world: World, method: str, path: str, status: int, body: Any
) -> None:
    world.refusal(method, f"{OWN}{path}", status, json=body)


def pulse(**more: Any) -> Pulse:
    usual = {"last_tick_ms": NOW_MS, "tick_interval_ms": 5_000, "alerting_ok": True}
    return Pulse(**{**usual, "oldest_due_ms": None, **more})


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        (pulse(), Ping.ALIVE),
        (pulse(last_tick_ms=0), Ping.NO_TICK_YET),
        (pulse(last_tick_ms=NOW_MS - 15_000), Ping.ALIVE),
        (pulse(last_tick_ms=NOW_MS - 15_001), Ping.TICKS_STOPPED),
        (pulse(last_tick_ms=NOW_MS - 80_000, tick_interval_ms=30_000), Ping.ALIVE),
        (pulse(alerting_ok=False), Ping.ALERTS_NOT_EVALUATED),
        (pulse(oldest_due_ms=NOW_MS - 300_000), Ping.ALIVE),
        (pulse(oldest_due_ms=NOW_MS - 300_001), Ping.DELIVERY_STUCK),
    ],
)
def test_a_ping_says_that_warroom_would_page(state: Pulse, verdict: Ping) -> None:
    assert decide(state, NOW_MS) is verdict


def test_no_ping_goes_out_while_alerts_fail_not_even_amid_a_tick(world: World) -> None:
    ticker, paging = world.service.ticker, world.service.paging
    seen: list[Ping] = []

    def look(now_ms: int) -> None:
        at = _pulse(world.service.settings, ticker, paging)
        seen.append(decide(at, now_ms))

    def fail(now_ms: int, *_rest: object) -> None:
        look(now_ms)
        raise StoreUnavailable("the database is locked")

    good = ticker._steps
    look(world.clock.now_ms)
    look(world.evaluate())
    ticker._steps = replace(good, alert=fail)
    for _ in range(2):
        look(world.evaluate())
    ticker._steps = good
    look(world.evaluate())
    bad = Ping.ALERTS_NOT_EVALUATED
    assert seen == [Ping.NO_TICK_YET, Ping.ALIVE, Ping.ALIVE, bad, bad, bad, Ping.ALIVE]


def test_a_tick_that_hangs_before_its_alerts_stops_the_pings(world: World) -> None:
    good = world.evaluate()
    ticker = world.service.ticker
    ticker.readings = replace(ticker.readings, at_ms=good + 60_000)
    at = _pulse(world.service.settings, ticker, world.service.paging)
    assert decide(at, good + 60_000) is Ping.TICKS_STOPPED


def test_pings_keep_their_interval_and_stop_with_the_ticks() -> None:
    async def run() -> tuple[int, float]:
        async with http_double(Says(200)) as double, httpx.AsyncClient(trust_env=False) as client:
            metrics = SelfMetrics("1")
            deadman = Deadman(Secret(double.url), 60_000)
            heartbeat = Heartbeat(lambda: deadman, pulse, client, metrics)
            # The last tick stays at NOW_MS: from 15 s after it on there is silence.
            for second in (0, 5, 10, 60, 65):
                await heartbeat.run(NOW_MS + second * 1_000)
            value = metrics.registry.get_sample_value("warroom_deadman_last_ping_timestamp_seconds")
            return len(double.asked), value or 0

    assert asyncio.run(run()) == (1, NOW_MS / 1000)


def test_a_ping_that_is_refused_is_tried_again_at_the_next_look() -> None:
    async def run() -> int:
        async with http_double(Says(200)) as double, httpx.AsyncClient(trust_env=False) as client:
            double.answers = [Says(500)]
            deadman = Deadman(Secret(double.url), 60_000)
            heartbeat = Heartbeat(lambda: deadman, pulse, client, SelfMetrics("1"))
            with pytest.raises(DeliveryError, match="dead-man"):
                await heartbeat.run(NOW_MS)
            await heartbeat.run(NOW_MS + 5_000)
            return len(double.asked)

    assert asyncio.run(run()) == 2


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("deadman: {interval: 1m}", "needs a url"),
        ("deadman: {url: 'ftp://x'}", "http or https"),
        ("deadman: {url: 'http://x', interval: 1s}", "at least 5s"),
        ("deadman: {url: 'http://x', every: 1m}", "no field 'every'"),
        ("storm: {max_pages: 0}", "more than zero"),
        ("storm: {max_page: 3}", "did you mean 'max_pages'"),
    ],
)
def test_a_mistake_beside_the_routes_has_its_line(tmp_path: Path, section: str, words: str) -> None:
    settings = settings_of(tmp_path, f"alerting:\n  {section}\n")
    read = read_storm if section.startswith("storm") else read_deadman
    with pytest.raises(ConfigError, match=words) as caught:
        read(settings)
    assert caught.value.line == 2


def test_storm_and_deadman_stand_beside_a_file_of_routes(tmp_path: Path) -> None:
    text = "alertmanager_file: am.yml\nalerting: {storm: {max_pages: 3, window: 2m}}\n"
    settings = settings_of(tmp_path, text, {"am.yml": ROUTES})
    assert read_storm(settings).max_pages == 3
    with pytest.raises(ConfigError, match="not both"):
        settings_of(tmp_path, text.replace("storm:", "route: {}, storm:"), {"am.yml": ROUTES})


@dataclass
class Received:
    """What an HTTP server in a thread was sent."""

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)


@contextmanager
def receiver() -> Iterator[Received]:
    got = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        @override
        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    got.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield got
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_drill_and_pings_reach_the_outside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with receiver() as hook, receiver() as watcher:
        config = {
            "alerting": {
                "deadman": {"url": watcher.url, "interval": "5s"},
                "route": {"receiver": "ops"},
                "receivers": [
                    {"name": "ops", "webhook_configs": [{"url": hook.url}]},
                ],
            }
        }
        service = Warroom(tmp_path, config=json.dumps(config))
        service.start()
        try:
            assert main(["drill", "severity=page", "--url", service.url]) == 0
            shown = capsys.readouterr().out
            assert "route {} to ops (webhook)" in shown
            assert shown.count("sent ") == 2
            statuses = [json.loads(body)["status"] for body in hook.bodies]
            assert statuses == ["firing", "resolved"]
            until(lambda: len(watcher.bodies) > 0, "a ping")
            assert watcher.bodies[0] == b"Warroom is alive.\n"
        finally:
            service.stop()
