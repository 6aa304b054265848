"""`warroom backup` of a running service, and `warroom restore`: the same answers afterwards."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.service import ROOT, Warroom, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

CONFIG = """
evaluation_interval: 1s
rule_files: [rules.yml]
"""
RULES = """
groups:
  - name: shop
    rules:
      - {record: shop:queue, expr: work_queue_length * 2}
      - {alert: QueueLong, expr: work_queue_length > 100, labels: {severity: page}}
"""


def command(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "warroom.cli", *arguments],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def otlp_gauge(at_ms: int, value: float) -> dict[str, Any]:
    point = {"asDouble": value, "timeUnixNano": str(at_ms * 1_000_000)}
    metric = {"name": "work_queue_length", "gauge": {"dataPoints": [point]}}
    return {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}


def send(service: Warroom) -> None:
    body = otlp_gauge(int(time.time() * 1000), 500.0)
    httpx.post(f"{service.url}/v1/metrics", json=body, timeout=30).raise_for_status()
    matcher = {"name": "alertname", "value": "Other", "isRegex": False, "isEqual": True}
    silence = {
        "matchers": [matcher],
        "startsAt": "2026-01-01T00:00:00Z",
        "endsAt": "2099-01-01T00:00:00Z",
        "comment": "kept",
        "createdBy": "test",
    }
    httpx.post(f"{service.url}/api/v2/silences", json=silence, timeout=30).raise_for_status()


def alerts(service: Warroom) -> dict[str, str]:
    found = service.get("/api/v2/alerts").json()
    return {one["labels"]["alertname"]: one["startsAt"] for one in found}


def answers(service: Warroom, at_s: float) -> dict[str, Any]:
    """What must not differ: queries of a fixed time, and silences."""
    names = ("work_queue_length", "shop:queue")
    silences = service.get("/api/v2/silences").json()
    return {
        **{name: service.vector(name, time=at_s) for name in names},
        "range": service.get(
            "/api/v1/query_range", query="shop:queue", start=at_s - 60, end=at_s, step=1
        ).json()["data"],
        "series": service.get(
            "/api/v1/series", **{"match[]": "work_queue_length"}, end=at_s
        ).json()["data"],
        "silences": [(one["id"], one["comment"], one["status"]["state"]) for one in silences],
    }


def last_tick_s(service: Warroom) -> float:
    text = service.get("/metrics").text
    found = re.search(r"^warroom_last_tick_timestamp_seconds (\S+)", text, re.MULTILINE)
    return float(found.group(1)) if found else 0.0


def test_a_restored_service_answers_as_the_one_that_was_backed_up(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for directory in (first, second):
        directory.mkdir()
        (directory / "rules.yml").write_text(RULES)
    service = Warroom(first, CONFIG)
    restored = Warroom(second, CONFIG)
    try:
        service.start()
        send(service)
        until(lambda: "QueueLong" in alerts(service), "the alert fires")
        until(lambda: bool(service.vector("shop:queue")), "the recording rule has a value")
        at_s = float(int(time.time())) - 1
        until(lambda: last_tick_s(service) > at_s, "what is asked about is over")
        before, firing = answers(service, at_s), alerts(service)
        told = command(
            "backup", "--data-dir", str(first / "data"), "--to", str(tmp_path / "backup"),
            "--url", service.url,
        )  # fmt: skip
        assert "bytes" in told
        assert list((first / "data" / "snapshots").iterdir()) == []
        service.stop()
        command("restore", "--from", str(tmp_path / "backup"), "--data-dir", str(second / "data"))
        restored.start()
        assert answers(restored, at_s) == before
        assert alerts(restored)["QueueLong"] == firing["QueueLong"]
        status = restored.get("/api/v1/status/tsdb").json()["data"]
        assert status["headStats"]["numSeries"] > 1
        assert status["headStats"]["minTime"] > 1_600_000_000_000
    finally:
        service.stop()
        restored.stop()
