"""`warroom backtest`: what would have paged, had today's rules and detectors been there back then.

Rules, SLOs, detectors and figures judge stored history tick by tick, as the service would. The
store is opened as a copy, what is recorded stays in memory (`warroom.replay`), the state begins
empty, and nothing is sent. Silences, suppressions, grouping and routes are not applied: it tells
what each rule says by itself.
"""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson

from alerts.cause import WINDOW_MS
from alerts.model import Alert
from alerts.rule_files import RecordingRule, RuleFile
from alerts.sources import burn_rate, finding, kpi
from alerts.state import AlertRecord, advance, fingerprint
from api.times import parse_time
from store.backends.duckdb import DuckDBStore, is_in_use
from store.errors import BadInput, StoreUnavailable, WarroomError
from store.promql.engine import Engine
from store.sql import open_engine, open_sessions, upgrade
from warroom.backtest_marks import marks_of_state, read_marks
from warroom.backtest_report import STATE_FILE, Report, as_json, as_text
from warroom.backtest_score import Episode, Mark
from warroom.clock import system_now_ms
from warroom.config import Options, Settings, load
from warroom.paging import unknown_units
from warroom.replay import History, Replay
from warroom.tick import Readings
from warroom.units import duration_s
from warroom.watch import Sight, Stores, build_sight

Show = Callable[[str], None]

SHIPPED = "(shipped)"
_WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_STORE = "telemetry.duckdb"
_MOST_TICKS = 100_000
_MOST_EPISODES = 100_000
_QUIET = frozenset({"info", "none", "ticket", "warning"})


@dataclass(frozen=True, slots=True)
class Span:
    """The time to judge, and how often."""

    start_ms: int
    end_ms: int
    step_ms: int

    @property
    def ticks(self) -> int:
        return (self.end_ms - self.start_ms) // self.step_ms

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start_ms + self.step_ms, self.end_ms + 1, self.step_ms))


@dataclass(slots=True)
class Played:
    """What a replay came to."""

    episodes: list[Episode] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


