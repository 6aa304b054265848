"""`warroom check`: every file is read and parsed as the service would, and nothing is started."""

from __future__ import annotations

from collections.abc import Callable

from alerts.rules import parse_rule_file
from collector.scrape.config import parse_scrape_configs
from slos.spec import parse_slo_files
from store.errors import ConfigError
from warroom.alerting_section import read_deadman
from warroom.boards import read_boards
from warroom.config import Options, Settings, load
from warroom.forwarding import read_remote_write
from warroom.paging import read_routing
from warroom.poll import check_pollers
from warroom.watch import business_settings, detector_settings, shipped_rules

Show = Callable[[str], None]


def check(options: Options, show: Show) -> int:
    """Print what is configured, or every mistake with its file and line.

    Returns:
        0 when all is well, 1 when there was a mistake.
    """
    try:
        settings = load(options)
    except ConfigError as exc:
        show(f"FAIL  {exc}")
        return 1
    mistakes = 0
    for part in (_scrapes, _remote_write, _pollers, _rules, _slos, _routing, _rooms, _boards):
        try:
            for line in part(settings):
                show(f"ok    {line}")
        except ConfigError as exc:
            mistakes += 1
            show(f"FAIL  {exc}")
    return 1 if mistakes else 0


def _scrapes(settings: Settings) -> list[str]:
    configs = parse_scrape_configs(settings.document, ("scrape_configs",))
    return [f"{settings.config_name}: {len(configs)} scrape configurations"]


def _pollers(settings: Settings) -> list[str]:
    return [
        f"poller {target.key}, every {target.interval_s:g} s" for target in check_pollers(settings)
    ]


def _remote_write(settings: Settings) -> list[str]:
    endpoints = read_remote_write(settings, secrets=False)
    return [f"remote_write: forwards to {endpoint.name}" for endpoint in endpoints]


def _rules(settings: Settings) -> list[str]:
    told = []
    for file in (shipped_rules(), *settings.rule_files):
        parsed = parse_rule_file(file.text, file.name)
        told.append(f"{file.name}: {sum(len(group.rules) for group in parsed.groups)} rules")
    return told


def _slos(settings: Settings) -> list[str]:
    slos = parse_slo_files({file.name: file.text for file in settings.slo_files})
    return [f"SLO {slo.service}/{slo.name}: {slo.objective:.3%}" for slo in slos]


def _routing(settings: Settings) -> list[str]:
    routing = read_routing(settings)
    deadman = read_deadman(settings)
    told = [f"routes to {', '.join(sorted(routing.receivers))}"]
    if deadman is not None:
        told.append(f"a dead-man's switch, every {deadman.interval_ms / 1000:g} s")
    return told


def _rooms(settings: Settings) -> list[str]:
    detectors, business = detector_settings(settings), business_settings(settings)
    off = ", ".join(sorted(detectors.disabled)) or "none"
    return [f"detectors: {off} switched off", f"business: {business.currency}"]


def _boards(settings: Settings) -> list[str]:
    return [f"boards: {', '.join(sorted(read_boards(settings)))}"]
