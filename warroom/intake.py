"""Everything that arrives, wired: pipeline, receivers, scrapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from prometheus_client import CollectorRegistry
from starlette.routing import BaseRoute

from collector.otlp.ingest import OtlpIngest
from collector.pipeline import Pipeline
from collector.processors.limit import Limit
from collector.processors.redact import Redact
from collector.receivers import events, otlp_http, remote_write, rum
from collector.scrape.config import parse_scrape_configs
from collector.scrape.scraper import Scraper
from collector.source_health import SourceRegistry
from store.ports import Appender
from warroom.clock import Clock
from warroom.config import Settings
from warroom.schedule import Schedule


@dataclass(frozen=True, slots=True)
class Intake:
    """The collector, ready to be mounted and scheduled."""

    pipeline: Pipeline
    sources: SourceRegistry
    otlp: OtlpIngest
    scraper: Scraper
    routes: Sequence[BaseRoute]
    otlp_routes: Sequence[BaseRoute]

    def schedule(self, schedule: Schedule) -> None:
        """One job a target, spread over its interval so that targets are not asked all at once."""
        targets = self.scraper.targets()
        for index, target in enumerate(targets):
            offset_s = target.interval_s * index / max(1, len(targets))
            job = partial(self.scraper.scrape, target)
            schedule.every(f"scrape/{target.key}", target.interval_s, job, offset_s=offset_s)


def build_intake(
    settings: Settings,
    appender: Appender,
    registry: CollectorRegistry,
    now: Clock,
) -> Intake:
    """Wire the collector.

    Raises:
        ConfigError: A mistake in `scrape_configs`.
    """
    sources = SourceRegistry()
    pipeline = Pipeline(appender, (Limit(), Redact()), sources, now_ms=now, registry=registry)
    otlp = OtlpIngest(pipeline)
    configs = parse_scrape_configs(settings.document, ("scrape_configs",))
    otlp_routes = otlp_http.routes(otlp)
    return Intake(
        pipeline=pipeline,
        sources=sources,
        otlp=otlp,
        scraper=Scraper(configs, pipeline),
        routes=[
            *otlp_routes,
            *remote_write.routes(pipeline),
            *events.routes(pipeline),
            *rum.routes(pipeline),
        ],
        otlp_routes=otlp_routes,
    )
