"""What is asked and seen, wired: the API's routers, the live boards, the pages."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from fastapi import APIRouter
from prometheus_client import CollectorRegistry
from starlette.routing import Route
from starlette.types import ASGIApp

from alerts.incident_log.repository import IncidentRepository
from alerts.rules import alerts_answer, rules_answer
from alerts.why import why_paged
from api.alert_reader import AlertReader
from api.app import Parts, create_app
from api.guard import LOOPBACK_HOSTS, Guard, GuardPolicy
from api.loadtests.repository import LoadTestRepository
from api.mcp.server import routes as mcp_routes
from api.panels.view import PanelSources
from api.replay.past import sources_at
from api.routers import (
    alertmanager,
    business,
    change_events,
    changes,
    compare,
    drills,
    findings,
    health,
    jaeger,
    lifecycle,
    live,
    loadtests,
    logs,
    prometheus,
    readiness,
    replay,
    session,
    slo_agreements,
    slos,
    sources,
    traces,
)
from api.routers import alerts as alert_routes
from api.routers import boards as board_routes
from api.routers.loadtests import load_test_json
from api.saved_boards.book import BoardBook
from api.saved_boards.repository import BoardRepository
from api.shapes import annotation_json, slo_json
from api.stream import LiveBoards
from api.timeline import Timeline
from api.tokens.book import TokenBook
from api.tokens.repository import Role, TokenRepository
from dashboards.mount import is_page
from dashboards.mount import routes as page_routes
from detectors.window_reading import WindowReader
from slos.model import SloStatus
from slos.repository import MaintenanceRepository, PolicyRepository
from store.annotations.repository import AnnotationRepository
from store.backends.duckdb import DuckDBStore
from store.documents import without_secrets
from store.promql.engine import Engine
from store.sql import SessionFactory
from store.timestamps import rfc3339
from warroom.answers import explainer, finding_events, open_findings, source_states
from warroom.backups import take_snapshot
from warroom.clock import Clock
from warroom.config import Address, Settings
from warroom.damage import Damages
from warroom.hot_paths import HotPaths
from warroom.intake import Intake
from warroom.looking_back import KpisThen, ReadinessFacts, histories, sale_before
from warroom.paging import Paging
from warroom.paging_routes import Around, incident_route, paging_routes
from warroom.reload import Configuration
from warroom.tick import Readings
from warroom.watch import Sight, business_settings, detector_settings

Json = dict[str, Any]
_LOAD_TESTS = 20


@dataclass(frozen=True, slots=True)
class WebInputs:
    """Everything that the API and the boards look at."""

    settings: Settings
    engine: Engine
    store: DuckDBStore
    sight: Sight
    paging: Paging
    intake: Intake
    annotations: AnnotationRepository
    sessions: SessionFactory
    registry: CollectorRegistry
    configuration: Configuration
    readings: Callable[[], Readings]
    waiting_for: Callable[[], str | None]
    now: Clock
    version: str


@dataclass(frozen=True, slots=True)
class Web:
    """The parts of the application, and the boards that a tick publishes."""

    parts: Parts
    live: LiveBoards
    book: BoardBook
    policy: GuardPolicy
    otlp_policy: GuardPolicy
    hot_routes: Sequence[Route]

    def app(self) -> ASGIApp:
        """The main port; FastAPI's middleware would cost hot paths as much as their work."""
        hot: dict[str, ASGIApp] = {r.path: Guard(r.handle, self.policy) for r in self.hot_routes}
        return HotPaths(hot, create_app(self.parts))


