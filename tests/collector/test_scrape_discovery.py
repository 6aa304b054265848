"""Targets from files and from an HTTP server: found, changed, gone, and what cannot be read."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from typing_extensions import override

from collector.scrape.config import ScrapeConfig, parse_scrape_configs
from collector.scrape.discovery_config import groups_of
from collector.scrape.scraper import Change, Scraper
from collector.source_health import SourceState
from store.documents import parse_document
from store.errors import ConfigError
from store.model import STALE_NAN_BITS, Labels

NOW_MS = 1_790_000_000_000
STEP_MS = 5_000


class Server:
    """A metrics page, and the list of targets that it answers with."""

    def __init__(self) -> None:
        self.found: Any = []
        self.status = 200
        self.content_type = "application/json; charset=utf-8"
        self.raw: str | None = None
        self.request: Request | None = None
        self.asked = 0

    async def metrics(self, _: Request) -> Response:
        return Response("hits 5\n", headers={"content-type": "text/plain"})

    async def targets(self, request: Request) -> Response:
        self.request = request
        self.asked += 1
        body = json.dumps(self.found) if self.raw is None else self.raw
        return Response(body, self.status, {"content-type": self.content_type})


@pytest.fixture
def finder() -> Server:
    return Server()


@pytest.fixture
def address(finder: Server, serve: Any) -> str:
    routes = [Route("/metrics", finder.metrics), Route("/sd", finder.targets)]
    return str(serve(routes)).removeprefix("http://")


def jobs(text: str, directory: Path | None = None) -> tuple[ScrapeConfig, ...]:
    file = str(directory / "warroom.yaml") if directory else "warroom.yaml"
    head = "scrape_configs:\n  - job_name: shop\n    scrape_interval: 2s\n"
    return parse_scrape_configs(parse_document(head + text, file), ("scrape_configs",), {})


def play(scraper: Scraper, *looks: Any, now_ms: int = NOW_MS) -> list[Change]:
    """Look and scrape, five seconds apart; a callable among the looks runs before the next."""

    async def run() -> list[Change]:
        changes = []
        for number, look in enumerate(looks):
            at_ms = now_ms + number * STEP_MS
            look()
            changes.append(await scraper.discover(at_ms))
            for target in scraper.targets():
                await scraper.scrape(target, at_ms + 1_000)
        await scraper.aclose()
        return changes

    return asyncio.run(run())


def nothing() -> None:
    """Nothing changes."""


def instances(change: tuple[Any, ...]) -> list[str]:
    return sorted(target.labels["instance"] for target in change)


def is_stale(value: float) -> bool:
    return int(np.array([value]).view(np.uint64)[0]) == STALE_NAN_BITS


def test_files_are_found_changed_and_removed(
    address: str, pipeline: Any, appender: Any, sources: Any, tmp_path: Path
) -> None:
    configs = jobs("    file_sd_configs: [{files: ['t/*.json', 't/*.yml']}]\n", tmp_path)
    directory = tmp_path / "t"
    directory.mkdir()
    first, second = directory / "a.json", directory / "b.yml"
    other = f"localhost:{address.partition(':')[2]}"

    def begin() -> None:
        first.write_text(json.dumps([{"targets": [address], "labels": {"zone": "a"}}]))

    def add() -> None:
        second.write_text(f"- targets: ['{other}']\n  labels: {{zone: b}}\n")

    scraper = Scraper(configs, pipeline)
    assert scraper.discovers
    assert scraper.targets() == ()
    changes = play(scraper, nothing, begin, add, first.unlink, nothing)
    assert [(instances(c.added), instances(c.gone)) for c in changes] == [
        ([], []),
        ([address], []),
        ([other], []),
        ([], [address]),
        ([], []),
    ]
    labels = {"job": "shop", "instance": address, "zone": "a"}
    for name in ("hits", "up", "scrape_duration_seconds"):
        rows = appender.samples()[Labels.of(labels, __name__=name)]
        assert [is_stale(value) for _, value in rows] == [False, False, True]
        # Never before the last sample, however late the look was.
        assert rows == sorted(rows)
    names = {status.name: status.state for status in sources.list(NOW_MS)}
    assert names == {"discovery:shop": SourceState.OK, f"scrape:shop/{other}": SourceState.OK}
    (active,) = scraper.targets_status()["activeTargets"]
    assert active["discoveredLabels"]["__meta_filepath"] == str(second)
    assert "__meta_filepath" not in active["labels"]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.json", "[{", "Expecting"),
        ("a.json", "{}", "a list of target groups"),
        ("a.json", "[" * 100_000, "not valid"),
        ("a.yml", "- targets: [a:1\n", "not valid"),
        ("a.yml", "- {target: [a:1]}\n", "targets and labels"),
        ("a.yml", "- {targets: [1]}\n", "list of texts"),
        ("a.yml", "- {targets: [a:1], labels: {a: 1}}\n", "mapping of texts"),
        ("a.yml", "- {targets: ['http://a:1/m']}\n", "host:port only"),
    ],
)
def test_a_file_that_cannot_be_read_keeps_what_was_found_and_is_told(
    pipeline: Any, sources: Any, tmp_path: Path, name: str, text: str, says: str
) -> None:
    configs = jobs(f"    file_sd_configs: [{{files: [{name}]}}]\n", tmp_path)
    file = tmp_path / name
    file.write_text('[{"targets": ["127.0.0.1:1"]}]')
    scraper = Scraper(configs, pipeline)
    play(scraper, nothing, lambda: file.write_text(text))
    assert instances(scraper.targets()) == ["127.0.0.1:1"]
    told = {status.name: status for status in sources.list(NOW_MS + STEP_MS)}
    assert told["discovery:shop"].state is SourceState.ERROR
    assert says in told["discovery:shop"].error
    assert name in told["discovery:shop"].error


def test_a_server_is_asked_at_its_interval_with_credentials(
    address: str, finder: Server, pipeline: Any
) -> None:
    text = (
        f"    http_sd_configs:\n      - url: http://{address}/sd?zone=a\n"
        "        refresh_interval: 10s\n"
        "        basic_auth: {username: a, password: b}\n"
    )
    finder.found = [{"targets": [address], "labels": {"zone": "a", "__scheme__": "http"}}]
    scraper = Scraper(jobs(text), pipeline)
    play(scraper, nothing, nothing, nothing)
    assert finder.asked == 2
    assert finder.request is not None
    assert finder.request.headers["authorization"] == "Basic YTpi"
    assert finder.request.headers["x-prometheus-refresh-interval-seconds"] == "10"
    (active,) = scraper.targets_status()["activeTargets"]
    assert active["health"] == "up"
    assert active["discoveredLabels"]["__meta_url"] == f"http://{address}/<secret>"


@pytest.mark.parametrize(
    ("status", "content_type", "raw", "says"),
    [
        (500, "application/json", None, "HTTP status 500"),
        (200, "text/html", None, "not application/json"),
        (200, "application/json", "[{", "no list of targets"),
        (200, "application/json", '{"targets": []}', "a list of target groups"),
        (200, "application/json", "[]" + " " * (10 << 20), "larger than"),
    ],
)
def test_a_server_that_fails_keeps_what_was_found_and_is_told(
    address: str,
    finder: Server,
    pipeline: Any,
    sources: Any,
    status: int,
    content_type: str,
    raw: str | None,
    says: str,
) -> None:
    def fail() -> None:
        finder.status, finder.content_type, finder.raw = status, content_type, raw

    def mend() -> None:
        finder.status, finder.content_type, finder.raw = 200, "application/json", None

    finder.found = [{"targets": [address]}]
    text = f"    http_sd_configs: [{{url: 'http://{address}/sd', refresh_interval: 5s}}]\n"
    scraper = Scraper(jobs(text), pipeline)
    play(scraper, nothing, fail)
    assert instances(scraper.targets()) == [address]
    told = {s.name: s for s in sources.list(NOW_MS + STEP_MS)}["discovery:shop"]
    assert (told.state, says in told.error) == (SourceState.ERROR, True)
    play(scraper, mend, now_ms=NOW_MS + 3 * STEP_MS)
    told = {s.name: s for s in sources.list(NOW_MS + STEP_MS)}["discovery:shop"]
    assert told.state is SourceState.OK


def test_a_server_that_is_away_is_told_without_its_address(pipeline: Any, sources: Any) -> None:
    text = "    http_sd_configs: [{url: 'http://127.0.0.1:1/sd?token=s3cret'}]\n"
    play(Scraper(jobs(text), pipeline), nothing)
    (told,) = sources.list(NOW_MS)
    assert "ConnectError" in told.error
    assert "s3cret" not in told.error + told.remedy


def test_an_answer_that_is_no_list_of_groups_is_told_without_the_address(
    address: str, finder: Server, pipeline: Any, sources: Any
) -> None:
    finder.found = [{"target": []}]
    text = f"    http_sd_configs: [{{url: 'http://{address}/sd?token=s3cret'}}]\n"
    play(Scraper(jobs(text), pipeline), nothing)
    (told,) = sources.list(NOW_MS)
    assert "127.0.0.1:0: a mapping of targets and labels" in told.error
    assert "s3cret" not in told.error + told.remedy


def test_more_targets_than_allowed_fail_as_a_whole_and_thousands_are_bounded(
    address: str, finder: Server, pipeline: Any, appender: Any, sources: Any
) -> None:
    text = f"    http_sd_configs: [{{url: 'http://{address}/sd', refresh_interval: 1s}}]\n"
    finder.found = [{"targets": [address, address.replace("127.0.0.1", "localhost")]}]
    scraper = Scraper(jobs(text + "    target_limit: 1\n"), pipeline)
    play(scraper, nothing)
    errors = {t["lastError"] for t in scraper.targets_status()["activeTargets"]}
    assert errors == {"the job has 2 targets, target_limit is 1"}

    finder.found = [{"targets": [f"127.0.0.1:{port}" for port in range(1, 1_102)]}]
    scraper = Scraper(jobs(text), pipeline)

    async def look() -> None:
        await scraper.discover(NOW_MS)
        await scraper.aclose()

    asyncio.run(look())
    assert len(scraper.targets()) == 1_000
    told = {s.name: s for s in sources.list(NOW_MS)}["discovery:shop"]
    assert "1101 targets were found" in told.error


def test_a_discovered_target_that_cannot_be_is_left_out_and_told(
    address: str, finder: Server, pipeline: Any, sources: Any
) -> None:
    finder.found = [
        {"targets": [address]},
        {"targets": ["a:1"], "labels": {"__scrape_timeout__": "1h"}},
        {"targets": ["b:1"], "labels": {"__scrape_interval__": "often"}},
        {"targets": ["c:1"], "labels": {"drop": "yes"}},
    ]
    text = (
        f"    http_sd_configs: [{{url: 'http://{address}/sd'}}]\n"
        "    relabel_configs: [{source_labels: [drop], regex: 'yes', action: drop}]\n"
    )
    scraper = Scraper(jobs(text), pipeline)
    play(scraper, nothing)
    assert instances(scraper.targets()) == [address]
    status = scraper.targets_status()
    assert [t["discoveredLabels"]["__address__"] for t in status["droppedTargets"]] == ["c:1"]
    assert status["droppedTargetCounts"] == {"shop": 1}
    told = {s.name: s for s in sources.list(NOW_MS)}["discovery:shop"]
    assert "a:1: " in told.error
    assert "b:1: " in told.error


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("    file_sd_configs: [{}]\n", 4, "need files"),
        ("    file_sd_configs: [{files: [a.txt]}]\n", 4, ".json, .yml or .yaml"),
        ("    file_sd_configs: [{files: ['*/a.yml']}]\n", 4, "only the last part"),
        ("    http_sd_configs: [{url: 'file:///etc/passwd'}]\n", 4, "http://"),
        ("    http_sd_configs: [{url: 'http://a:b@c/'}]\n", 4, "use basic_auth"),
        ("    http_sd_configs: [{uri: a}]\n", 4, "http://"),
        ("    kubernetes_sd_configs: [{role: pod}]\n", 4, "file_sd_configs or http_sd_configs"),
        ("    basic_auth: {username: a}\n    bearer_token: b\n", 5, "not both"),
        ("    authorization: {credentials_file: nowhere}\n", 4, "cannot be read"),
        ("    proxy_url: http://a\n", 4, "proxies are not used"),
    ],
)
def test_a_mistake_in_a_discovery_names_its_line(text: str, line: int, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        jobs(text)
    assert caught.value.line == line
    assert says in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["targets", "labels", "a"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_answer_is_groups_or_a_value_error(data: Any) -> None:
    try:
        groups = groups_of(data, "x")
    except ValueError:
        return
    assert not any("/" in address for group in groups for address in group.addresses)
    # Joining fails on what is no text.
    assert sum(len("".join(group.labels.values())) for group in groups) >= 0


# -- TLS ------------------------------------------------------------------------


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hits 5\n")

    @override
    def log_message(self, *args: object) -> None:
        return


def certificate(directory: Path, name: str, *, host: str, issuer: Any = None) -> Any:
    """A key and a certificate as files; signed by itself or by an issuer."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    issuer_name, issuer_key = (issuer[0].subject, issuer[1]) if issuer else (subject, key)
    now = datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
    names: list[x509.GeneralName] = [x509.DNSName(host)]
    if host == "127.0.0.1":
        names = [x509.IPAddress(ipaddress.ip_address(host))]
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    (directory / f"{name}.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (directory / f"{name}.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return made, key


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server named metrics.internal that asks for a certificate of the same authority."""
    directory = tmp_path_factory.mktemp("tls")
    authority = certificate(directory, "authority", host="authority")
    certificate(directory, "server", host="metrics.internal", issuer=authority)
    certificate(directory, "client", host="client", issuer=authority)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.crt", directory / "server.key")
    context.load_verify_locations(directory / "authority.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    server = HTTPServer(("127.0.0.1", 0), Page)
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}", directory
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("tls", "up"),
    [
        ("ca_file: authority.crt, server_name: metrics.internal, CLIENT", 1),
        ("insecure_skip_verify: true, CLIENT", 1),
        ("ca_file: authority.crt, server_name: metrics.internal, min_version: TLS12, CLIENT", 1),
        ("ca_file: authority.crt, CLIENT", 0),
        ("ca_file: authority.crt, server_name: metrics.internal", 0),
        ("server_name: metrics.internal, CLIENT", 0),
    ],
)
def test_tls_trusts_and_shows_itself_as_configured(
    secured: tuple[str, Path], pipeline: Any, appender: Any, tls: str, up: int
) -> None:
    address, directory = secured
    options = tls.replace("CLIENT", "cert_file: client.crt, key_file: client.key")
    text = (
        f"    scheme: https\n    tls_config: {{{options}}}\n"
        f"    static_configs: [{{targets: ['{address}']}}]\n"
    )
    play(Scraper(jobs(text, directory), pipeline), nothing)
    series = Labels.of(__name__="up", job="shop", instance=address)
    assert [value for _, value in appender.samples()[series]] == [up]


def test_a_reload_reads_the_certificates_of_a_job_that_did_not_change(
    secured: tuple[str, Path], pipeline: Any, appender: Any, tmp_path: Path
) -> None:
    address, directory = secured
    certificate(tmp_path, "other", host="other")
    trusted = tmp_path / "trusted.crt"
    trusted.write_bytes((tmp_path / "other.crt").read_bytes())
    names = f"cert_file: {directory}/client.crt, key_file: {directory}/client.key"
    text = (
        f"    scheme: https\n    tls_config: {{ca_file: trusted.crt, {names},"
        " server_name: metrics.internal}\n"
        f"    static_configs: [{{targets: ['{address}']}}]\n"
    )
    configs = jobs(text, tmp_path)
    scraper = Scraper(configs, pipeline)

    async def run() -> None:
        for number in range(3):
            for target in scraper.targets():
                await scraper.scrape(target, NOW_MS + number * STEP_MS)
            trusted.write_bytes((directory / "authority.crt").read_bytes())
            if number:
                await scraper.reconfigure(jobs(text, tmp_path), NOW_MS + number * STEP_MS + 1_000)
        await scraper.aclose()

    asyncio.run(run())
    series = Labels.of(__name__="up", job="shop", instance=address)
    assert [value for _, value in appender.samples()[series]] == [0, 0, 1]


def test_what_was_found_stays_when_a_reload_changes_a_discovery_that_does_not_answer(
    address: str, finder: Server, pipeline: Any, sources: Any, tmp_path: Path
) -> None:
    def http(more: str) -> tuple[ScrapeConfig, ...]:
        return jobs(f"    http_sd_configs: [{{url: 'http://{address}/{more}}}]\n")

    def file(more: str) -> tuple[ScrapeConfig, ...]:
        return jobs(f"    file_sd_configs: [{{files: [t.json{more}}}]\n", tmp_path)

    async def reloaded(before: tuple[ScrapeConfig, ...], after: tuple[ScrapeConfig, ...]) -> None:
        scraper = Scraper(before, pipeline)
        (tmp_path / "t.json").write_text(json.dumps([{"targets": [address]}]))
        finder.status, finder.found = 200, [{"targets": [address]}]
        await scraper.discover(NOW_MS)
        (tmp_path / "t.json").write_text("[{")
        finder.status = 503
        await scraper.reconfigure(after, NOW_MS + STEP_MS)
        assert instances(scraper.targets()) == [address]
        told = {status.name: status for status in sources.list(NOW_MS + STEP_MS)}
        assert told["discovery:shop"].state is SourceState.ERROR
        (tmp_path / "t.json").write_text("[]")
        finder.status, finder.found = 200, []
        await scraper.discover(NOW_MS + 20 * STEP_MS)
        assert scraper.targets() == ()
        await scraper.aclose()

    asyncio.run(reloaded(http("sd'"), http("sd', refresh_interval: 30s")))
    asyncio.run(reloaded(http("sd'"), http("sd?other'")))
    asyncio.run(reloaded(file("]"), file("], refresh_interval: 30s")))
