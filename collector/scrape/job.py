"""One job: its discoveries, and what relabelling makes of the targets they find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from collector.scrape.config import MAX_TARGETS, ScrapeConfig
from collector.scrape.discovery import FileWatch, HttpWatch, Watch
from collector.scrape.discovery_config import FileDiscovery, HttpDiscovery, TargetGroup
from collector.scrape.target import Target, targets_of
from store.errors import WarroomError

LOOK_S = 5.0


class Job:
    """A scrape configuration and the targets that it has now."""

    def __init__(self, config: ScrapeConfig, before: Sequence[Watch] = ()) -> None:
        """`before` are watches of the same job with another configuration.

        Equal ones go on; others start with what was found before, until they have found themselves.
        """
        self.config = config
        entries: tuple[FileDiscovery | HttpDiscovery, ...] = (*config.file_sd, *config.http_sd)
        changed = [watch for watch in before if watch.config not in entries]
        going_on = [watch for watch in before if watch.config in entries]
        self.watches: tuple[Watch, ...] = tuple(
            _watch(entry, going_on, changed) for entry in entries
        )
        self.dropped: list[Mapping[str, str]] = []
        self.errors: list[str] = []  # targets that cannot be, at the last `found`
        self.asked = False
        self._failing: dict[int, str] = {}

    @property
    def look_s(self) -> float:
        """How often something new may be heard of it."""
        return max([LOOK_S, *(entry.refresh_s for entry in self.config.http_sd)])

    @property
    def groups(self) -> tuple[TargetGroup, ...]:
        """Every group that is known now."""
        found = (group for watch in self.watches for group in watch.groups)
        return (*self.config.static, *found)

    async def refresh(self, now_ms: int) -> list[str]:
        """Ask whichever is due; what cannot be read is answered, and leaves what was found."""
        self.asked = False
        for place, watch in enumerate(self.watches):
            if not watch.due(now_ms):
                continue
            self.asked = True
            try:
                await watch.refresh(now_ms)
                self._failing.pop(place, None)
            except WarroomError as error:
                self._failing[place] = f"{watch.what}: {error}"
        return list(self._failing.values())

    def found(self) -> list[Target]:
        """The targets of every group, relabelled; those past the bound are left out."""
        targets, dropped, errors = targets_of(self.config, self.groups)
        if len(targets) > MAX_TARGETS:
            errors.append(f"{len(targets)} targets were found, {MAX_TARGETS} are scraped")
        self.dropped, self.errors = dropped, errors
        return targets[:MAX_TARGETS]

    async def aclose(self) -> None:
        """Close every connection of a discovery."""
        for watch in self.watches:
            await watch.aclose()


def _watch(
    entry: FileDiscovery | HttpDiscovery, going_on: Sequence[Watch], changed: Sequence[Watch]
) -> Watch:
    for watch in going_on:
        if watch.config == entry:
            return watch
    if isinstance(entry, FileDiscovery):
        return FileWatch(entry, [watch for watch in changed if isinstance(watch, FileWatch)])
    return HttpWatch(entry, [watch for watch in changed if isinstance(watch, HttpWatch)])
