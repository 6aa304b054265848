"""The reference pages name everything there is, and nothing that there is not."""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from alerts.registry import NOTIFIERS
from api.boards import Panel, PanelKind
from api.panels.registry import COMPUTE
from api.tokens.repository import Role
from business_metrics import recording
from detectors.registry import SETTINGS, SIGNAL_DETECTORS, TRACE_DETECTORS, DetectorSettings
from store.annotations.repository import KINDS
from tests.docs.pages import ROOT, headings, rows, text_of
from warroom import config
from warroom.business_section import BusinessSection
from warroom.cli import _parser
from warroom.config import FileConfig
from warroom.telemetry import SelfMetrics

CONFIGURATION = "docs/configuration.md"
RECORDING = "business_metrics/recording.py"
GENERATED = re.compile(r"_(created|bucket|sum|count)$")


def settings_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from settings_of(inner, f"{prefix}{name}.")
        else:
            yield prefix + name


def commands() -> dict[str, argparse.ArgumentParser]:
    for action in _parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise AssertionError("the command line has no commands")


SETTINGS_OF_FILE = {
    *settings_of(FileConfig),
    *(f"business.{name}" for name in BusinessSection.model_fields),
}


def test_every_setting_has_a_row_and_every_row_a_setting() -> None:
    documented = {
        name for name in rows(CONFIGURATION) if re.fullmatch(r"[a-z_]+(\.[a-z0-9_]+)*", name)
    }
    assert documented == SETTINGS_OF_FILE


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("evaluation_interval", "`5s`"),
        ("store.url", "`duckdb`"),
        ("store.retention.raw", "`15d`"),
        ("store.retention.rollup_5m", "`400d`"),
        ("store.retention.events", "`400d`"),
        ("store.retention.max_bytes", "`50GB`"),
        ("state.url", "`sqlite`"),
        ("business.checkout_timeout", "`30m`"),
        ("business.abandonment_window", "`1h`"),
        ("business.abandonment_max", "`0.4`"),
        ("business.alpha", "`0.0001`"),
        ("business.baseline_weeks", "`4`"),
        ("business.currency", "`EUR`"),
        ("business.time_zone", "`UTC`"),
    ],
)
def test_a_default_is_the_one_that_is_told(name: str, told: str, tmp_path: Path) -> None:
    assert rows(CONFIGURATION)[name].startswith(told)
    section, _, rest = name.partition(".")
    given: object = told.strip("`")
    for part in reversed(rest.split(".") if rest else []):
        given = {part: given}
    if section == "business":
        assert isinstance(given, dict)
        assert BusinessSection.model_validate(given) == BusinessSection()
    else:
        assert FileConfig.model_validate({section: given}) == FileConfig()


def test_every_variable_of_the_environment_is_told() -> None:
    source = Path(config.__file__).read_text(encoding="utf-8")
    read = set(re.findall(r'"(WARROOM_[A-Z_]+)"', source))
    assert read
    assert read | {"WARROOM_TOKEN"} == {
        name for name in rows(CONFIGURATION) if name.startswith("WARROOM_")
    }


@pytest.mark.parametrize("command", sorted(commands()))
def test_every_command_has_a_heading_and_every_option_is_named(command: str) -> None:
    sections = re.split(r"^### (.+)$", text_of(CONFIGURATION), flags=re.MULTILINE)
    mine = [
        text
        for heading, text in zip(sections[1::2], sections[2::2], strict=True)
        if command in heading.split(", ")
    ]
    assert len(mine) == 1
    options = {
        option
        for action in commands()[command]._actions
        for option in action.option_strings
        if option not in {"-h", "--help"}
    }
    told = set(re.findall(r"--[a-z][a-z-]*", mine[0]))
    assert options <= told
    if "," not in next(h for h in sections[1::2] if command in h.split(", ")):
        assert told <= options


