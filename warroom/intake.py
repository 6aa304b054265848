"""Everything that arrives, wired: pipeline, receivers, scrapes."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from prometheus_client import CollectorRegistry
from starlette.routing import BaseRoute, Route

from collector.guards import Guard, MemoryGuard, RateGuard
from collector.otlp.ingest import OtlpIngest, Signal
from collector.pipeline import Hooks, Pipeline
from collector.poll_runner import PollRunner, PollTarget
from collector.processors.limit import Limit, Limits
from collector.processors.redact import Redact
from collector.receivers import events, otlp_http, remote_write, rum
from collector.scrape.config import ScrapeConfig, parse_scrape_configs
from collector.scrape.job import LOOK_S
from collector.scrape.scraper import Change, Scraper
from collector.scrape.target import Target
from collector.source_health import SourceRegistry
from store.ports import Appender
from warroom.clock import Clock
from warroom.config import LimitsConfig, Settings
from warroom.forwarding import Forwarding
from warroom.memory import releaser, resident_bytes, usable_bytes
from warroom.poll import poll_job, poll_targets, schedule_pollers
from warroom.schedule import Schedule

# Of the machine's or container's memory; the rest is the system's, and the file cache's.
_MEMORY_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Asked:
    """Everything that is asked at its interval, as the configuration says it."""

    scrapes: tuple[ScrapeConfig, ...]
    polls: tuple[PollTarget, ...]


def read_asked(settings: Settings) -> Asked:
    """The `scrape_configs` and `pollers` of a configuration.

    Raises:
        ConfigError: A mistake in one of them, or a secret that cannot be read.
    """
    configs = parse_scrape_configs(settings.document, ("scrape_configs",), settings.environment)
    return Asked(configs, poll_targets(settings))


@dataclass(frozen=True, slots=True)
class Intake:
    """The collector, ready to be mounted and scheduled."""

    pipeline: Pipeline
    sources: SourceRegistry
    otlp: OtlpIngest
    scraper: Scraper
    pollers: PollRunner
    rum: rum.RumReceiver
    routes: Sequence[BaseRoute]
    otlp_routes: Sequence[BaseRoute]
    hot_routes: Sequence[Route]
    # What is found and what is configured change one after the other.
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def schedule(self, schedule: Schedule) -> None:
        """One job a target and one that looks for targets; they follow what is discovered."""
        for target in self.scraper.targets():
            self._schedule_scrape(schedule, target)
        self._schedule_discovery(schedule)
        schedule_pollers(self.pollers, self.pollers.targets(), schedule)

    async def reload(self, wanted: Asked, schedule: Schedule, now_ms: int) -> None:
        """Ask others from now on: what did not change goes on, series of what is gone end."""
        async with self.changing:
            change = await self.scraper.reconfigure(wanted.scrapes, now_ms)
            self._follow(schedule, change)
            self._schedule_discovery(schedule)
        polls = await self.pollers.reconfigure(wanted.polls, now_ms)
        for gone in polls.gone:
            schedule.cancel(poll_job(gone))
        schedule_pollers(self.pollers, polls.added, schedule)

    def _schedule_discovery(self, schedule: Schedule) -> None:
        if self.scraper.discovers:
            schedule.every("discovery", LOOK_S, partial(self._discover, schedule))
        else:
            schedule.cancel("discovery")

    def _schedule_scrape(self, schedule: Schedule, target: Target) -> None:
        # Spread over the interval, and at the same place of it after a restart.
        offset_s = target.interval_s * zlib.crc32(target.key.encode()) / (1 << 32)
        job = partial(self.scraper.scrape, target)
        schedule.every(_scrape_job(target), target.interval_s, job, offset_s=offset_s)

    async def _discover(self, schedule: Schedule, now_ms: int) -> None:
        async with self.changing:
            self._follow(schedule, await self.scraper.discover(now_ms))

    def _follow(self, schedule: Schedule, change: Change) -> None:
        for target in change.gone:
            schedule.cancel(_scrape_job(target))
        for target in change.added:
            self._schedule_scrape(schedule, target)


def _scrape_job(target: Target) -> str:
    # A job's name is shown: its URL may hold secrets, of which Python's own hash tells nothing.
    labels = target.labels
    return f"scrape/{labels['job']}/{labels['instance']}/{hash(target.key) & 0xFFFFFFFF:08x}"


def build_intake(
    settings: Settings,
    appender: Appender,
    registry: CollectorRegistry,
    now: Clock,
    sources: SourceRegistry,
    forwarding: Forwarding,
) -> Intake:
    """Wire the collector.

    Raises:
        ConfigError: A mistake in `scrape_configs` or `pollers`.
    """
    kept = settings.file.store.retention
    # What is too old to be kept raw still makes roll-ups.
    limits = Limits(
        max_age_ms=int(max(kept.raw, kept.rollup_5m) * 1000),
        max_future_ms=round(settings.file.limits.max_future * 1000),
    )
    pipeline = Pipeline(
        appender,
        (Limit(limits, now_ms=now), Redact()),
        sources,
        now_ms=now,
        registry=registry,
        hooks=Hooks(_guards(settings.file.limits, sources), forwarding.listeners),
    )
    otlp: OtlpIngest
    beacons = rum.RumReceiver(
        pipeline,
        settings=_rum(settings),
        take_spans=lambda body: otlp.accept(Signal.TRACES, body, is_json=True, source=rum.SOURCE),
    )
    otlp = OtlpIngest(pipeline, on_vitals=beacons.report)
    asked = read_asked(settings)
    otlp_routes = otlp_http.routes(otlp)
    write_routes = remote_write.routes(pipeline)
    return Intake(
        pipeline=pipeline,
        sources=sources,
        otlp=otlp,
        scraper=Scraper(asked.scrapes, pipeline),
        pollers=PollRunner(asked.polls, pipeline, forwarding.around(appender)),
        rum=beacons,
        routes=[
            *otlp_routes,
            *write_routes,
            *events.routes(pipeline),
            *beacons.routes(),
        ],
        otlp_routes=otlp_routes,
        hot_routes=[*otlp_routes, *write_routes],
    )


def _guards(limits: LimitsConfig, sources: SourceRegistry) -> tuple[Guard, ...]:
    usable = usable_bytes()
    most = round(usable * _MEMORY_SHARE) if limits.memory == "auto" else limits.memory
    rates = {
        name.removesuffix("_per_second"): rate
        for name, rate in limits.per_source.model_dump().items()
    }
    return (
        MemoryGuard(most, resident_bytes, releaser()),
        RateGuard(rates, sources.name_of),
    )


def _rum(settings: Settings) -> rum.RumSettings:
    chosen = settings.file.rum
    return rum.RumSettings(
        frozenset(chosen.allowed_origins), frozenset(chosen.app_keys), chosen.max_per_second
    )
