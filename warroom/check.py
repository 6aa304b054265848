"""`warroom check`: every file is read and parsed as the service would, and nothing is started."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import PurePath
from zoneinfo import ZoneInfo

from alerts.on_call.model import OnCall
from alerts.on_call.who import DAY_MS, shifts
from alerts.rules import parse_rule_file
from collector.scrape.config import parse_scrape_configs
from slos.spec import parse_slo_files
from store.errors import ConfigError
from warroom.alerting_section import read_deadman
from warroom.boards import read_boards
from warroom.clock import Clock, system_now_ms
from warroom.config import Options, Settings, TextFile, load
from warroom.forwarding import read_remote_write
from warroom.paging import read_routing
from warroom.poll import check_pollers
from warroom.reach import unreached
from warroom.watch import business_settings, detector_settings, rule_texts

Show = Callable[[str], None]
Part = Callable[[Settings], list[str]]
_GAPS_AHEAD_MS = 28 * DAY_MS


def check(options: Options, show: Show, *, reach: bool = False, now: Clock = system_now_ms) -> int:
    """Print what is configured, or every mistake with its file and line.

    Told too, but no mistake: when nobody will be on call, and with `reach` a receiver whose address
    does not answer, as the network may be another one here.

    Returns:
        0 when all is well, 1 when there was a mistake.
    """
    try:
        settings = load(options)
    except ConfigError as exc:
        show(f"FAIL  {exc}")
        return 1
    mistakes = 0
    rules = [partial(_rules, file=file) for file in rule_texts(settings)]
    parts: list[Part] = [_scrapes, _remote_write, _pollers, *rules]
    for part in (*parts, _slos, _routing, _rooms, _boards):
        try:
            for line in part(settings):
                show(f"ok    {line}")
        except ConfigError as exc:
            mistakes += 1
            show(f"FAIL  {exc}")
    for line in _globs(settings):
        show(f"WARN  {line}")
    if not mistakes:
        for gap in _gaps(read_routing(settings).on_call, now()):
            show(f"WARN  {gap}")
    if reach and not mistakes:
        for found in unreached(settings, read_routing(settings)):
            show(f"WARN  {found}")
    return 1 if mistakes else 0


def _globs(settings: Settings) -> list[str]:
    """Patterns that match nothing, and files that are empty: allowed, and rarely meant."""
    files = (*settings.rule_files, *settings.slo_files)
    told = [f"{file.name}:1: the file is empty" for file in files if not file.text.strip()]
    for key, found in (("rule_files", settings.rule_files), ("slo_files", settings.slo_files)):
        for index, pattern in enumerate(getattr(settings.file, key)):
            if not any(PurePath(file.name).match(pattern) for file in found):
                line = settings.document.line_of((key, index))
                told.append(f"{settings.config_name}:{line}: {pattern} matches no file")
    return told


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


def _rules(_settings: Settings, *, file: TextFile) -> list[str]:
    parsed = parse_rule_file(file.text, file.name)
    return [f"{file.name}: {sum(len(group.rules) for group in parsed.groups)} rules"]


def _slos(settings: Settings) -> list[str]:
    written = parse_slo_files({file.name: file.text for file in settings.slo_files})
    told = []
    for slo in written.slos:
        told.append(f"SLO {slo.service}/{slo.name}: {slo.objective:.3%}")
        told += [f"SLO {slo.service}/{slo.name}: refused: {tier}" for tier in slo.refused_tiers]
    return [*told, *(f"error-budget policy {policy.name}" for policy in written.policies)]


def _routing(settings: Settings) -> list[str]:
    routing = read_routing(settings)
    deadman = read_deadman(settings)
    told = [f"routes to {', '.join(sorted(routing.receivers))}"]
    if deadman is not None:
        told.append(f"a dead-man's switch, every {deadman.interval_ms / 1000:g} s")
    return told


def _gaps(on_call: OnCall, now_ms: int) -> list[str]:
    """Schedules of policies that name nobody at some time in the next weeks."""
    asked = {
        name
        for policy in on_call.policies.values()
        for one in policy.steps
        for name in one.schedules
    }
    told = []
    for name in sorted(asked):
        schedule = on_call.schedules[name]
        found = shifts(schedule, now_ms, now_ms + _GAPS_AHEAD_MS)
        gaps = [shift for shift in found if not shift.duty.user]
        if gaps:
            zone = ZoneInfo(schedule.time_zone)
            start, end = (
                f"{datetime.fromtimestamp(at_ms / 1000, zone):%Y-%m-%d %H:%M}"
                for at_ms in (gaps[0].start_ms, gaps[0].end_ms)
            )
            more = f", and {len(gaps) - 1} more gaps" if len(gaps) > 1 else ""
            told.append(
                f"on_call: nobody of the schedule {name} is on call from {start} to {end} "
                f"({schedule.time_zone}){more} in the next {_GAPS_AHEAD_MS // DAY_MS} days; "
                "add a rotation without restrictions below the others, or an override"
            )
    return told


def _rooms(settings: Settings) -> list[str]:
    detectors, business = detector_settings(settings), business_settings(settings)
    off = ", ".join(sorted(detectors.disabled)) or "none"
    return [f"detectors: {off} switched off", f"business: {business.currency}"]


def _boards(settings: Settings) -> list[str]:
    return [f"boards: {', '.join(sorted(read_boards(settings)))}"]
