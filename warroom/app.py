"""The composition root: who is wired to whom. One straight function; no globals."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path

import httpx
import structlog
from starlette.applications import Starlette

from alerts.deadman import Pulse
from alerts.model import Alert
from alerts.outbox import DeliveryReport
from api.guard import Guard
from business_metrics.model import KpiReading
from collector.receivers.otlp_grpc import OtlpGrpcServer
from collector.source_health import SourceRegistry
from detectors.finding import Finding
from slos.model import SloStatus
from store.annotations.repository import AnnotationRepository
from store.backends.duckdb import DuckDBStore, StoreLimits
from store.errors import ConfigError, WarroomError
from store.model import UnitHealth
from store.promql.cache import RangeCache
from store.promql.engine import Engine
from store.sql import SessionFactory, open_engine, open_sessions, upgrade
from warroom import self_watch
from warroom.clock import Clock
from warroom.config import Address, Settings
from warroom.forwarding import Forwarding, build_forwarding
from warroom.heartbeat import LOOK_EVERY_S, Heartbeat
from warroom.intake import Asked, Intake, build_intake
from warroom.paging import Paging, PagingInputs, build_paging, unknown_units
from warroom.reload import Configuration, Reloaded
from warroom.schedule import Schedule
from warroom.self_watch import SelfWatch
from warroom.server import Listener, PortTaken
from warroom.state import state_url
from warroom.telemetry import SelfMetrics
from warroom.tick import Steps, Ticker
from warroom.warm_up import warm_up
from warroom.watch import Sight, Stores, build_sight
from warroom.web import Web, WebInputs, build_web

log = structlog.get_logger()

_LEDGER_MS = 30 * 86_400_000
_OUTBOX_S = 1.0
_RETENTION_S = 300.0
# How soon a board that another replica saved is seen here.
_BOARDS_S = 15.0
_STORE_FILE = "telemetry.duckdb"


@dataclass(slots=True)
class Service:
    """A whole Warroom. Two of them fit into one process."""

    settings: Settings
    main: Listener
    otlp_http: Listener | None
    otlp_grpc: OtlpGrpcServer | None
    store: DuckDBStore
    sight: Sight
    paging: Paging
    intake: Intake
    forwarding: Forwarding
    web: Web
    configuration: Configuration
    heartbeat: Heartbeat
    self_watch: SelfWatch
    ticker: Ticker
    schedule: Schedule
    metrics: SelfMetrics
    closing: AsyncExitStack
    now: Clock
    waiting_for: str | None = "starting"
    other_addresses: dict[str, Address] = field(default_factory=dict)
    _deliveries: set[asyncio.Task[DeliveryReport]] = field(default_factory=set)

    @property
    def url(self) -> str:
        tls = self.settings.file.auth.tls_cert_file
        return f"{'https' if tls else 'http'}://{self.main.address}"

    async def listen(self) -> None:
        """Open every port. Not ready yet, but alive.

        Raises:
            PortTaken: An address is in use.
        """
        await self.forwarding.start(self.closing.push_async_callback)
        self.closing.push_async_callback(self.intake.rum.aclose)
        await self.main.start()
        self.closing.push_async_callback(self.main.stop)
        if self.otlp_http is not None:
            await self.otlp_http.start()
            self.closing.push_async_callback(self.otlp_http.stop)
            self.other_addresses["OTLP/HTTP"] = self.otlp_http.address
        if self.otlp_grpc is not None and self.settings.otlp_grpc is not None:
            address = self.settings.otlp_grpc
            try:
                port = await self.otlp_grpc.start()
            except RuntimeError as exc:
                raise PortTaken(
                    f"{address} is in use by another process",
                    hint="give --otlp-grpc another address, port 0, or off",
                ) from exc
            self.closing.push_async_callback(self.otlp_grpc.stop)
            self.other_addresses["OTLP/gRPC"] = Address(address.host, port)

    async def start(self) -> None:
        """Warm up, begin to tick, be ready."""
        self.waiting_for = "compiling kernels"
        await asyncio.to_thread(warm_up)
        self.waiting_for = "the first tick"
        interval_ms = round(self.settings.file.evaluation_interval * 1000)
        await self.tick(self.now() // interval_ms * interval_ms)
        interval_s = self.settings.file.evaluation_interval
        self.schedule.every("tick", interval_s, self.tick)
        self.schedule.every("outbox", _OUTBOX_S, self._deliver)
        self.schedule.every("deadman", LOOK_EVERY_S, self.heartbeat.run)
        self.schedule.every("retention", _RETENTION_S, self._retain)
        self.schedule.every("self", self_watch.INTERVAL_S, self.self_watch.run)
        self.schedule.every("boards", _BOARDS_S, self._refresh_boards)
        self.intake.schedule(self.schedule)
        self.schedule.start()
        self.closing.callback(self.schedule.stop)
        self.waiting_for = None
        log.info("ready", url=self.url, recovery=str(self.store.recovery))

    async def tick(self, now_ms: int) -> None:
        """One tick; delivery goes on beside it, so that a slow receiver holds nothing up."""
        async with self.configuration.lock:
            await self.ticker.run(now_ms, self._kick)
        self.metrics.watchers.set(self.web.live.watchers)
        self.metrics.observe_units(self.schedule.health)

    def _kick(self, now_ms: int) -> None:
        task = asyncio.create_task(self.paging.outbox.deliver_due(now_ms))
        self._deliveries.add(task)
        task.add_done_callback(self._delivered)

    def _delivered(self, task: asyncio.Task[DeliveryReport]) -> None:
        self._deliveries.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("outbox failed", error=str(task.exception()))

    async def _deliver(self, now_ms: int) -> None:
        await self.paging.outbox.deliver_due(now_ms)

    async def _retain(self, now_ms: int) -> None:
        retention = self.settings.file.store.retention
        retain = partial(
            self.store.retain,
            now_ms,
            int(retention.raw * 1000),
            retention.max_bytes,
            events_ms=int(retention.events * 1000),
            rollup_ms=int(retention.rollup_5m * 1000),
        )
        await asyncio.to_thread(retain)
        await asyncio.to_thread(self.paging.ledger.forget, now_ms - _LEDGER_MS)

    async def _refresh_boards(self, _now_ms: int) -> None:
        await asyncio.to_thread(self.web.book.refresh)

    async def stop(self) -> None:
        """Drain and close, last opened first; one failure stops no other."""
        self.web.live.close()
        await self.ticker.close()
        for task in list(self._deliveries):
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await asyncio.wait_for(task, 3)
        await self.closing.aclose()


def build(settings: Settings, *, now: Clock) -> Service:
    """Wire a service; nothing listens and nothing ticks yet.

    Raises:
        WarroomError: A mistake in a file, or a store that cannot be opened.
    """
    with ExitStack() as opened:
        service = _build(settings, now, opened)
        # Whatever was opened is the service's to close from here on.
        service.closing.push(opened.pop_all())
    return service


def _build(settings: Settings, now: Clock, opened: ExitStack) -> Service:
    version = metadata.version("warroom")
    metrics = SelfMetrics(version)
    metrics.interval.set(settings.file.evaluation_interval)
    sessions = _open_state(settings, opened)
    store = _open_store(settings, opened)
    cache = _open_cache(settings, store)
    engine = Engine(store, cache=cache)
    closing = AsyncExitStack()
    client = httpx.AsyncClient(timeout=10.0, follow_redirects=False, trust_env=False)
    closing.push_async_callback(client.aclose)
    annotations = AnnotationRepository(sessions)
    external_url = settings.file.external_url or f"http://{settings.listen}"
    sources = SourceRegistry()
    forwarding = build_forwarding(settings, store, sources, metrics.registry, now)
    opened.callback(forwarding.close)
    appender = forwarding.around(store)
    intake = build_intake(settings, store, metrics.registry, now, sources, forwarding)
    closing.push_async_callback(intake.scraper.aclose)
    closing.push_async_callback(intake.pollers.aclose)
    sight = build_sight(settings, Stores(engine, appender, store, store, sessions, store))
    paging = build_paging(
        settings,
        PagingInputs(
            sessions,
            appender,
            client,
            annotations,
            external_url,
            sight.findings,
            sight.runner.topology,
        ),
    )
    metrics.watch_store(store.stats, paging.ledger.counts)
    metrics.watch_escalations(paging.escalation_counts)
    if cache is not None:
        metrics.watch_query_cache(cache.stats)
    schedule = Schedule(now)

    async def ask(asked: Asked) -> None:
        await intake.reload(asked, schedule, now())

    configuration = Configuration(settings, Reloaded(sight, paging, ask), metrics, now)
    service: Service
    web = build_web(
        WebInputs(
            settings=settings,
            engine=engine,
            store=store,
            sight=sight,
            paging=paging,
            intake=intake,
            annotations=annotations,
            sessions=sessions,
            registry=metrics.registry,
            configuration=configuration,
            readings=lambda: service.ticker.readings,
            waiting_for=lambda: service.waiting_for,
            now=now,
            version=version,
        )
    )
    ticker = Ticker(_steps(sight, paging), web.live, metrics)
    heartbeat = Heartbeat(
        lambda: configuration.deadman, partial(_pulse, settings, ticker, paging), client, metrics
    )
    auth = settings.file.auth
    tls = (auth.tls_cert_file, auth.tls_key_file) if auth.tls_cert_file else None
    service = Service(
        settings=settings,
        main=Listener(web.app(), settings.listen, purpose="--listen", tls=tls),
        otlp_http=_otlp_http(settings, intake, web, tls),
        otlp_grpc=_otlp_grpc(settings, intake, tls),
        store=store,
        sight=sight,
        paging=paging,
        intake=intake,
        forwarding=forwarding,
        web=web,
        configuration=configuration,
        heartbeat=heartbeat,
        self_watch=SelfWatch(metrics.registry, appender),
        ticker=ticker,
        schedule=schedule,
        metrics=metrics,
        closing=closing,
        now=now,
    )
    return service


def _open_state(settings: Settings, opened: ExitStack) -> SessionFactory:
    if settings.in_memory:
        engine = open_engine("sqlite://")
    else:
        _make_directory(settings.data_dir)
        engine = open_engine(state_url(settings))
    opened.callback(engine.dispose)
    upgrade(engine)
    return open_sessions(engine)


def _open_store(settings: Settings, opened: ExitStack) -> DuckDBStore:
    path = None if settings.in_memory else settings.data_dir / _STORE_FILE
    limits = StoreLimits(max_series=settings.file.limits.max_series)
    store = DuckDBStore.open(path, limits=limits)
    opened.callback(store.close)
    return store


def _open_cache(settings: Settings, store: DuckDBStore) -> RangeCache | None:
    max_bytes = settings.file.store.query_cache
    return RangeCache(store.changes, max_bytes) if max_bytes else None


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise WarroomError(
            f"the data directory {path} cannot be made: {exc.strerror}", hint="see --data-dir"
        ) from exc


def _pulse(settings: Settings, ticker: Ticker, paging: Paging) -> Pulse:
    # The row of the alert step, not `readings.at_ms`: that is set before alerts are evaluated.
    rows = [unit for unit in ticker.readings.health if unit.unit == "tick/alert"]
    return Pulse(
        last_tick_ms=max((unit.at_ms for unit in rows), default=0),
        tick_interval_ms=round(settings.file.evaluation_interval * 1000),
        alerting_ok=all(unit.ok for unit in rows),
        oldest_due_ms=paging.ledger.oldest_open_ms(),
    )


def _steps(sight: Sight, paging: Paging) -> Steps:
    def detect(now_ms: int) -> tuple[tuple[Finding, ...], tuple[UnitHealth, ...]]:
        tick = sight.runner.tick(now_ms)
        return tick.findings, tick.health

    def burn(now_ms: int) -> tuple[tuple[SloStatus, ...], tuple[UnitHealth, ...]]:
        tick = sight.slos.tick(now_ms)
        return tick.statuses, tick.health

    def trade(now_ms: int) -> tuple[tuple[KpiReading, ...], tuple[UnitHealth, ...]]:
        tick = sight.business.tick(now_ms)
        return tick.readings, tick.health

    def alert(now_ms: int, alerts: Sequence[Alert], unknown: frozenset[str]) -> None:
        explained = paging.explained(alerts, now_ms)
        paging.engine.tick(
            now_ms, explained, unknown_sources=unknown, topology=paging.suspects.topology
        )

    return Steps(
        record=sight.rules.record,
        detect=detect,
        burn=burn,
        trade=trade,
        rules=sight.rules.alerts,
        sources=paging.alerts_of,
        unknown=unknown_units,
        alert=alert,
    )


def _otlp_http(
    settings: Settings, intake: Intake, web: Web, tls: tuple[str, str] | None
) -> Listener | None:
    if settings.otlp_http is None:
        return None
    app = Guard(Starlette(routes=list(intake.otlp_routes)), web.otlp_policy)
    return Listener(app, settings.otlp_http, purpose="--otlp-http", tls=tls)


def _otlp_grpc(
    settings: Settings, intake: Intake, tls: tuple[str, str] | None
) -> OtlpGrpcServer | None:
    if settings.otlp_grpc is None:
        return None
    if not settings.otlp_grpc.loopback and not settings.behind_proxy:
        raise ConfigError(
            "OTLP/gRPC cannot check tokens in this version, so it listens on loopback only",
            hint="give --otlp-grpc off, a loopback address, or --behind-proxy",
        )
    del tls
    return OtlpGrpcServer(intake.otlp, str(settings.otlp_grpc))
