"""The pollers, wired: secrets from the environment and from files, one job a system."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from collector.poll_config import parse_pollers
from collector.poll_runner import PollRunner, PollTarget
from warroom.config import Settings
from warroom.schedule import Schedule

SECTION = ("pollers",)


def poll_targets(settings: Settings) -> tuple[PollTarget, ...]:
    """Every configured poller with its secrets.

    Raises:
        ConfigError: A mistake in `pollers`, or a secret that cannot be read.
    """

    def read_secret(source: str, name: str) -> str:
        # What goes wrong here is told with file and line by whoever asked.
        if source == "file":
            return (Path(settings.config_name).parent / name).read_text(encoding="utf-8").strip()
        return settings.environment[name]

    return parse_pollers(settings.document, SECTION, read_secret=read_secret)


def check_pollers(settings: Settings) -> Sequence[PollTarget]:
    """Every configured poller, without its secrets: those belong to the machine that serves.

    Raises:
        ConfigError: A mistake in `pollers`.
    """
    return parse_pollers(settings.document, SECTION, read_secret=lambda _source, _name: "unread")


def schedule_pollers(
    pollers: PollRunner, targets: Sequence[PollTarget], schedule: Schedule
) -> None:
    """One job a system, spread over its interval so that systems are not asked all at once."""
    for target in targets:
        job = partial(pollers.poll, target)
        schedule.every(poll_job(target), target.interval_s, job, offset_s=target.offset_s)


def poll_job(target: PollTarget) -> str:
    """The name of a target's job in the schedule."""
    return f"poll/{target.key}"