def build_web(inputs: WebInputs) -> Web:
    """Wire the API."""
    incidents = IncidentRepository(inputs.sessions)
    reader = AlertReader(inputs.paging.engine, incidents, inputs.now)
    timeline = Timeline(
        [
            lambda start, end: [annotation_json(a) for a in inputs.annotations.between(start, end)],
            reader.timeline,
            finding_events(inputs.sessions),
            _agreements(inputs).timeline,
            loadtests.timeline_of(LoadTestRepository(inputs.sessions)),
        ]
    )
    saved = BoardBook(lambda: inputs.configuration.boards, BoardRepository(inputs.sessions))
    boards = LiveBoards(
        saved.boards,
        PanelSources(
            querier=inputs.engine,
            kpis=lambda: inputs.readings().kpis,
            slos=lambda: [slo_json(status) for status in inputs.readings().slos],
            alerts=reader.active,
            findings=lambda: open_findings(inputs.readings().findings, inputs.sight.findings),
            timeline=timeline,
            sources=lambda now_ms: source_states(inputs.intake, now_ms),
            earlier_sale=sale_before(business_settings(inputs.settings)),
            kpi_then=KpisThen(inputs.sight.business),
        ),
        interval_ms=round(inputs.settings.file.evaluation_interval * 1000),
        now=inputs.now,
        time_zone=business_settings(inputs.settings).time_zone,
    )
    book = TokenBook(TokenRepository(inputs.sessions).known)
    policy = _policy(inputs, inputs.settings.listen, book)
    parts = Parts(
        routers=[
            *_routers(inputs, reader, incidents, timeline, boards, saved),
            session.router(policy),
            live.router(boards, policy),
            change_events.router(inputs.annotations, _may_send(policy), inputs.now),
        ],
        first=[*inputs.intake.routes, *mcp_routes(inputs.version)],
        last=page_routes(),
        policy=policy,
        version=inputs.version,
    )
    return Web(
        parts,
        boards,
        saved,
        policy,
        _policy(inputs, inputs.settings.otlp_http, book),
        inputs.intake.hot_routes,
    )


def _routers(
    inputs: WebInputs,
    reader: AlertReader,
    incidents: IncidentRepository,
    timeline: Timeline,
    boards: LiveBoards,
    book: BoardBook,
) -> list[Any]:
    now, engine = inputs.now, inputs.paging.engine
    return [
        health.router(inputs.waiting_for, inputs.registry),
        lifecycle.router(inputs.configuration.reload),
        prometheus.router(_prometheus(inputs)),
        alertmanager.router(engine, now),
        board_routes.router(book, boards, now),
        _replay(inputs, incidents, boards, book),
        _readiness(inputs, boards),
        traces.router(inputs.store, now),
        compare.router(_compared(inputs), now),
        findings.router(inputs.sight.findings, explainer(inputs.store), now),
        slos.router(lambda: inputs.readings().slos),
        slo_agreements.router(_agreements(inputs)),
        business.router(inputs.sight.business, lambda: inputs.readings().kpis, now),
        *paging_routes(inputs.paging, incidents, _around(inputs, timeline), now),
        alert_routes.router(reader, lambda fingerprint: _why(inputs, fingerprint)),
        incident_route(inputs.paging, incidents, _around(inputs, timeline), now),
        drills.router(engine, inputs.paging.ledger, now),
        changes.router(inputs.annotations, timeline, now),
        loadtests.router(LoadTestRepository(inputs.sessions), now),
        logs.router(inputs.store, now),
        sources.router(
            lambda now_ms: source_states(inputs.intake, now_ms),
            now,
            inputs.store,
            inputs.settings.file.limits.max_series,
        ),
        jaeger.router(inputs.store, now),
    ]


def _around(inputs: WebInputs, timeline: Timeline) -> Around:
    def statuses() -> Sequence[SloStatus]:
        return inputs.readings().slos

    sight = inputs.sight
    damages = Damages(inputs.engine, sight.slos, statuses, sight.business, inputs.now)
    return Around(timeline, statuses, damages, business_settings(inputs.settings).time_zone)


def _replay(
    inputs: WebInputs, incidents: IncidentRepository, boards: LiveBoards, book: BoardBook
) -> APIRouter:
    quiet = inputs.paging.engine.silences
    kept = histories(inputs.sessions, incidents, inputs.sight.findings, quiet)
    return replay.router(
        book.boards, boards, lambda at_ms: sources_at(boards.sources, kept, at_ms), inputs.now
    )


