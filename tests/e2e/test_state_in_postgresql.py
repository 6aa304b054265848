"""The state in a real PostgreSQL: pages, silences, boards and tokens live through its absence."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.collector.pollers.postgres_servers import PostgresServer, postgres_alone
from tests.e2e.service import PagerDuty, Warroom, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CONFIG = """
evaluation_interval: 1s
shipped_rules: false
state: {{url: "postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"}}
alerting:
  route: {{receiver: on-call, group_by: [alertname], group_wait: 0s, group_interval: 1s}}
  receivers:
    - name: on-call
      pagerduty_configs:
        - url: {url}/v2/enqueue
          routing_key: 0123456789abcdef0123456789abcdef
"""
# Text that SQLite takes as it is: a NUL, and more than any column of a fixed length would hold.
ODD = {"severity": "page" + "!" * 1_000, "note": "before\0after", "team": "日本 ✓"}


@pytest.fixture
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with postgres_alone(tmp_path_factory.mktemp("postgres") / "state") as server:
        yield server


def post(
    service: Warroom, name: str, labels: dict[str, str] | None = None, *, over: bool = False
) -> None:
    now = datetime.now(UTC)
    ends = now - timedelta(seconds=1) if over else now + timedelta(hours=1)
    alert = {
        "labels": {"alertname": name, **(labels or {})},
        "startsAt": (now - timedelta(minutes=1)).isoformat(),
        "endsAt": ends.isoformat(),
        "generatorURL": "http://rules.example/?expr=" + "a" * 4_000,
    }
    answer = httpx.post(f"{service.url}/api/v2/alerts", json=[alert], timeout=30)
    assert answer.status_code == 200, answer.text


def silence(service: Warroom, name: str) -> str:
    now = datetime.now(UTC)
    body = {
        "matchers": [{"name": "alertname", "value": name, "isRegex": False, "isEqual": True}],
        "startsAt": now.isoformat(),
        "endsAt": (now + timedelta(hours=1)).isoformat(),
        "createdBy": "ada",
        "comment": "a\0b",
    }
    answer = httpx.post(f"{service.url}/api/v2/silences", json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["silenceID"])


def alerts(service: Warroom) -> dict[str, dict[str, Any]]:
    found = service.get("/api/v2/alerts").json()
    return {alert["labels"]["alertname"]: alert for alert in found}


def metric(service: Warroom, name: str) -> float:
    page = service.get("/metrics")
    for line in page.text.splitlines():
        if line.startswith(f"{name} "):
            return float(line.rpartition(" ")[2])
    raise AssertionError(f"no metric {name}: {page.status_code} {page.text[:600]}")


def many(service: Warroom, path: str) -> set[int]:
    """The statuses of more requests at once than the pool keeps connections."""
    with ThreadPoolExecutor(12) as pool:
        return {answer.status_code for answer in pool.map(service.get, [path] * 24)}


def silenced_by(service: Warroom, name: str) -> list[str] | None:
    alert = alerts(service).get(name)
    return None if alert is None else list(alert["status"]["silencedBy"])


def test_pages_and_silences_outlive_kills_of_the_service_and_of_the_database(
    warroom: Warroom, pagerduty: PagerDuty, database: PostgresServer
) -> None:
    warroom.config = CONFIG.format(port=database.port, url=pagerduty.url)
    warroom.start()
    quiet = silence(warroom, "Silenced")
    post(warroom, "Odd", ODD)
    post(warroom, "Silenced")
    until(lambda: list(pagerduty.counts().values()) == [(1, 0)], "one page")
    until(lambda: silenced_by(warroom, "Silenced") == [quiet], "the other is silenced")

    warroom.kill()
    warroom.start()
    until(lambda: "Odd" in alerts(warroom), "it is still there")
    assert alerts(warroom)["Odd"]["labels"]["note"] == ODD["note"]
    until(lambda: silenced_by(warroom, "Silenced") == [quiet], "it still is")

    assert many(warroom, "/api/v2/silences") == {200}
    database.stop()
    until(lambda: metric(warroom, "warroom_units_unhealthy") > 0, "the outage is told")
    refused = warroom.get("/api/v2/silences")
    assert (refused.status_code, "state database" in refused.text) == (503, True), refused.text
    assert warroom.get("/api/v1/query", query="1").status_code == 200
    database.start()
    # Every connection of the pool is broken, and nobody notices.
    assert many(warroom, "/api/v2/silences") == {200}
    until(lambda: taken(warroom, "Later"), "the service goes on by itself")
    until(lambda: len(pagerduty.counts()) == 2, "what came later pages")
    post(warroom, "Odd", ODD, over=True)
    until(lambda: sorted(pagerduty.counts().values()) == [(1, 0), (1, 1)], "one is resolved")


def taken(service: Warroom, name: str) -> bool:
    try:
        post(service, name)
    except (AssertionError, httpx.HTTPError):
        return False
    return True