def test_every_kind_of_finding_and_section_of_settings_has_a_heading() -> None:
    kinds = set(SETTINGS)
    made = DetectorSettings()
    for detectors in (made.trace_detectors(), made.signal_detectors()):
        for detector in detectors.values():
            kinds |= set(detector.kinds)
    assert len(kinds) > len(TRACE_DETECTORS) + len(SIGNAL_DETECTORS)
    assert kinds <= headings("docs/detectors.md")


def test_every_notifier_has_its_page_and_every_page_its_notifier() -> None:
    assert {page.stem for page in (ROOT / "docs" / "notifiers").glob("*.md")} == set(NOTIFIERS)
    for kind in NOTIFIERS:
        assert f"{kind}_configs" in text_of(f"docs/notifiers/{kind}.md")
        assert f"{kind}_configs" in text_of("docs/alerts.md")


def test_every_receiver_is_described_where_data_comes_from() -> None:
    described = {
        "events": "docs/sources/business_events.md",
        "otlp_grpc": "docs/sources/otlp.md",
        "otlp_http": "docs/sources/otlp.md",
        "remote_write": "docs/promql.md",
        "rum": "docs/sources/rum.md",
    }
    receivers = {path.stem for path in (ROOT / "collector" / "receivers").glob("[!_]*.py")}
    assert receivers == set(described)
    for page in described.values():
        assert (ROOT / page).is_file()


def test_every_panel_kind_is_told_on_both_pages() -> None:
    kinds = set(COMPUTE)
    assert kinds == set(PanelKind.__args__)  # type: ignore[attr-defined]  # a Literal has them
    assert kinds <= set(rows("docs/dashboards.md"))
    assert kinds <= set(rows("docs/api.md"))


def test_every_field_of_a_panel_is_shown() -> None:
    page = text_of("docs/dashboards.md")
    assert [name for name in Panel.model_fields if not re.search(rf"\b{name}\b", page)] == []


def test_roles_and_kinds_of_annotations_are_told() -> None:
    assert {role.value for role in Role} <= set(rows("docs/operations.md"))
    api = text_of("docs/api.md")
    assert all(f"`{kind}`" in api for kind in KINDS)


def test_every_figure_of_the_service_is_told() -> None:
    registry = SelfMetrics("1").registry
    names = {
        sample.name
        for family in registry.collect()
        for sample in family.samples
        if sample.name.startswith("warroom_")
    }
    names |= {f"{family.name}" for family in registry.collect() if not family.samples}
    sources = [
        ROOT / "collector" / "pipeline.py",
        ROOT / "collector" / "source_metrics.py",
        ROOT / "collector" / "forward" / "metrics.py",
        *(ROOT / "warroom").glob("*.py"),
    ]
    for path in sources:
        names |= set(re.findall(r'"(warroom_[a-z_]+)"', path.read_text(encoding="utf-8")))
    told = set(re.findall(r"warroom_[a-z_]+[a-z](?![a-z_])", text_of("docs/operations.md")))
    plain = {GENERATED.sub("", name).removesuffix("_total") for name in names}
    assert plain == {name.removesuffix("_total") for name in told}


def test_every_business_series_and_figure_is_told() -> None:
    figures = {path: path.read_text("utf-8") for path in (ROOT / "business_metrics").glob("*.py")}
    kpis = {
        name
        for text in figures.values()
        for name in re.findall(r'(?:kpi=|^KPI = |^LIVE_KPI = )"(\w+)"', text, re.MULTILINE)
    }
    assert {"order_rate", "checkout_abandonment_live", "conversion"} <= kpis
    boards = text_of("docs/dashboards.md")
    assert [kpi for kpi in sorted(kpis) if f"`{kpi}`" not in boards] == []
    recorded = set(re.findall(r'\(\s*"(\w+)", (?:money|labels|\{\}),', text_of(RECORDING)))
    recorded |= set(recording._RATIOS.values())
    assert "revenue_at_risk" in recorded
    told = set(re.findall(r"`([a-z_]+)(?:\{[^}]*\})?`", text_of("docs/business.md")))
    assert recorded <= told
