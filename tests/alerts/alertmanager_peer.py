"""A real Alertmanager, and Warroom's engine, driven with the same sequence of alerts.

The real one runs live against a webhook sink; what was done to it is noted with its instants. Then
the engine is taken through the same instants by a simulated clock.
"""

from __future__ import annotations

import asyncio
import http.server
import json
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from typing_extensions import override

from alerts.engine import AlertEngine
from alerts.grouping import MAINTENANCE_MS
from alerts.model import Alert
from alerts.notifiers.webhook import message
from alerts.repository import AlertRepository
from alerts.route_tree import StormLimit
from alerts.routing import parse_alertmanager
from alerts.silences import Silence, equality
from api.routers.alertmanager import router
from store.model import Labels
from store.sql import open_engine, open_sessions, upgrade
from store.timestamps import rfc3339
from tests.e2e.service import free_port, needs

TICK_MS = 50
_NEVER_SPEAKS_FOR_ALL = StormLimit(max_pages=1_000_000)


@dataclass(frozen=True)
class Step:
    """Something done `at_s` after the start: fire, resolve or silence what these labels name."""

    at_s: float
    act: str
    labels: dict[str, str]
    annotations: dict[str, str] = field(default_factory=dict)
    lasts_s: float = 0.0


@dataclass(frozen=True)
class Told:
    """One notification, without what two programs may differ in (ids, addresses)."""

    at_s: float
    receiver: str
    group_key: str
    status: str
    alerts: tuple[tuple[str, str], ...]
    starts_s: tuple[float, ...]
    common: str

    @property
    def lane(self) -> tuple[str, str]:
        return self.receiver, self.group_key

    @property
    def text(self) -> tuple[str, tuple[tuple[str, str], ...], str]:
        return self.status, self.alerts, self.common

    def agrees(self, other: Told, within_s: float) -> bool:
        """The same text at the same time, of alerts that began at the same time."""
        times = zip((self.at_s, *self.starts_s), (other.at_s, *other.starts_s), strict=False)
        return self.text == other.text and all(abs(a - b) <= within_s for a, b in times)


@dataclass(frozen=True)
class Recording:
    """What was done when (milliseconds since 1970), and what came of it."""

    started_ms: int
    done: tuple[tuple[int, Step], ...]
    told: tuple[Told, ...]
    groups: tuple[Any, ...]


def told_of(body: Any, at_ms: float, start_ms: int) -> Told:
    """A webhook's body as a notification; its times count from the start."""
    alerts = sorted(
        (
            alert["status"],
            json.dumps(alert["labels"], sort_keys=True),
            datetime.fromisoformat(alert["startsAt"]).timestamp() - start_ms / 1000,
        )
        for alert in body["alerts"]
    )
    common = [body["groupLabels"], body["commonLabels"], body["commonAnnotations"]]
    return Told(
        (at_ms - start_ms) / 1000,
        body["receiver"],
        body["groupKey"],
        body["status"],
        tuple((status, labels) for status, labels, _ in alerts),
        tuple(starts_s for _, _, starts_s in alerts),
        json.dumps(common, sort_keys=True),
    )


