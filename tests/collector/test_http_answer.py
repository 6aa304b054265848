"""What a server that is asked may send: bounded before it is unpacked; redirects by hand."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from collector.http_answer import MAX_REDIRECTS, answer_of, bounded_body
from collector.polling.contract import PollFailed
from collector.polling.http import JsonClient
from collector.scrape.config import parse_scrape_configs
from collector.scrape.scraper import Scraper
from store.documents import parse_document
from store.errors import BadInput, LimitExceeded

NOW_MS = 1_790_000_000_000
LIMIT = 100_000
BOMB = gzip.compress(bytes(50_000_000))


async def read(body: bytes, encoding: str, limit: int = LIMIT) -> bytes:
    """The body as the reader takes it from the wire, in pieces of one network read."""

    async def pieces() -> Any:
        for place in range(0, len(body), 65_536):
            yield body[place : place + 65_536]

    response = httpx.Response(200, headers={"content-encoding": encoding}, content=pieces())
    return await bounded_body(response, limit)


@given(st.lists(st.binary(max_size=400), max_size=4))
def test_a_body_of_any_number_of_gzip_members_is_read_whole(members: list[bytes]) -> None:
    packed = b"".join(map(gzip.compress, members))
    assert asyncio.run(read(packed, "gzip")) == b"".join(members)


@given(st.binary(max_size=400), st.sampled_from(["gzip", "x-gzip", "br", "gzip, gzip", ""]))
def test_any_bytes_are_read_or_refused(body: bytes, encoding: str) -> None:
    try:
        assert len(asyncio.run(read(body, encoding, 300))) <= 300
    except (BadInput, LimitExceeded):
        return


@pytest.mark.parametrize(
    ("body", "encoding", "says"),
    [
        (gzip.compress(gzip.compress(bytes(20), mtime=0), mtime=0), "gzip, gzip", "gzip, gzip"),
        (zlib.compress(b"[]"), "deflate", "not gzip"),
        (gzip.compress(b"[]", mtime=0)[:-4], "gzip", "cut short"),
        (b"no gzip at all", "gzip", "damaged"),
        (BOMB, "gzip", "larger than 100000 bytes"),
        (gzip.compress(b"") * 20_000, "gzip", "larger than 100000 bytes"),
        (b" " * (LIMIT + 1), "", "larger than 100000 bytes"),
    ],
)
def test_what_is_too_large_or_packed_otherwise_is_refused(
    body: bytes, encoding: str, says: str
) -> None:
    with pytest.raises((BadInput, LimitExceeded), match=says):
        asyncio.run(read(body, encoding))


def test_one_byte_less_than_too_large_is_taken() -> None:
    assert asyncio.run(read(gzip.compress(bytes(LIMIT)), "gzip")) == bytes(LIMIT)


class Servers:
    """Answers that are packed badly, and redirects; remembers the headers it saw."""

    def __init__(self) -> None:
        self.seen: list[Mapping[str, str]] = []
        self.target = ""
        self.body, self.encoding = b"", "gzip"

    async def answer(self, request: Request) -> Response:
        self.seen.append(request.headers)
        headers = {"content-encoding": self.encoding} if self.encoding else {}
        return Response(self.body, headers=headers, media_type="application/json")

    async def moved(self, _: Request) -> Response:
        moved = RedirectResponse(self.target)
        moved.body = bytes(1000)
        moved.headers["content-length"] = "1000"
        moved.headers["content-encoding"] = "gzip"
        return moved

    def routes(self) -> list[Route]:
        return [
            Route("/json", self.answer, methods=["GET", "POST"]),
            Route("/metrics", self.answer),
            Route("/moved", self.moved),
        ]


@pytest.fixture
def servers() -> Servers:
    return Servers()


@pytest.fixture
def url(servers: Servers, serve: Any) -> str:
    return str(serve(servers.routes()))


async def ask(url: str, *, follow_redirects: bool = True) -> int:
    async with (
        httpx.AsyncClient(trust_env=False) as client,
        answer_of(
            client,
            url,
            headers={"Authorization": "Bearer s3cret"},
            extensions={},
            follow_redirects=follow_redirects,
        ) as response,
    ):
        await bounded_body(response, LIMIT)
        return response.status_code


@pytest.mark.parametrize(("host", "kept"), [("127.0.0.1", True), ("localhost", False)])
def test_a_redirect_is_followed_unread_and_a_password_stays_with_its_origin(
    servers: Servers, url: str, host: str, kept: bool
) -> None:
    servers.target = url.replace("127.0.0.1", host) + "/json"
    servers.encoding = ""
    assert asyncio.run(ask(f"{url}/moved")) == 200
    (headers,) = servers.seen
    assert ("authorization" in headers) is kept


def test_a_redirect_that_is_not_followed_is_the_answer(servers: Servers, url: str) -> None:
    servers.target = "/json"
    with pytest.raises(BadInput, match="damaged"):
        asyncio.run(ask(f"{url}/moved", follow_redirects=False))
    assert servers.seen == []


def test_redirects_without_end_are_given_up(servers: Servers, url: str) -> None:
    servers.target = "/moved"
    with pytest.raises(httpx.TooManyRedirects, match=str(MAX_REDIRECTS)):
        asyncio.run(ask(f"{url}/moved"))


TWICE = gzip.compress(gzip.compress(bytes(50_000_000)))


@pytest.mark.parametrize(
    ("body", "encoding", "says"),
    [(BOMB, "gzip", "larger than"), (TWICE, "gzip, gzip", "Content-Encoding")],
)
def test_scrapes_discoveries_and_polls_refuse_bombs(
    servers: Servers,
    url: str,
    pipeline: Any,
    sources: Any,
    body: bytes,
    encoding: str,
    says: str,
) -> None:
    servers.body, servers.encoding = body, encoding
    address = url.removeprefix("http://")
    text = (
        "scrape_configs:\n  - job_name: shop\n    body_size_limit: 1MB\n"
        f"    static_configs: [{{targets: ['{address}']}}]\n"
        f"    http_sd_configs: [{{url: '{url}/json'}}]\n"
    )
    configs = parse_scrape_configs(parse_document(text, "warroom.yaml"), ("scrape_configs",), {})

    async def run() -> str:
        scraper = Scraper(configs, pipeline)
        await scraper.discover(NOW_MS)
        (target,) = scraper.targets()
        await scraper.scrape(target, NOW_MS)
        (status,) = scraper.targets_status()["activeTargets"]
        await scraper.aclose()
        client = JsonClient(url)
        with pytest.raises(PollFailed, match=says):
            await client.get("/json")
        await client.aclose()
        return str(status["lastError"])

    assert says in asyncio.run(run())
    told = {status.name: status.error for status in sources.list(NOW_MS)}
    assert says in told["discovery:shop"]
    assert {headers["accept-encoding"] for headers in servers.seen} == {"gzip"}


def test_a_packed_answer_is_read(servers: Servers, url: str) -> None:
    servers.body = gzip.compress(json.dumps({"a": 1}).encode())

    async def run() -> Any:
        client = JsonClient(url)
        try:
            return await client.get("/json")
        finally:
            await client.aclose()

    assert asyncio.run(run()) == {"a": 1}
