"""A cloud's metadata is never asked, however its address is written or reached."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.routing import Route

from collector import never_asked
from collector.never_asked import is_never_asked
from collector.scrape.config import parse_scrape_configs
from collector.scrape.scraper import Scraper
from store.documents import parse_document

NOW_MS = 1_790_000_000_000


@pytest.mark.parametrize(
    "host",
    [
        *("169.254.169.254", "169.254.170.2", "2852039166", "0xA9FEA9FE", "0251.0376.0251.0376"),
        *("169.254.43518", "169.16689662", "[::ffff:169.254.169.254]", "::ffff:a9fe:a9fe"),
        *("64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "fe80::1%eth0", "fd00:ec2::254"),
        *("metadata.google.internal", "METADATA.google.internal.", "169.254.169.254."),
        "100.100.100.200",
    ],
)
def test_every_notation_of_such_an_address_is_known(host: str) -> None:
    assert is_never_asked(host)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "10.0.0.1",
        "::1",
        "2130706433",
        "shop.example",
        "169.253.1.1",
        "",
        "[",
        "0x",
        "é",
    ],
)
def test_others_are_not(host: str) -> None:
    assert not is_never_asked(host)


class Shop:
    """A page, and redirects to wherever a test says."""

    def __init__(self) -> None:
        self.location = ""

    async def metrics(self, _: Request) -> PlainTextResponse:
        return PlainTextResponse("a 1\n")

    async def moved(self, _: Request) -> RedirectResponse:
        return RedirectResponse(self.location)


def scraped(address: str, path: str, pipeline: Any) -> str:
    """The error of one scrape."""
    text = f"""
scrape_configs:
  - {{job_name: shop, metrics_path: {path}, static_configs: [{{targets: ['{address}']}}]}}
"""
    configs = parse_scrape_configs(parse_document(text, "warroom.yaml"), ("scrape_configs",))
    scraper = Scraper(configs, pipeline)

    async def run() -> None:
        for target in scraper.targets():
            await scraper.scrape(target, NOW_MS)
        await scraper.aclose()

    asyncio.run(run())
    (target,) = scraper.targets_status()["activeTargets"]
    return str(target["lastError"])


def test_a_target_or_a_redirect_there_is_refused_before_it_is_asked(
    serve: Any, pipeline: Any
) -> None:
    shop = Shop()
    routes = [Route("/metrics", shop.metrics), Route("/moved", shop.moved)]
    address = serve(routes).removeprefix("http://")
    assert scraped(address, "/metrics", pipeline) == ""
    assert "never asked" in scraped("2852039166:80", "/metrics", pipeline)
    for location in (
        "http://169.254.169.254/latest",
        "http://[::ffff:a9fe:a9fe]/",
        "//0xa9fea9fe/",
    ):
        shop.location = location
        assert "never asked" in scraped(address, "/moved", pipeline)


def test_a_name_that_leads_there_is_known_by_who_answers(
    serve: Any, pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = serve([Route("/metrics", Shop().metrics)]).removeprefix("http://")
    port = address.rpartition(":")[2]
    # No test can listen on a link-local address: loopback stands for one, but not by its name.
    monkeypatch.setattr(never_asked, "is_never_asked", lambda host: host in ("127.0.0.1", "::1"))
    assert "127.0.0.1 is never asked" in scraped(f"localhost:{port}", "/metrics", pipeline)


def test_an_answer_that_tells_no_peer_passes() -> None:
    never_asked.check_answering(httpx.Response(200))
