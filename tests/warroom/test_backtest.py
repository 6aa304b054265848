"""A day with planted incidents and a noisy rule: every figure is exact, and nothing is written."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog

from store.backends.duckdb import DuckDBStore
from store.errors import BadInput
from store.model import SPAN_SCHEMA, Labels, SampleBatch, SpanBatch
from store.ports import TraceQuery
from store.sql import open_engine, upgrade
from store.testing import open_store
from tests.detectors.corpus import TraceBuilder, table
from tests.warroom.traces import TRACE_ID, product_list
from tests.warroom.world import IN_MEMORY, SLO, World, open_world, settings_of
from tests.warroom.world import RULES as QUEUE
from warroom.backtest import Span, play
from warroom.backtest_marks import read_marks
from warroom.backtest_report import Report, as_json, as_text
from warroom.backtest_score import Episode, Mark, by_unit, figures, missed
from warroom.cli import main
from warroom.replay import Replay

DAY_MS = 86_400_000
START_MS = 1_790_035_200_000  # 2026-09-22T00:00:00Z
MINUTE_MS = 60_000
RULES = """
groups:
  - name: shop
    rules:
      - {record: 'shop:queue:length', expr: 'sum(queue_length)'}
      - alert: QueueGrows
        expr: shop:queue:length > 100
        for: 2m
        labels: {severity: page, service: shop}
        annotations: {summary: "{{ $value }} jobs wait"}
      - alert: NoisyRule
        expr: coin > 0
        labels: {severity: page}
      - alert: Ticket
        expr: coin > 0
        labels: {severity: ticket}
"""
CONFIG = "rule_files: [rules.yml]\nshipped_rules: false\nevaluation_interval: 60s\n"
# The queue grows at 06:00 and at 18:00 for half an hour each; nobody is paged at noon.
FAULTS_H = (6, 18)
MARKS = """
- {from: 2026-09-22T06:00:00Z, to: 2026-09-22T06:30:00Z, title: mails wait}
- {from: 2026-09-22T12:00:00Z, to: 2026-09-22T12:20:00Z, title: prices wrong}
- {from: 2026-09-22T18:00:00Z, to: 2026-09-22T18:30:00Z, title: mails wait again}
"""
# Every four hours for a minute, from 02:00 on: 02, 06, 10, 14, 18, 22.
NOISE_H = tuple(range(2, 24, 4))


def day() -> SampleBatch:
    """Two series, a sample a minute."""
    minutes = np.arange(0, 24 * 60)
    hours, rest = minutes // 60, minutes % 60
    queue = np.where(np.isin(hours, FAULTS_H) & (rest < 30), 500.0, 3.0)
    coin = np.where(np.isin(hours, NOISE_H) & (rest == 10), 1.0, 0.0)
    times = START_MS + minutes * MINUTE_MS
    return SampleBatch(
        series=(
            Labels.of(__name__="queue_length", queue="mail"),
            Labels.of(__name__="coin"),
            # What the old rule recorded back then: wrong on purpose, it must not be seen.
            Labels.of(__name__="shop:queue:length"),
        ),
        series_index=np.repeat(np.arange(3, dtype=np.int32), len(minutes)),
        ts_ms=np.tile(times, 3).astype(np.int64),
        values=np.concatenate((queue, coin, np.full(len(minutes), 999.0))),
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a stopped service, with configuration and marks beside it."""
    directory = tmp_path_factory.mktemp("backtest")
    (directory / "rules.yml").write_text(RULES, encoding="utf-8")
    (directory / "warroom.yaml").write_text(CONFIG, encoding="utf-8")
    (directory / "marks.yaml").write_text(MARKS, encoding="utf-8")
    (directory / "data").mkdir()
    with DuckDBStore.open(directory / "data") as store:
        store.append(day()).result(30)
    return directory


def digests(directory: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.iterdir())
        if path.is_file()
    }


@pytest.fixture(autouse=True)
def _same_logs() -> Iterator[None]:
    kept = structlog.get_config()
    yield
    structlog.configure(**kept)


def run(data: Path, *more: str) -> int:
    return main(
        [
            "backtest",
            *("--config", str(data / "warroom.yaml"), "--data-dir", str(data / "data")),
            *("--from", "2026-09-22T00:00:00Z", "--to", "2026-09-23T00:00:00Z", "--step", "10m"),
            *more,
        ]
    )


