"""The configuration in force, and its change while the service runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog

from alerts.deadman import Deadman
from alerts.route_tree import Routing
from alerts.rules import RuleFile, parse_rule_file
from api.boards import BoardText
from slos.spec import SloFiles, parse_slo_files
from store.errors import WarroomError
from warroom.alerting_section import read_deadman
from warroom.boards import read_boards
from warroom.clock import Clock
from warroom.config import FileConfig, Settings, load
from warroom.intake import Asked, read_asked
from warroom.paging import Paging, read_routing
from warroom.telemetry import SelfMetrics
from warroom.watch import Sight, rule_texts

log = structlog.get_logger()

# What a reload changes; anything else needs a restart.
RELOADED = frozenset(
    {
        *("rule_files", "shipped_rules", "slo_files", "alertmanager_file", "alerting", "on_call"),
        *("boards_dir", "scrape_configs", "pollers"),
    }
)


@dataclass(frozen=True, slots=True)
class _Parsed:
    """Everything that a reload may change, read and found to be right."""

    settings: Settings
    rules: tuple[RuleFile, ...]
    slos: SloFiles
    routing: Routing
    boards: Mapping[str, BoardText]
    deadman: Deadman | None
    asked: Asked


@dataclass(frozen=True, slots=True)
class Reloaded:
    """Whoever takes a part of a new configuration.

    Attributes:
        ask: Takes what is to be scraped and polled from now on.
    """

    sight: Sight
    paging: Paging
    ask: Callable[[Asked], Awaitable[None]]


class Configuration:
    """What is in force. A reload takes all of the new files or nothing of them.

    Attributes:
        lock: Held by each tick: a tick sees one configuration from its beginning to its end.
        reload_ok: The last reload succeeded; true before the first.
        changed_ms: When the configuration in force was read.
    """

    def __init__(
        self,
        settings: Settings,
        inputs: Reloaded,
        metrics: SelfMetrics,
        now: Clock,
    ) -> None:
        self.settings = settings
        self._started = settings.file
        self.boards: Mapping[str, BoardText] = read_boards(settings)
        self.deadman = read_deadman(settings)
        self.lock = asyncio.Lock()
        # Of two reloads at once, the one that read last is also applied last.
        self._reloading = asyncio.Lock()
        self.reload_ok = True
        self.changed_ms = now()
        self._sight, self._paging, self._ask = inputs.sight, inputs.paging, inputs.ask
        self._metrics = metrics
        self._now = now
        self._note()

    async def reload(self) -> str:
        """Read every file again; answers with a line for the person who asked.

        Rules, SLOs, routes, receivers, boards, scrapes and pollers change; alerts, groups, silences
        and the clocks of unchanged rules stay as they are.

        Raises:
            WarroomError: A mistake, with file and line. What was in force stays in force.
        """
        async with self._reloading:
            return await self._reload()

    async def _reload(self) -> str:
        try:
            parsed = await asyncio.to_thread(self._read)
            async with self.lock:
                self._apply(parsed)
            # Outside the lock: a target that is slow to end holds no tick up.
            await self._ask(parsed.asked)
        except WarroomError as exc:
            self.reload_ok = False
            self._metrics.config_ok.set(0)
            log.error("reload failed, the configuration stays as it was", error=str(exc))  # noqa: TRY400
            raise
        self.reload_ok = True
        self._note()
        rules = sum(len(group.rules) for file in parsed.rules for group in file.groups)
        told = (
            f"{rules} rules, {len(parsed.slos.slos)} SLOs, {len(parsed.boards)} boards,"
            f" {len(parsed.asked.scrapes)} scrape jobs, {len(parsed.asked.polls)} pollers"
        )
        needs = _needs_restart(self._started, parsed.settings.file)
        if needs:
            told += f"; a change of {', '.join(needs)} waits for a restart"
        log.info("configuration reloaded", told=told)
        return told

    def _read(self) -> _Parsed:
        settings = load(self.settings.options, self.settings.environment)
        files = rule_texts(settings)
        return _Parsed(
            settings=settings,
            rules=tuple(parse_rule_file(file.text, file.name) for file in files),
            slos=parse_slo_files({file.name: file.text for file in settings.slo_files}),
            routing=read_routing(settings),
            boards=read_boards(settings),
            deadman=read_deadman(settings),
            asked=read_asked(settings),
        )

    def _apply(self, parsed: _Parsed) -> None:
        self._sight.rules.reload(parsed.rules)
        self._sight.slos.reload(parsed.slos.slos, parsed.slos.policies)
        self._paging.engine.reload(parsed.routing)
        self.boards = parsed.boards
        self.deadman = parsed.deadman
        self.settings = parsed.settings

    def _note(self) -> None:
        self.changed_ms = self._now()
        self._metrics.config_ok.set(1)
        self._metrics.config_changed.set(self.changed_ms / 1000)


def _needs_restart(running: FileConfig, read: FileConfig) -> list[str]:
    return [
        name
        for name in FileConfig.model_fields
        if name not in RELOADED and getattr(running, name) != getattr(read, name)
    ]
