"""The pollers, wired: secrets from the environment and from files, one job a system."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from collector.pipeline import Pipeline
from collector.poll_config import parse_pollers
from collector.poll_runner import PollRunner, PollTarget
from store.ports import Appender
from warroom.config import Settings
from warroom.schedule import Schedule

SECTION = ("pollers",)


def build_pollers(settings: Settings, pipeline: Pipeline, appender: Appender) -> PollRunner:
    """The runner of every configured poller; nothing is asked yet.

    Raises:
        ConfigError: A mistake in `pollers`, or a secret that cannot be read.
    """
    return PollRunner(poll_targets(settings), pipeline, appender)


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


def schedule_pollers(pollers: PollRunner, schedule: Schedule) -> None:
    """One job a system, spread over its interval so that systems are not asked all at once."""
    for target in pollers.targets():
        job = partial(pollers.poll, target)
        schedule.every(f"poll/{target.key}", target.interval_s, job, offset_s=target.offset_s)