@contextmanager
def sink() -> Iterator[tuple[str, list[tuple[float, Any]]]]:
    """A webhook receiver; answers with its address and what it was sent, with the instants."""
    got: list[tuple[float, Any]] = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            at_s = time.time()
            got.append((at_s, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(200)
            self.end_headers()

        @override
        def log_message(self, *args: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/", got
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=30)


@contextmanager
def alertmanager(directory: Path, config: str) -> Iterator[str]:
    """The real one on a free port; answers with its address."""
    file = directory / "alertmanager.yml"
    file.write_text(config)
    url = f"http://127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [
            needs("prometheus-alertmanager"),
            f"--config.file={file}",
            f"--storage.path={directory / 'data'}",
            f"--web.listen-address={url.removeprefix('http://')}",
            "--cluster.listen-address=",
            "--log.level=error",
        ],
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + 60
        with httpx.Client(trust_env=False) as client:
            while not _ready(client, url):
                assert process.poll() is None, process.communicate()[1].decode()
                assert time.monotonic() < deadline
                threading.Event().wait(0.05)
        yield url
    finally:
        process.terminate()
        process.communicate(timeout=30)


def _ready(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/-/ready").status_code == 200
    except httpx.HTTPError:
        return False


def record(directory: Path, config: str, steps: Sequence[Step], lasts_s: float) -> Recording:
    """Play the steps to a real Alertmanager. `config` has HOOK where the sink's address goes."""
    with sink() as (hook, got):
        with (
            alertmanager(directory, config.replace("HOOK", hook)) as url,
            httpx.Client(trust_env=False, timeout=30) as client,
        ):
            start_s = time.time()
            done = []
            for step in sorted(steps, key=lambda one: one.at_s):
                threading.Event().wait(max(0.0, start_s + step.at_s - time.time()))
                done.append((_do(client, url, step), step))
            threading.Event().wait(max(0.0, start_s + lasts_s - time.time()))
            groups = client.get(f"{url}/api/v2/alerts/groups").json()
        start_ms = int(start_s * 1000)
        told = tuple(told_of(body, at_s * 1000, start_ms) for at_s, body in got)
    return Recording(start_ms, tuple(done), early(told, lasts_s), _groups(groups))


def _groups(answer: Any) -> tuple[Any, ...]:
    """The groups of an API answer, without ids and times."""
    return tuple(sorted(_group(group) for group in answer))


def _group(group: Any) -> Any:
    members = sorted(
        (
            json.dumps(a["labels"], sort_keys=True),
            a["status"]["state"],
            len(a["status"]["inhibitedBy"]) > 0,
            len(a["status"]["silencedBy"]) > 0,
            tuple(sorted(r["name"] for r in a["receivers"])),
        )
        for a in group["alerts"]
    )
    labels = json.dumps(group["labels"], sort_keys=True)
    return group["receiver"]["name"], labels, tuple(members)


def _do(client: httpx.Client, url: str, step: Step) -> int:
    """Do a step; answers with the instant that the messages in it speak of."""
    at_ms = int(time.time() * 1000)
    if step.act == "silence":
        matchers = [
            {"name": k, "value": v, "isRegex": False, "isEqual": True}
            for k, v in step.labels.items()
        ]
        body: Any = {
            "matchers": matchers,
            "startsAt": rfc3339(at_ms),
            "endsAt": rfc3339(at_ms + int(step.lasts_s * 1000)),
            "createdBy": "test",
            "comment": "test",
        }
        client.post(f"{url}/api/v2/silences", json=body).raise_for_status()
        return at_ms
    alert: dict[str, Any] = {"labels": step.labels, "annotations": step.annotations}
    if step.act == "fire":
        alert |= {"startsAt": rfc3339(at_ms)} if step.lasts_s == 0 else {}
    else:
        alert |= {"endsAt": rfc3339(at_ms)}
    client.post(f"{url}/api/v2/alerts", json=[alert]).raise_for_status()
    return at_ms


def replayed(config: str, recording: Recording, lasts_s: float) -> Recording:
    """The engine through the same instants, looked at every `TICK_MS`.

    Its clock begins when maintenance has just come by, as the real one's does at its start.
    """
    shift_ms = -recording.started_ms % MAINTENANCE_MS
    start_ms = recording.started_ms + shift_ms
    waiting = [(at_ms + shift_ms, step) for at_ms, step in recording.done]
    last_ms = start_ms + int(lasts_s * 1000)
    told = []
    with engine_of(config) as engine:
        for now_ms in range(start_ms, last_ms, TICK_MS):
            while waiting and waiting[0][0] <= now_ms:
                at_ms, step = waiting.pop(0)
                _apply(engine, step, at_ms)
            notices = engine.tick(now_ms, []).notices
            told += [told_of(message(notice), now_ms, start_ms) for notice in notices]
        groups = asyncio.run(_asked(engine, now_ms))
    return Recording(start_ms, recording.done, early(told, lasts_s), _groups(groups))


@contextmanager
def engine_of(config: str) -> Iterator[AlertEngine]:
    """An engine in memory that leaves Alertmanager's ways nowhere: no storms, no passing ends."""
    database = open_engine("sqlite://")
    upgrade(database)
    routing = parse_alertmanager(config.replace("HOOK", "http://127.0.0.1:9/"), "am.yml")
    routing = replace(routing, storm=_NEVER_SPEAKS_FOR_ALL, ends_pass=False)
    try:
        yield AlertEngine(AlertRepository(open_sessions(database)), routing)
    finally:
        database.dispose()


async def _asked(engine: AlertEngine, now_ms: int) -> Any:
    app = FastAPI()
    app.include_router(router(engine, lambda: now_ms))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://warroom") as client:
        return (await client.get("/api/v2/alerts/groups")).json()


def _apply(engine: AlertEngine, step: Step, at_ms: int) -> None:
    if step.act == "silence":
        matchers = tuple(equality(name, value) for name, value in step.labels.items())
        ends_ms = at_ms + int(step.lasts_s * 1000)
        engine.set_silence(Silence("", matchers, at_ms, ends_ms, "test", "test", at_ms), at_ms)
        return
    alert = Alert(labels=Labels.of(step.labels), annotations=step.annotations, source="api")
    if step.act == "fire":
        engine.post([(alert, at_ms if step.lasts_s == 0 else None, None)], at_ms)
    else:
        engine.post([(alert, None, at_ms)], at_ms)


def differences(real: Recording, ours: Recording, *, within_s: float) -> list[str]:
    """What one told and the other did not, group by group; empty when they agree."""
    found = []
    lanes = sorted({told.lane for told in (*real.told, *ours.told)})
    for lane in lanes:
        a = [told for told in real.told if told.lane == lane]
        b = [told for told in ours.told if told.lane == lane]
        same = len(a) == len(b) and all(x.agrees(y, within_s) for x, y in zip(a, b, strict=True))
        if not same:
            found.append(f"{lane}\n  real: {_lines(a)}\n  ours: {_lines(b)}")
    found += [
        f"the group {group} of {'real' if group in real.groups else 'ours'} only"
        for group in sorted({*real.groups} ^ {*ours.groups})
    ]
    return found


def early(told: Iterable[Told], lasts_s: float) -> tuple[Told, ...]:
    """Those that surely came before the end of the recording."""
    return tuple(one for one in told if one.at_s < lasts_s - 1)


def _lines(told: Sequence[Told]) -> str:
    return "".join(
        f"\n    {one.at_s:6.2f} s {one.status} {one.alerts} {one.common}" for one in told
    )