def _readiness(inputs: WebInputs, boards: LiveBoards) -> APIRouter:
    facts = ReadinessFacts(
        inputs.configuration,
        inputs.paging,
        business_settings(inputs.settings),
        boards.sources.slos,
        boards.sources.sources,
    )
    tests = LoadTestRepository(inputs.sessions)
    return readiness.router(
        inputs.engine,
        lambda: [load_test_json(test) for test in tests.list(limit=_LOAD_TESTS)[0]],
        boards.sources.slos,
        facts,
        inputs.now,
    )


def _compared(inputs: WebInputs) -> compare.Sources:
    settings = detector_settings(inputs.settings)
    reader = WindowReader(inputs.engine, inputs.store, settings)
    return compare.Sources(reader, inputs.sight.findings, inputs.annotations)


def _why(inputs: WebInputs, fingerprint: str) -> Json | None:
    paging = inputs.paging
    told = why_paged(paging.engine, paging.ledger, fingerprint, inputs.now())
    return None if told is None else dataclasses.asdict(told)


def _prometheus(inputs: WebInputs) -> prometheus.Source:
    engine, store = inputs.paging.engine, inputs.store
    started = rfc3339(inputs.now())
    return prometheus.Source(
        engine=inputs.engine,
        catalog=store,
        metadata=store,
        exemplars=store,
        admin=store,
        now_ms=inputs.now,
        rules=lambda: rules_answer(
            inputs.sight.rules.statuses(),
            engine.snapshot().records.values(),
            interval_ms=round(inputs.settings.file.evaluation_interval * 1000),
        ),
        alerts=lambda: alerts_answer(engine.snapshot().records.values()),
        targets=inputs.intake.scraper.targets_status,
        config_text=lambda: _config_text(inputs.configuration.settings),
        runtime=lambda: {
            "startTime": started,
            "reloadConfigSuccess": inputs.configuration.reload_ok,
            "lastConfigTime": rfc3339(inputs.configuration.changed_ms),
            "storageRetention": f"{inputs.settings.file.store.retention.raw:.0f}s",
        },
        snapshot=lambda: take_snapshot(store, inputs.settings, inputs.now()),
    )


def _config_text(settings: Settings) -> str:
    return yaml.safe_dump(without_secrets(settings.document.data or {}), sort_keys=False)


def _agreements(inputs: WebInputs) -> slo_agreements.Agreements:
    evaluator = inputs.sight.slos
    return slo_agreements.Agreements(
        maintenance=MaintenanceRepository(inputs.sessions),
        spans=PolicyRepository(inputs.sessions),
        annotations=inputs.annotations,
        slos=lambda: evaluator.slos,
        policies=lambda: evaluator.policies,
        now=inputs.now,
    )


def _may_send(policy: GuardPolicy) -> Callable[[str], Awaitable[bool]]:
    """Whether a token that came in a body may send data."""

    async def accepts(token: str) -> bool:
        if not policy.tokens_required:
            return True
        if policy.prepare is not None:
            await policy.prepare(token)
        return policy.role_of(token) in {Role.INGEST, Role.ADMIN}

    return accepts


def _policy(inputs: WebInputs, address: Address | None, book: TokenBook) -> GuardPolicy:
    """What a listener at this address asks of a request."""
    settings = inputs.settings
    allowed = frozenset(settings.file.auth.allowed_hosts)
    loopback = address is None or address.loopback
    return GuardPolicy(
        hosts=allowed | LOOPBACK_HOSTS if loopback and not settings.behind_proxy else allowed,
        tokens_required=not loopback and not settings.behind_proxy,
        role_of=lambda secret: book.role_of(secret, inputs.now()),
        beacon_keys=frozenset(settings.file.rum.app_keys),
        prepare=book.prepare,
        is_page=is_page,
    )
