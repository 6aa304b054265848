"""Scrape jobs change while the service runs: what did not change never notices."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from collector.scrape.config import ScrapeConfig, parse_scrape_configs
from collector.scrape.scraper import Change, Scraper
from store.documents import parse_document
from store.model import STALE_NAN_BITS

NOW_MS = 1_790_000_000_000
RELABELLED = "metric_relabel_configs: [{source_labels: [__name__], regex: b, action: drop}]"


class Shop:
    """Two series, and the credentials of the last request."""

    def __init__(self) -> None:
        self.authorization = ""

    async def metrics(self, request: Request) -> PlainTextResponse:
        self.authorization = request.headers.get("authorization", "")
        return PlainTextResponse("a 1\nb 2\n")


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def address(shop: Shop, serve: Any) -> str:
    return str(serve([Route("/metrics", shop.metrics)])).removeprefix("http://")


def configs(*jobs: str, directory: Path | None = None) -> tuple[ScrapeConfig, ...]:
    lines = "".join(f"  - {{{job}}}\n" for job in jobs)
    file = str(directory / "warroom.yaml") if directory else "warroom.yaml"
    return parse_scrape_configs(
        parse_document(f"scrape_configs:\n{lines}", file), ("scrape_configs",), {}
    )


def job(name: str, address: str, more: str = "") -> str:
    return f"job_name: {name}, static_configs: [{{targets: ['{address}']}}]" + (
        f", {more}" if more else ""
    )


def play(scraper: Scraper, *steps: Callable[[], Awaitable[Change]]) -> list[Change]:
    """Scrape everything, then one step after the other, each followed by a scrape."""

    async def scrape(now_ms: int) -> None:
        for target in scraper.targets():
            await scraper.scrape(target, now_ms)

    async def run() -> list[Change]:
        changes = []
        await scrape(NOW_MS)
        for number, step in enumerate(steps, 1):
            changes.append(await step())
            await scrape(NOW_MS + number * 1_000)
        await scraper.aclose()
        return changes

    return asyncio.run(run())


def told(appender: Any, name: str, job: str) -> list[float | str]:
    """The values of a series, a staleness marker as `stale`."""
    return [
        "stale" if int(np.array([value]).view(np.uint64)[0]) == STALE_NAN_BITS else float(value)
        for series, rows in appender.samples().items()
        if series.metric == name and series.get("job") == job
        for _, value in rows
    ]


def names(change: tuple[Any, ...]) -> list[str]:
    return sorted(target.labels["job"] for target in change)


def test_jobs_come_and_go_and_one_that_did_not_change_goes_on(
    address: str, pipeline: Any, appender: Any, sources: Any
) -> None:
    scraper = Scraper(configs(job("stays", address, RELABELLED), job("goes", address)), pipeline)
    (stays, _) = scraper.targets()
    wanted = configs(job("stays", address, RELABELLED), job("comes", address))
    (change,) = play(scraper, lambda: scraper.reconfigure(wanted, NOW_MS + 500))
    assert (names(change.added), names(change.gone)) == (["comes"], ["goes"])
    assert stays in scraper.targets()
    assert told(appender, "a", "stays") == [1.0, 1.0]
    assert told(appender, "a", "goes") == told(appender, "up", "goes") == [1.0, "stale"]
    assert told(appender, "a", "comes") == [1.0]
    shown = [status.name for status in sources.list(NOW_MS + 1_000)]
    assert shown == [f"scrape:comes/{address}", f"scrape:stays/{address}"]
    assert [t["labels"]["job"] for t in scraper.targets_status()["activeTargets"]] == [
        "stays",
        "comes",
    ]


@pytest.mark.parametrize("more", [RELABELLED, f"scrape_interval: 2s, {RELABELLED}"])
def test_a_changed_job_loses_no_series_but_those_that_it_drops_now(
    more: str, address: str, pipeline: Any, appender: Any
) -> None:
    scraper = Scraper(configs(job("shop", address)), pipeline)
    wanted = configs(job("shop", address, more))
    (change,) = play(scraper, lambda: scraper.reconfigure(wanted, NOW_MS + 500))
    assert names(change.added) == ["shop"]
    assert told(appender, "a", "shop") == told(appender, "up", "shop") == [1.0, 1.0]
    assert told(appender, "b", "shop") == [2.0, "stale"]
    assert scraper.targets() == change.added


def test_new_credentials_are_used_from_the_next_scrape_on(
    shop: Shop, address: str, pipeline: Any
) -> None:
    first, second = (
        configs(job("shop", address, f"authorization: {{credentials: {word}}}"))
        for word in ("old", "new")
    )
    scraper = Scraper(first, pipeline)
    play(scraper, lambda: scraper.reconfigure(second, NOW_MS + 500))
    assert shop.authorization == "Bearer new"


def test_what_a_job_found_stays_found_when_the_rest_of_it_changes(
    address: str, pipeline: Any, appender: Any, tmp_path: Path
) -> None:
    (tmp_path / "t.json").write_text(f'[{{"targets": ["{address}"]}}]')
    found = "job_name: shop, file_sd_configs: [{files: [t.json]}]"
    scraper = Scraper(configs(found, directory=tmp_path), pipeline)
    wanted = configs(f"{found}, honor_labels: true", directory=tmp_path)
    play(
        scraper,
        lambda: scraper.discover(NOW_MS),
        lambda: scraper.reconfigure(wanted, NOW_MS + 1_500),
        lambda: scraper.discover(NOW_MS + 2_500),
        lambda: scraper.reconfigure((), NOW_MS + 3_500),
    )
    assert told(appender, "a", "shop") == [1.0, 1.0, 1.0, "stale"]
    assert not scraper.discovers
    assert scraper.targets() == ()


def test_a_discovery_that_is_new_is_asked_at_once(
    address: str, pipeline: Any, tmp_path: Path
) -> None:
    (tmp_path / "t.json").write_text(f'[{{"targets": ["{address}"]}}]')
    scraper = Scraper((), pipeline)
    wanted = configs("job_name: shop, file_sd_configs: [{files: [t.json]}]", directory=tmp_path)
    (change,) = play(scraper, lambda: scraper.reconfigure(wanted, NOW_MS + 500))
    assert names(change.added) == ["shop"]
    assert scraper.discovers
