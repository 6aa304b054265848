"""The mounted pages over real HTTP: known paths only, strict headers, cached and packed assets."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from dashboards.mount import PAGE_PATHS
from tests.dashboards.fixture import ScriptedServer

SCRIPT = "console.log('hello');" * 50


@pytest.fixture
def built(tmp_path: Path) -> Path:
    assets = tmp_path / "assets"
    assets.mkdir()
    (tmp_path / "index.html").write_text(
        '<meta property="csp-nonce" nonce="__CSP_NONCE__"><script nonce="__CSP_NONCE__"></script>'
    )
    (tmp_path / "favicon.svg").write_text("<svg/>")
    (assets / "index-abc.js").write_text(SCRIPT)
    (assets / "index-abc.js.gz").write_bytes(gzip.compress(SCRIPT.encode()))
    (assets / "plain-abc.css").write_text("a{}")
    (tmp_path / ".stamp").write_text("secret")
    return tmp_path


def _client(static_dir: Path) -> Iterator[httpx.Client]:
    server = ScriptedServer(static_dir=static_dir)
    server.start()
    with httpx.Client(base_url=server.url) as client:
        yield client
    server.stop()


@pytest.fixture
def client(built: Path) -> Iterator[httpx.Client]:
    yield from _client(built)


@pytest.fixture
def unbuilt_client(tmp_path: Path) -> Iterator[httpx.Client]:
    yield from _client(tmp_path / "nothing")


@pytest.mark.parametrize("path", [p.replace("{", "").replace("}", "") for p in PAGE_PATHS])
def test_a_known_path_answers_the_page(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/alerts/a/b",
        "/traces/a/b",
        "/assets/nope.js",
        "/assets/..%2f.stamp",
        "/assets/index-abc.js.gz",
        "/.stamp",
        "/index.html",
        "/alertmanager/api/v2/status",
    ],
)
def test_any_other_path_is_404_and_never_the_page(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "<script" not in answer.text


def test_an_unknown_asset_says_so_in_plain_text(client: httpx.Client) -> None:
    answer = client.get("/assets/nope.js")
    assert answer.text == "404 page not found\n"
    assert answer.headers["content-type"].startswith("text/plain")


def test_every_answer_has_its_own_nonce_and_the_policy_names_it(client: httpx.Client) -> None:
    nonces = set()
    for _ in range(2):
        answer = client.get("/")
        policy = answer.headers["content-security-policy"]
        found = re.search(r"'nonce-([^']+)'", policy)
        assert found
        assert f'nonce="{found[1]}"' in answer.text
        assert "__CSP_NONCE__" not in answer.text
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        nonces.add(found[1])
    assert len(nonces) == 2


def test_assets_are_packed_for_those_who_take_it_and_kept_for_good(client: httpx.Client) -> None:
    packed = client.get("/assets/index-abc.js", headers={"accept-encoding": "br, gzip"})
    plain = client.get("/assets/index-abc.js", headers={"accept-encoding": "gzip;q=0"})
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < len(SCRIPT)
    assert "content-encoding" not in plain.headers
    assert packed.text == plain.text == SCRIPT
    for answer in (packed, plain):
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["vary"] == "Accept-Encoding"
        assert "javascript" in answer.headers["content-type"]
    assert client.get("/assets/plain-abc.css").headers["content-type"].startswith("text/css")


def test_the_icon_may_change_with_a_new_version(client: httpx.Client) -> None:
    answer = client.get("/favicon.svg")
    assert answer.headers["content-type"].startswith("image/svg+xml")
    assert "immutable" not in answer.headers["cache-control"]


def test_without_a_build_the_pages_say_what_to_run(unbuilt_client: httpx.Client) -> None:
    answer = unbuilt_client.get("/findings")
    assert answer.status_code == 503
    assert "make install" in answer.text
    assert unbuilt_client.get("/assets/x.js").status_code == 404


def test_a_page_takes_no_post(client: httpx.Client) -> None:
    assert client.post("/").status_code == 405
