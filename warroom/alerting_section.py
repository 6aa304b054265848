"""What stands under `alerting:` beside Alertmanager's own fields: the dead-man's switch, storms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alerts.deadman import Deadman, parse_deadman
from alerts.fields import Fields
from alerts.route_tree import StormLimit
from warroom.config import OWN_ALERTING_KEYS, Settings


def read_secret(settings: Settings, source: str, name: str) -> str:
    """The secret in a file, or in a variable of the environment."""
    # What goes wrong here is told with file and line by whoever asked.
    if source == "file":
        return Path(name).read_text(encoding="utf-8").strip()
    return settings.environment[name]


def alertmanager_part(settings: Settings) -> dict[str, Any]:
    """The inline Alertmanager configuration; empty when there is none."""
    section = settings.file.alerting or {}
    return {key: value for key, value in section.items() if key not in OWN_ALERTING_KEYS}


def read_deadman(settings: Settings) -> Deadman | None:
    """`alerting.deadman`, if it is there.

    Raises:
        ConfigError: A mistake in it.
    """
    fields = _section(settings, "deadman")
    if fields is None:
        return None
    return parse_deadman(fields, lambda source, name: read_secret(settings, source, name))


def read_storm(settings: Settings) -> StormLimit:
    """`alerting.storm`, or the usual limit.

    Raises:
        ConfigError: A mistake in it.
    """
    fields = _section(settings, "storm")
    usual = StormLimit()
    if fields is None:
        return usual
    limit = StormLimit(
        max_pages=fields.integer("max_pages", usual.max_pages),
        window_ms=fields.duration_ms("window", usual.window_ms),
    )
    if limit.max_pages == 0 or limit.window_ms == 0:
        name = "window" if limit.max_pages else "max_pages"
        raise fields.error(name, f"{name} must be more than zero")
    fields.done()
    return limit


def _section(settings: Settings, name: str) -> Fields | None:
    if not settings.file.alerting or name not in settings.file.alerting:
        return None
    return Fields(settings.document, ("alerting",), "alerting").child(name, f"alerting.{name}")
