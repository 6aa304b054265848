"""The documented routes are the routes there are; each curl example is sent to a real service."""

import asyncio
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi.routing import APIRoute
from starlette.routing import Route
from typing_extensions import override

from api.app import Parts, create_app
from tests.docs.pages import Block, blocks, rows, text_of
from warroom.app import build
from warroom.cli import _parser
from warroom.config import Options, load

NOW_MS = 1_795_773_600_000  # 2026-11-27T10:00:00Z
PATH = re.compile(r"\b(GET|POST|PUT|DELETE) (/[\w/{}.-]*)")
METHODS = {"GET", "POST", "PUT", "DELETE"}
SHELL = blocks("sh")


@dataclass(frozen=True)
class Request:
    """What a curl command asks."""

    block: Block
    method: str
    url: str
    headers: dict[str, str]
    body: bytes

    @override
    def __str__(self) -> str:
        return f"{self.block} {self.method} {urlsplit(self.url).path}"


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    directory = tmp_path_factory.mktemp("service")
    file = directory / "warroom.yaml"
    file.write_text("store: {url: 'duckdb:memory'}\n", encoding="utf-8")
    options = Options(str(file), str(directory), otlp_http="off", otlp_grpc="off")
    with asyncio.Runner() as runner:
        service = build(load(options, {}), now=lambda: NOW_MS)
        yield service.web.parts
        runner.run(service.stop())


def existing(parts: Parts) -> set[tuple[str, str]]:
    routes = [*parts.first, *(route for router in parts.routers for route in router.routes)]
    return {
        (method, re.sub(r"\{(\w+)(:\w+)?\}", r"{\1}", route.path))
        for route in routes
        if isinstance(route, Route | APIRoute)
        for method in (route.methods or ())
        if method in METHODS
    }


def test_every_route_is_told(parts: Parts) -> None:
    told = {(method, path) for method, path in PATH.findall(text_of("docs/api.md"))}
    prefixes = ("/api/v1/", "/api/v1/admin/")
    # Prometheus's routes take forms as well; told once, for all of them.
    missing = {
        (method, path)
        for method, path in existing(parts) - told
        if not (path.startswith(prefixes) and {("GET", path), ("POST", path)} & told)
    }
    assert missing == set()


def test_every_told_route_exists(parts: Parts) -> None:
    pages = ("README.md", "docs/api.md", "docs/alerts.md", "docs/operations.md", "docs/promql.md",
             "docs/slos.md", "docs/detectors.md", "docs/sources/rum.md", "docs/sources/otlp.md",
             "docs/sources/business_events.md")  # fmt: skip
    known = existing(parts) | {("GET", "/api/openapi.json")}
    for page in pages:
        told = {(method, path.rstrip(".")) for method, path in PATH.findall(text_of(page))}
        assert told <= known, page


def test_pages_of_the_front_end_are_told(parts: Parts) -> None:
    served = {
        re.sub(r"\{(\w+)\}", r":\1", route.path)
        for route in parts.last
        if isinstance(route, Route) and "." not in route.path and "/assets" not in route.path
    }
    assert served == {path for path in rows("docs/dashboards.md") if path.startswith("/")}


def commands(block: Block) -> Iterator[list[str]]:
    """Each command's words; quoted text may span lines."""
    pending = ""
    for line in block.text.replace("\\\n", " ").splitlines():
        pending += line + "\n"
        try:
            words = shlex.split(pending, comments=True)
        except ValueError:
            continue
        pending = ""
        if words:
            yield words
    assert not pending, f"{block}: a quote is not closed"


def curls() -> list[Request]:
    return [
        _request(block, words[1:])
        for block in SHELL
        for words in commands(block)
        if words[0] == "curl"
    ]


def _request(block: Block, words: list[str]) -> Request:
    url, method, headers = "", "", {}
    body: list[bytes] = []
    rest = iter(words)
    for word in rest:
        if word == "-H":
            name, _, value = next(rest).partition(":")
            headers[name.strip()] = value.strip()
        elif word == "-d":
            body.append(next(rest).encode())
        elif word == "--data-urlencode":
            name, _, value = next(rest).partition("=")
            body.append(str(httpx.QueryParams({name: value})).encode())
        elif word == "-X":
            method = next(rest)
        elif word != "-N":
            assert not word.startswith("-"), f"{block}: teach this test the option {word}"
            url = word
    if body:
        headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
    return Request(block, method or ("POST" if body else "GET"), url, headers, b"&".join(body))


def warroom_commands() -> list[tuple[Block, list[str]]]:
    return [
        (block, words[1:]) for block in SHELL for words in commands(block) if words[0] == "warroom"
    ]


@pytest.mark.parametrize("request_", curls(), ids=str)
def test_a_curl_example_is_answered(request_: Request, parts: Parts) -> None:
    if "/ops/" in request_.url:
        assert request_.url.endswith("/ops/faults")  # the demo shop's own
        return
    target = urlsplit(request_.url)
    if target.path.endswith("/live"):
        assert ("GET", target.path) in existing(parts)  # it would never end
        return
    headers = {k: v for k, v in request_.headers.items() if v.isascii()}
    address = f"http://127.0.0.1:8600{target.path}" + (f"?{target.query}" if target.query else "")

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(parts))
        async with httpx.AsyncClient(transport=transport) as client:
            return await client.request(
                request_.method, address, content=request_.body, headers=headers
            )

    answer = asyncio.run(ask())
    assert answer.status_code < 300, answer.text
    if "rejected" in answer.text:
        assert answer.json()["rejected_count"] == 0


@pytest.mark.parametrize(("block", "words"), warroom_commands(), ids=str)
def test_a_command_example_is_one(block: Block, words: list[str]) -> None:
    assert _parser().parse_args(words).command == words[0]


def test_there_are_examples_of_both() -> None:
    assert len(curls()) > 8
    assert len(warroom_commands()) > 5
