"""Target groups found at run time: files that are watched, HTTP servers that are asked.

What cannot be read leaves the groups found before, as in Prometheus: a discovery that fails must
not take every target away.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from pathlib import Path

import httpx
import yaml

from collector.http_answer import ACCEPTED_ENCODING, answer_of, bounded_body
from collector.scrape.discovery_config import (
    FileDiscovery,
    HttpDiscovery,
    TargetGroup,
    groups_of,
)
from store.errors import BadInput, WarroomError

MAX_FILES = 1_000
MAX_BYTES = 10 * 1024 * 1024
TIMEOUT_S = 30.0
_JSON = re.compile(r"^(?i:application/json(;\s*charset=(\"utf-8\"|utf-8))?)$")


class FileWatch:
    """One `file_sd_configs` entry. A changed file is read at the next look, not at the refresh."""

    def __init__(self, config: FileDiscovery, before: Sequence[FileWatch] = ()) -> None:
        """`before` are those that it is instead of: what they read is not forgotten."""
        self.config = config
        self.read: dict[Path, tuple[tuple[int, int, int], tuple[TargetGroup, ...]]] = {}
        for watch in before:
            self.read.update(watch.read)
        self.groups: tuple[TargetGroup, ...] = ()

    @property
    def what(self) -> str:
        return ", ".join(str(pattern) for pattern in self.config.patterns)

    def due(self, now_ms: int) -> bool:
        """Looking is cheap: always."""
        del now_ms
        return True

    async def refresh(self, now_ms: int) -> None:
        """Look for changes.

        Raises:
            WarroomError: A file cannot be read; the others are up to date.
        """
        del now_ms
        await asyncio.to_thread(self._refresh)

    async def aclose(self) -> None:
        """Nothing is held open."""

    def _refresh(self) -> None:
        problems: list[str] = []
        names = _matching(self.config.patterns)
        for gone in set(self.read) - set(names):
            del self.read[gone]
        for name in names:
            try:
                stat = name.stat()
                # The inode, too: files are replaced by others of the same size and second.
                version = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
                if name not in self.read or self.read[name][0] != version:
                    self.read[name] = (version, _file_groups(name))
            except (OSError, ValueError) as error:
                problems.append(f"{name}: {error}"[:300])
        self.groups = tuple(group for _, groups in self.read.values() for group in groups)
        if problems:
            raise BadInput("; ".join(problems[:3]), hint="write a list of targets and labels")


class HttpWatch:
    """One `http_sd_configs` entry."""

    def __init__(self, config: HttpDiscovery, before: Sequence[HttpWatch] = ()) -> None:
        """`before` are those that it is instead of: what they found stays until it has found."""
        self.config = config
        self._client: httpx.AsyncClient | None = None
        self._asked_ms: int | None = None
        same = [watch for watch in before if watch.config.url == config.url]
        self.groups: tuple[TargetGroup, ...] = tuple(
            group for watch in same or before for group in watch.groups
        )

    @property
    def what(self) -> str:
        """The host only: a path or a query may hold a secret."""
        return httpx.URL(self.config.url).host

    def due(self, now_ms: int) -> bool:
        """Whether the refresh interval is over."""
        return self._asked_ms is None or now_ms - self._asked_ms >= self.config.refresh_s * 1000

    async def refresh(self, now_ms: int) -> None:
        """Ask.

        Raises:
            WarroomError: No answer in time, another status than 200, or no list of groups.
        """
        self._asked_ms = now_ms
        try:
            async with asyncio.timeout(TIMEOUT_S):
                body = await self._get()
        except TimeoutError as error:
            raise WarroomError(f"no answer within {TIMEOUT_S:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise WarroomError(f"no answer: {type(error).__name__}") from error
        try:
            groups = groups_of(json.loads(body), self.what)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"the answer is no list of targets: {error}"[:300]) from error
        self.groups = tuple(
            TargetGroup(group.addresses, {**group.labels, "__meta_url": self.config.url})
            for group in groups
        )

    async def aclose(self) -> None:
        """Close the connections; asking opens them again."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _get(self) -> bytes:
        config = self.config
        if self._client is None:
            self._client = config.http.client()
        headers = {
            **config.http.request_headers(),
            "Accept": "application/json",
            "Accept-Encoding": ACCEPTED_ENCODING,
            "User-Agent": "Warroom",
            "X-Prometheus-Refresh-Interval-Seconds": f"{config.refresh_s:g}",
        }
        async with answer_of(
            self._client,
            config.url,
            headers=headers,
            extensions=config.http.extensions(),
            follow_redirects=config.follow_redirects,
        ) as response:
            if response.status_code != httpx.codes.OK:
                raise BadInput(f"the server answered HTTP status {response.status_code}")
            if not _JSON.match(response.headers.get("content-type", "").strip()):
                raise BadInput("the answer is not application/json")
            return await bounded_body(response, MAX_BYTES)


Watch = FileWatch | HttpWatch


def _matching(patterns: Sequence[Path]) -> list[Path]:
    found: dict[Path, None] = {}
    for pattern in patterns:
        # A name without a sign matches itself; a file that is not there is no target yet.
        found.update(dict.fromkeys(sorted(pattern.parent.glob(pattern.name))))
    return list(found)[:MAX_FILES]


def _file_groups(name: Path) -> tuple[TargetGroup, ...]:
    with name.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES} bytes")
    try:
        data = json.loads(raw) if name.suffix == ".json" else yaml.safe_load(raw)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"not valid: {str(error).splitlines()[0]}") from error
    groups = groups_of([] if data is None else data, str(name))
    return tuple(
        TargetGroup(group.addresses, {**group.labels, "__meta_filepath": str(name)})
        for group in groups
    )