def test_the_figures_of_a_day_are_exact(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = digests(data / "data")
    assert run(data, "--incidents", str(data / "marks.yaml"), "--json") == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert digests(data / "data") == before
    units = {row["unit"]: row for row in report["units"]}
    assert units["rule QueueGrows"] == {
        "unit": "rule QueueGrows",
        "alerts": 2,
        "pages": 2,
        "pages_a_day": 2.0,
        "right": 2,
        "precision": 1.0,
        "found": 2,
        # Two minutes of `for:` end at the next tick.
        "delay_s": 600.0,
    }
    noisy = units["rule NoisyRule"]
    assert (noisy["pages"], noisy["right"], noisy["found"]) == (6, 2, 2)
    assert noisy["precision"] == pytest.approx(1 / 3)
    assert noisy["delay_s"] == 600.0
    ticket = units["rule Ticket"]
    assert (ticket["alerts"], ticket["pages"], ticket["precision"]) == (6, 0, None)
    assert (report["total"]["pages"], report["total"]["precision"]) == (8, 0.5)
    assert [mark["title"] for mark in report["missed"]] == ["prices wrong"]
    assert report["failures"] == {}
    fired = [a["fired_at"] for a in report["alerts"] if a["unit"] == "rule QueueGrows"]
    assert fired == ["2026-09-22T06:10:00.000Z", "2026-09-22T18:10:00.000Z"]


def report(marks: tuple[Mark, ...]) -> Report:
    unit = "rule " + "AVeryLongNameOfARule" * 3
    fired = [replace(episode(unit, 61), title="500 jobs wait " * 9), episode("figure orders", 9)]
    return Report(0, DAY_MS, 30_000, "marks.yaml", marks, fired)


def test_the_report_fits_a_terminal() -> None:
    marks = (MARK, Mark(600 * MINUTE_MS, 601 * MINUTE_MS, "nobody was paged " * 9))
    lines = list(as_text(report(marks), {"rule:x": "division by zero " * 9}, listed=True))
    assert max(map(len, lines)) <= 80
    assert any(line.endswith("     1     1    1.0     0    0%   0/2      -") for line in lines)
    assert any(line.startswith("missed: 1970-01-01 10:00 nobody") for line in lines)
    assert any(line.startswith("failed: rule:x: division") for line in lines)
    assert any("500 jobs wait" in line for line in lines)


def test_without_marks_there_is_no_precision() -> None:
    told = as_json(report(()), {})
    assert {row["precision"] for row in told["units"]} == {None}
    assert {alert["right"] for alert in told["alerts"]} == {None}
    assert told["missed"] == []


@pytest.mark.parametrize("state", ["", "state: {url: 'postgresql://warroom@127.0.0.1:1/x'}\n"])
def test_incidents_that_cannot_be_read_are_told(
    data: Path, tmp_path: Path, state: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rules.yml").write_text(RULES, encoding="utf-8")
    (tmp_path / "warroom.yaml").write_text(CONFIG + state, encoding="utf-8")
    directory = tmp_path / "data"
    shutil.copytree(data / "data", directory)
    if state:
        # It was left behind when the state moved.
        engine = open_engine(f"sqlite:///{directory / 'state.db'}")
        upgrade(engine)
        engine.dispose()
    asked = ("backtest", "--config", str(tmp_path / "warroom.yaml"), "--data-dir", str(directory))
    hour = ("--from", "2026-09-22T05:00:00Z", "--to", "2026-09-22T06:00:00Z", "--step", "10m")
    assert main([*asked, *hour]) == 0
    (told,) = [line for line in capsys.readouterr().out.splitlines() if "incidents" in line]
    assert told.startswith("incidents were not read")
    assert told.endswith("give --incidents FILE")
    assert main([*asked, *hour, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["incidents_from"] is None
    marks = ("--incidents", str(data / "marks.yaml"))
    assert main([*asked, *hour, *marks]) == 0
    assert "against 1 marked incidents (marks.yaml)" in capsys.readouterr().out


def test_a_store_in_use_is_left_alone(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with DuckDBStore.open(data / "data"):
        assert run(data) == 1
    assert "in use" in capsys.readouterr().err
    assert main(["backtest", "--data-dir", str(data)]) == 1
    assert "no store" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("--step", "1s"), ("--step", "soon"), ("--to", "now-99y")])
def test_arguments_that_make_no_sense_are_refused(
    data: Path, arguments: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(data, *arguments) == 1
    assert capsys.readouterr().err.startswith("warroom: ")


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "- {from: 2026-09-22T06:00:00Z}",
        "- {from: tomorrow, to: later}",
        "- {from: 2026-09-22T06:00:00Z, to: 2026-09-21T06:00:00Z}",
        "- {from: 2026-09-22, to: 2026-09-23, tittle: x}",
        "[1, 2]",
    ],
    ids=range(6),
)
def test_a_wrong_mark_is_told(tmp_path: Path, text: str) -> None:
    file = tmp_path / "marks.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput):
        read_marks(file)
    with pytest.raises(BadInput):
        read_marks(tmp_path / "missing.yaml")


def test_dates_and_unix_seconds_are_times(tmp_path: Path) -> None:
    file = tmp_path / "marks.yaml"
    file.write_text("incidents: [{from: 2026-09-22, to: 1790100000}]", encoding="utf-8")
    assert read_marks(file) == [Mark(START_MS, 1_790_100_000_000)]


def test_a_detector_is_played_too(tmp_path: Path) -> None:
    """A cache whose hits end at 00:20 is found within two ticks, by a signal detector."""
    settings = settings_of(tmp_path)
    rows = []
    hits = misses = 0.0
    for step in range(0, 2_400, 5):
        at_ms = START_MS + step * 1_000
        hits, misses = (hits + 45, misses + 5) if step < 1_200 else (hits, misses + 50)
        for name, value in (("hits", hits), ("misses", misses)):
            labels = Labels.of(
                __name__=f"redis_keyspace_{name}_total", job="redis", instance="cache-1"
            )
            rows.append((labels, at_ms, value))
    with open_store() as store:
        store.append(SampleBatch.of_rows(rows)).result(30)
        span = Span(START_MS + 1_100_000, START_MS + 1_300_000, 10_000)
        played = play(settings, store, span)
        (drop,) = [e for e in played.episodes if e.unit == "detector hit_rate_drop"]
    assert START_MS + 1_200_000 <= drop.fired_ms <= START_MS + 1_220_000
    assert drop.pages
    assert drop.ended_ms is None
    assert played.failures == {}


LIVE = f"{IN_MEMORY}rule_files: [rules.yml]\nslo_files: [slo.yml]\nshipped_rules: false\n"
LIVE_FILES = {"rules.yml": QUEUE.replace("> 100", "> 100\n        for: 10s"), "slo.yml": SLO}


def test_a_backtest_says_what_the_service_said_and_when(tmp_path: Path) -> None:
    """A rule with a `for:`, an SLO and a loop in traces: each alert begins and ends as it did."""
    told: dict[tuple[str, str], list[int]] = {}
    with open_world(tmp_path, LIVE, LIVE_FILES) as world:
        start_ms, bad = world.clock.now_ms, 0.0
        for tick in range(1, 13):
            # Nothing is late: of samples it is not kept when they came.
            now_ms = world.clock.now_ms + 4_000
            bad += 25.0 * (tick > 4)
            world.samples(
                ({"__name__": "queue_length"}, now_ms, 500.0 if 2 <= tick < 6 else 3.0),
                ({"__name__": "checkouts_total", "result": "ok"}, now_ms, tick * 50.0),
                ({"__name__": "checkouts_total", "result": "bad"}, now_ms, bad),
            )
            if tick > 2:
                world.clock.now_ms = now_ms
                one = json.dumps(product_list(now_ms - 500, 25))
                body = json.loads(one.replace(TRACE_ID, f"{tick:032x}"))
                assert world.ask("POST", "/v1/traces", json=body).status_code == 200
            world.clock.now_ms = start_ms + (tick - 1) * 5_000
            world.evaluate()
            for name, severity in firing(world):
                told.setdefault((name, severity), []).append(world.clock.now_ms)
        settings = settings_of(tmp_path, LIVE, LIVE_FILES)
        played = play(settings, world.service.store, Span(start_ms, world.clock.now_ms, 5_000))
        last_ms = world.clock.now_ms
    names = {"rule QueueGrows": "QueueGrows", "detector n_plus_one_query": "NPlusOneQuery"}
    replayed = {
        (names.get(e.unit, "ErrorBudgetBurn"), e.severity): (
            e.fired_ms,
            e.ended_ms or last_ms + 5_000,
        )
        for e in played.episodes
    }
    assert {key for key, _ in replayed} >= {"QueueGrows", "NPlusOneQuery", "ErrorBudgetBurn"}
    assert replayed == {key: (at_ms[0], at_ms[-1] + 5_000) for key, at_ms in told.items()}
    assert played.failures == {}


def firing(world: World) -> list[tuple[str, str]]:
    alerts = [one for one in world.get("/alerts")["alerts"] if one["state"] == "firing"]
    return [(one["labels"]["alertname"], one["labels"]["severity"]) for one in alerts]


def test_a_replay_sees_nothing_of_what_is_to_come() -> None:
    with open_store() as store:
        store.append(day()).result(30)
        replay = Replay(store, START_MS)
        replay.now_ms = START_MS + 30 * MINUTE_MS
        matchers = ()
        seen = replay.select(matchers, 0, START_MS + DAY_MS)
        assert int(seen.ts_ms.max()) == replay.now_ms
        recorded = Labels.of(__name__="shop:queue:length")
        replay.hide(["shop:queue:length"])
        assert recorded not in replay.select(matchers, 0, START_MS + DAY_MS).series
        replay.append(SampleBatch.of_rows([(recorded, START_MS, 1.0)])).result(1)
        place = replay.select(matchers, 0, START_MS + DAY_MS)
        mine = place.series.index(recorded)
        assert place.values[place.offsets[mine] : place.offsets[mine + 1]].tolist() == [1.0]


def test_a_replay_finds_no_trace_before_it_arrived() -> None:
    """A span of 00:01 arrives at 00:10: until then nobody knows of it, nor of its service."""
    at_ns = (START_MS + MINUTE_MS) * 1_000_000
    with open_store() as store:
        for service, minute in (("shop", 1), ("stock", 10)):
            row = {
                **TraceBuilder(1).rows[0],
                "service": service,
                "trace_id": service.encode().ljust(16, b"-"),
                "start_ns": at_ns,
                "end_ns": at_ns + 5,
                "received_ms": START_MS + minute * MINUTE_MS,
            }
            store.append(SpanBatch(table([row]).select(SPAN_SCHEMA.names))).result(30)
        replay = Replay(store, START_MS)
        query = TraceQuery(START_MS * 1_000_000, at_ns + 1)
        seen = []
        for minute in (0, 5, 10):
            replay.now_ms = START_MS + minute * MINUTE_MS
            seen.append((len(replay.find_traces(query)), sorted(replay.services())))
    assert seen == [(0, []), (1, ["shop"]), (2, ["shop", "stock"])]


def episode(unit: str, minute: int, *, pages: bool = True, service: str = "") -> Episode:
    return Episode(unit, "", minute * MINUTE_MS, pages, service)


MARK = Mark(60 * MINUTE_MS, 90 * MINUTE_MS, "m", "shop")


@pytest.mark.parametrize(
    ("minute", "service", "right"),
    [(54, "", 0), (55, "", 1), (60, "shop", 1), (95, "", 1), (96, "", 0), (70, "search", 0)],
)
def test_a_page_is_right_near_an_incident_of_its_service(
    minute: int, service: str, right: int
) -> None:
    found = figures("r", [episode("r", minute, service=service)], [MARK], 1.0)
    assert (found.right, found.found) == (right, right)
    assert missed([episode("r", minute, service=service)], [MARK]) == ([] if right else [MARK])


def test_the_delay_is_that_of_the_first_page_and_never_negative() -> None:
    late = [episode("r", 70), episode("r", 65), episode("r", 61, pages=False)]
    assert figures("r", late, [MARK], 2.0).delay_s == 300
    assert figures("r", [episode("r", 57)], [MARK], 2.0).delay_s == 0
    assert figures("r", late, [MARK], 2.0).pages_a_day == 1.0
    assert [row.unit for row in by_unit([*late, episode("a", 1)], [MARK], 1.0)] == ["r", "a"]