class Player:
    """Runs the judges over a replay and follows their alerts."""

    def __init__(self, sight: Sight, replay: Replay) -> None:
        self._sight = sight
        self._replay = replay
        self._records: dict[str, AlertRecord] = {}
        self._open: dict[str, Episode] = {}
        self._played = Played()

    def play(self, span: Span, progress: Show = lambda _: None) -> Played:
        """Every tick of a span. A judge that fails stops no other; what it said is told."""
        told_at = max(span.ticks // 10, 1)
        for place, now_ms in enumerate(span, start=1):
            self._replay.now_ms = now_ms
            alerts, unknown = self._judge(now_ms)
            self._follow({fingerprint(alert.labels): alert for alert in alerts}, unknown, now_ms)
            if place % told_at == 0:
                progress(
                    f"{place} of {span.ticks} ticks, {len(self._played.episodes)} ended alerts"
                )
        self._played.episodes += self._open.values()
        self._played.episodes.sort(key=lambda episode: (episode.fired_ms, episode.unit))
        return self._played

    def _judge(self, now_ms: int) -> tuple[list[Alert], frozenset[str]]:
        recorded = self._sight.rules.record(now_ms)
        found = self._sight.runner.tick(now_ms)
        burnt = self._sight.slos.tick(now_ms)
        traded = self._sight.business.tick(now_ms)
        ruled, rules = self._sight.rules.alerts(now_ms)
        health = (*recorded, *found.health, *burnt.health, *traded.health, *rules)
        for unit in health:
            if not unit.ok:
                self._played.failures[unit.unit] = unit.error
        readings = Readings(now_ms, found.findings, burnt.statuses, traded.readings, health)
        alerts = [
            *finding.alerts_of(found.findings),
            *burn_rate.alerts_of(burnt.statuses),
            *kpi.alerts_of(traded.readings),
            *ruled,
        ]
        return alerts, unknown_units(readings, health)

    def _follow(self, active: Mapping[str, Alert], unknown: frozenset[str], now_ms: int) -> None:
        for key in {*active, *self._records}:
            before = self._records.get(key)
            blind = before is not None and before.unit in unknown
            record = advance(before, active.get(key), now_ms, unknown=blind)
            if record is None or record.resolved_ms is not None:
                self._records.pop(key, None)
                self._end(key, now_ms)
                continue
            self._records[key] = record
            if record.firing and key not in self._open:
                self._open[key] = _episode(record, now_ms)

    def _end(self, key: str, now_ms: int) -> None:
        episode = self._open.pop(key, None)
        if episode is None:
            return
        self._played.episodes.append(replace(episode, ended_ms=now_ms))
        if len(self._played.episodes) > _MOST_EPISODES:
            raise WarroomError(
                f"more than {_MOST_EPISODES:,} alerts fired", hint="choose a shorter time"
            )


def _episode(record: AlertRecord, now_ms: int) -> Episode:
    severity = record.severity
    return Episode(
        unit=_unit(record),
        title=record.annotations.get("summary") or record.name,
        fired_ms=now_ms,
        pages=severity not in _QUIET,
        service=record.labels.get("service"),
        severity=severity or "page",
    )


def _unit(record: AlertRecord) -> str:
    """A rule or detector by the name that people gave it."""
    match record.source:
        case "finding":
            return f"detector {record.labels.get('kind')}"
        case "burn_rate":
            return f"slo {record.unit.removeprefix('slo:')} ({record.severity})"
        case "kpi":
            return f"figure {record.labels.get('kpi')}"
        case _:
            return f"rule {record.name}"


def play(
    settings: Settings, history: History, span: Span, progress: Show = lambda _: None
) -> Played:
    """Judge a span of a store's history with a state of its own.

    Raises:
        ConfigError: A mistake in a rule, an SLO or a setting.
    """
    engine = open_engine("sqlite://")
    try:
        upgrade(engine)
        replay = Replay(history, span.start_ms)
        stores = Stores(Engine(replay), replay, replay, replay, open_sessions(engine))
        sight = build_sight(settings, stores)
        sight.rules.reload(_useful(sight.rules.files, replay.stored))
        for file in sight.rules.files:
            rules = [rule for group in file.groups for rule in group.rules]
            replay.hide(rule.name for rule in rules if isinstance(rule, RecordingRule))
        return Player(sight, replay).play(span, progress)
    finally:
        engine.dispose()


def _useful(files: Sequence[RuleFile], stored: frozenset[str]) -> list[RuleFile]:
    """The files without those shipped recording rules of which no series is stored.

    Most shops have a tenth of the systems that the shipped rules know.
    """
    names = set(stored)
    useful = []
    for file in files:
        groups = []
        for group in file.groups:
            kept = []
            for rule in group.rules:
                shipped = isinstance(rule, RecordingRule) and file.file.startswith(SHIPPED)
                if not shipped or not names.isdisjoint(_WORD.findall(rule.expr)):
                    kept.append(rule)
                    names.add(rule.name)
            groups.append(replace(group, rules=tuple(kept)))
        useful.append(RuleFile(file.file, tuple(groups)))
    return useful


def backtest(arguments: argparse.Namespace, show: Show, progress: Show) -> int:
    """The command.

    Raises:
        WarroomError: The store is in use or missing, or an argument makes no sense.
    """
    settings = load(Options(config=arguments.config, data_dir=arguments.data_dir))
    span = _span(arguments, settings)
    given = Path(arguments.incidents) if arguments.incidents else None
    marks = read_marks(given) if given else []
    source = given.name if given else ""
    with _copied(settings.data_dir, arguments.scratch) as directory:
        # A file of a state that was moved to PostgreSQL is out of date.
        kept = settings.file.state.url == "sqlite" and (directory / STATE_FILE).exists()
        if given is None and kept:
            marks = _own_marks(directory / STATE_FILE, span)
            source = "the incidents that were kept"
        inside = [m for m in marks if m.end_ms >= span.start_ms and m.start_ms <= span.end_ms]
        with DuckDBStore.open(directory / _STORE) as store:
            played = play(settings, store, span, progress)
    report = Report(
        span.start_ms, span.end_ms, span.step_ms, source, tuple(inside), played.episodes
    )
    if arguments.json:
        body = as_json(report, played.failures)
        show(orjson.dumps(body, option=orjson.OPT_INDENT_2).decode())
        return 0
    for line in as_text(report, played.failures, listed=arguments.list):
        show(line)
    return 0


def _span(arguments: argparse.Namespace, settings: Settings) -> Span:
    now_ms = system_now_ms()
    end_ms = parse_time(arguments.end, now_ms, now_ms)
    start_ms = parse_time(arguments.start, now_ms, end_ms - 86_400_000)
    try:
        step_ms = round(duration_s(arguments.step) * 1_000)
    except ValueError as exc:
        raise BadInput(str(exc)) from exc
    least_ms = round(settings.file.evaluation_interval * 1_000)
    if step_ms < least_ms:
        raise BadInput(f"--step is shorter than a tick of the service, {least_ms / 1_000:g} s")
    span = Span(start_ms // step_ms * step_ms, end_ms, step_ms)
    if not 0 < span.ticks <= _MOST_TICKS:
        raise BadInput(
            f"{max(span.ticks, 0)} ticks from --from to --to",
            hint=f"at least 1, at most {_MOST_TICKS}: choose another time or a longer --step",
        )
    return span


def _own_marks(file: Path, span: Span) -> list[Mark]:
    engine = open_engine(f"sqlite:///{file}")
    try:
        upgrade(engine)
        sessions = open_sessions(engine)
        return marks_of_state(sessions, span.start_ms - WINDOW_MS, span.end_ms)
    finally:
        engine.dispose()


@contextmanager
def _copied(data_dir: Path, scratch: str | None) -> Iterator[Path]:
    """A copy of a stopped service's files, or of a backup's; gone afterwards."""
    if not (data_dir / _STORE).is_file():
        raise StoreUnavailable(
            f"there is no store in {data_dir}",
            hint="see --data-dir; it may be a backup's directory",
        )
    if (data_dir / f"{_STORE}.lock").exists() and is_in_use(data_dir):
        raise StoreUnavailable(
            f"{data_dir} is in use by a running service",
            hint="run `warroom backup --to DIR` and give --data-dir DIR, or stop the service",
        )
    with tempfile.TemporaryDirectory(prefix="warroom-backtest-", dir=scratch) as name:
        target = Path(name)
        files = [*data_dir.glob(f"{_STORE}*"), *data_dir.glob(f"{STATE_FILE}*")]
        wanted = sum(_size(path) for path in files)
        if shutil.disk_usage(target).free < wanted:
            raise StoreUnavailable(
                f"{wanted} bytes do not fit beside {target}", hint="give --scratch a larger disk"
            )
        for path in files:
            if path.is_dir():
                shutil.copytree(path, target / path.name)
            elif path.suffix != ".lock":
                shutil.copyfile(path, target / path.name)
        yield target


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(part.stat().st_size for part in path.rglob("*") if part.is_file())
    return path.stat().st_size
