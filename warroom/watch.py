"""What is asked of the telemetry, wired: rules, detectors, SLOs, business metrics."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from importlib import resources
from zoneinfo import ZoneInfo

from alerts.incident_log.repository import IncidentRepository
from alerts.rules import RuleEvaluator, RuleOptions, parse_rule_file
from alerts.shipped import SELF, THRESHOLDS, self_text, thresholds_text
from business_metrics.evaluation import BusinessEvaluator
from business_metrics.repository import BreachRepository
from business_metrics.settings import BusinessSettings
from detectors.registry import DetectorSettings
from detectors.repository import FindingRepository
from detectors.runner import DetectorRunner
from slos.evaluation import SloEvaluator
from slos.outlook import SaleEvent
from slos.repository import MaintenanceRepository, PolicyRepository
from slos.run import Surroundings
from slos.spec import SloFiles, parse_slo_files
from store.documents import Document
from store.errors import ConfigError
from store.ports import Appender, EventReader, Querier, RequestReader, SpanReader
from store.sql import SessionFactory
from warroom.business_section import parse_business
from warroom.config import Settings, TextFile
from warroom.past_trouble import past_trouble

_SIGNALS = "signals.yml"
_DOTTED = re.compile(r"[a-z_]+(\.[a-z0-9_]+)+")


@dataclass(frozen=True, slots=True)
class Sight:
    """Everything that judges telemetry at a tick."""

    rules: RuleEvaluator
    runner: DetectorRunner
    findings: FindingRepository
    slos: SloEvaluator
    business: BusinessEvaluator


@dataclass(frozen=True, slots=True)
class Stores:
    """Where telemetry comes from and goes to."""

    querier: Querier
    appender: Appender
    spans: SpanReader
    events: EventReader
    sessions: SessionFactory
    requests: RequestReader | None = None


def rule_texts(settings: Settings) -> tuple[TextFile, ...]:
    """The shipped rules, then the configured ones.

    The canonical `sig:` recording rules are always there: detectors and boards read them. The usual
    thresholds can be switched off.
    """
    signals = resources.files("detectors.signals").joinpath(_SIGNALS).read_text(encoding="utf-8")
    shipped = [TextFile(f"(shipped) {_SIGNALS}", signals)]
    if settings.file.shipped_rules:
        shipped.append(TextFile(f"(shipped) {THRESHOLDS}", thresholds_text()))
        shipped.append(TextFile(f"(shipped) {SELF}", self_text()))
    return (*shipped, *settings.rule_files)


def build_sight(settings: Settings, stores: Stores) -> Sight:
    """Wire the judges.

    Raises:
        ConfigError: A mistake in a rule, an SLO, or the settings of detectors or business metrics.
    """
    files = [parse_rule_file(f.text, f.name) for f in rule_texts(settings)]
    written = parse_slo_files({file.name: file.text for file in settings.slo_files})
    findings = FindingRepository(stores.sessions)
    business = business_settings(settings)
    return Sight(
        rules=RuleEvaluator(stores.querier, stores.appender, files, _rule_options(settings)),
        runner=DetectorRunner(
            stores.spans,
            stores.querier,
            findings,
            detector_settings(settings),
            past_trouble(business, IncidentRepository(stores.sessions)),
        ),
        findings=findings,
        slos=_slos(stores, written, business),
        business=BusinessEvaluator(
            stores.events,
            stores.querier,
            stores.appender,
            business,
            BreachRepository(stores.sessions),
            stores.requests,
        ),
    )


def _rule_options(settings: Settings) -> RuleOptions:
    external_url = settings.file.external_url or f"http://{settings.listen}"
    return RuleOptions(external_url, settings.file.external_labels)


def _slos(stores: Stores, written: SloFiles, business: BusinessSettings) -> SloEvaluator:
    sales = sale_events(business)
    around = Surroundings(MaintenanceRepository(stores.sessions), lambda: sales)
    book = PolicyRepository(stores.sessions)
    return SloEvaluator(
        stores.querier, stores.appender, written.slos, around, book, written.policies
    )


def sale_events(business: BusinessSettings) -> tuple[SaleEvent, ...]:
    """The sales of the calendar, from midnight to midnight in the shop's time zone."""
    zone = ZoneInfo(business.time_zone)

    def midnight_ms(day: date) -> int:
        return round(datetime.combine(day, time.min, tzinfo=zone).timestamp() * 1_000)

    return tuple(
        SaleEvent(sale.name, midnight_ms(sale.first), midnight_ms(sale.last + timedelta(days=1)))
        for sale in business.calendar
    )


def detector_settings(settings: Settings) -> DetectorSettings:
    """The `detectors:` section, with the file and line of a mistake in it."""
    with _located(settings.document, "detectors"):
        return DetectorSettings.from_mapping(settings.file.detectors)


def business_settings(settings: Settings) -> BusinessSettings:
    """The `business:` section, likewise."""
    with _located(settings.document, "business"):
        return parse_business(settings.file.business)


@contextmanager
def _located(document: Document, section: str) -> Iterator[None]:
    """Rooms know their settings, not the file: add where the section's mistake stands."""
    try:
        yield
    except ConfigError as exc:
        if exc.file:
            raise
        dotted = _DOTTED.match(exc.problem)
        parts = dotted[0].split(".") if dotted else [section]
        path = tuple(int(part) if part.isdecimal() else part for part in parts)
        raise document.error(path, exc.problem, hint=exc.hint) from exc
