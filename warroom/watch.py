"""What is asked of the telemetry, wired: rules, detectors, SLOs, business metrics."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources

from alerts.rules import RuleEvaluator, parse_rule_file
from business_metrics.evaluation import BusinessEvaluator
from business_metrics.repository import BreachRepository
from business_metrics.settings import BusinessSettings
from detectors.registry import DetectorSettings
from detectors.repository import FindingRepository
from detectors.runner import DetectorRunner
from slos.evaluation import SloEvaluator
from slos.repository import MaintenanceRepository
from slos.spec import parse_slo_files
from store.documents import Document
from store.errors import ConfigError
from store.ports import Appender, EventReader, Querier, SpanReader
from store.sql import SessionFactory
from warroom.business_section import parse_business
from warroom.config import Settings, TextFile

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


def shipped_rules() -> TextFile:
    """The canonical `sig:` recording rules that the signal detectors read."""
    name = "signals.yml"
    text = resources.files("detectors.signals").joinpath(name).read_text(encoding="utf-8")
    return TextFile(f"(shipped) {name}", text)


def build_sight(settings: Settings, stores: Stores) -> Sight:
    """Wire the judges.

    Raises:
        ConfigError: A mistake in a rule, an SLO, or the settings of detectors or business metrics.
    """
    files = [parse_rule_file(f.text, f.name) for f in (shipped_rules(), *settings.rule_files)]
    slos = parse_slo_files({file.name: file.text for file in settings.slo_files})
    findings = FindingRepository(stores.sessions)
    return Sight(
        rules=RuleEvaluator(stores.querier, stores.appender, files),
        runner=DetectorRunner(stores.spans, stores.querier, findings, detector_settings(settings)),
        findings=findings,
        slos=SloEvaluator(
            stores.querier, stores.appender, slos, MaintenanceRepository(stores.sessions)
        ),
        business=BusinessEvaluator(
            stores.events,
            stores.querier,
            stores.appender,
            business_settings(settings),
            BreachRepository(stores.sessions),
            stores.spans,
        ),
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
