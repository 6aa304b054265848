"""The command line as a person uses it.

A service gets a process of its own. The other commands run here: starting Python for each would
take far longer than what they do.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind, set_span_in_context

from tests.e2e.service import ROOT, Warroom, until
from warroom.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

Done = subprocess.CompletedProcess
SERVE = (sys.executable, "-m", "warroom.cli", "serve")

GOOD = {
    "warroom.yaml": """evaluation_interval: 1s
rule_files: [rules.yml]
slo_files: [slo.yml]
alertmanager_file: alertmanager.yml
boards_dir: boards
""",
    "rules.yml": """groups:
  - name: own
    rules:
      - record: answer
        expr: vector(42)
      - alert: AlwaysOn
        expr: vector(1)
        labels: {severity: info}
""",
    "slo.yml": """version: prometheus/v1
service: shop
slos:
  - name: checkout
    objective: 99.9
    sli:
      events:
        error_query: sum(rate(bad_total[{{.window}}]))
        total_query: sum(rate(all_total[{{.window}}]))
    alerting: {name: CheckoutBurns}
""",
    "alertmanager.yml": """route:
  receiver: nobody
receivers:
  - name: nobody
""",
    "boards/own.yaml": """name: own
title: Our own
rows:
  - title: One
    panels:
      - {id: a, kind: stat, title: Answer, query: answer}
""",
}
# Which file is spoilt, how, which line must be told, and what must be said.
SPOILT = {
    "an unknown key": ("warroom.yaml", "rule_files:", "rule_fils:", 2, "rule_fils"),
    "an unknown unit": ("warroom.yaml", "1s", "1 fortnight", 1, "evaluation_interval"),
    "a broken expression": ("rules.yml", "vector(42)", "sum(", 5, "answer"),
    "an objective over 100": ("slo.yml", "99.9", "199", 5, "199"),
    "an unknown receiver": ("alertmanager.yml", "receiver: nobody", "receiver: x", 2, "'x'"),
    "an unknown kind of panel": ("boards/own.yaml", "kind: stat", "kind: pie", 6, "kind"),
    "no YAML": ("slo.yml", "service: shop", "service: [", None, "slo.yml:"),
}


def warroom(*arguments: str) -> Done[str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(arguments)
        except SystemExit as left:
            code = int(left.code or 0)
    return Done(arguments, code, out.getvalue(), err.getvalue())


def serve(directory: Path, *arguments: str, **environment: str) -> Done[str]:
    return subprocess.run(
        [*SERVE, "--data-dir", str(directory / "data"), *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def complaint(done: Done[str]) -> str:
    """The one line that a failed command says."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    lines = [line for line in done.stderr.splitlines() if line.startswith("warroom: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def _write_good(directory: Path) -> Path:
    for name, text in GOOD.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(text)
    return directory


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return _write_good(tmp_path)


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield f"127.0.0.1:{other.getsockname()[1]}"


def test_check_tells_what_good_files_configure(files: Path) -> None:
    done = warroom("check", "--config", str(files / "warroom.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{files / 'rules.yml'}: 2 rules" in done.stdout
    assert "SLO shop/checkout: 99.900%" in done.stdout
    assert "routes to nobody" in done.stdout
    assert "own" in done.stdout.splitlines()[-1]
    assert all(line.startswith("ok ") for line in done.stdout.splitlines())


@pytest.mark.parametrize("case", SPOILT)
def test_check_tells_file_and_line_of_a_mistake(files: Path, case: str) -> None:
    name, good, bad, line, says = SPOILT[case]
    file = files / name
    assert good in file.read_text()
    file.write_text(file.read_text().replace(good, bad, 1))
    done = warroom("check", "--config", str(files / "warroom.yaml"))
    assert done.returncode == 1
    failed = [text for text in done.stdout.splitlines() if text.startswith("FAIL")]
    assert len(failed) == 1, done.stdout
    assert (f"{file}:{line}: " if line else f"{file}:") in failed[0]
    assert says in failed[0]
    assert done.stderr == ""


def test_every_mistake_is_told_at_once(files: Path) -> None:
    (files / "rules.yml").write_text("groups: 7\n")
    (files / "alertmanager.yml").write_text("route: 7\n")
    done = warroom("check", "--config", str(files / "warroom.yaml"))
    assert done.returncode == 1
    assert f"FAIL  {files / 'rules.yml'}:1: " in done.stdout
    assert f"FAIL  {files / 'alertmanager.yml'}:1: " in done.stdout
    assert "ok    SLO shop/checkout" in done.stdout


@pytest.mark.parametrize("flag", ["--listen", "--otlp-http", "--otlp-grpc"])
def test_serve_on_a_taken_port_says_so(tmp_path: Path, taken: str, flag: str) -> None:
    addresses = {"--listen": "127.0.0.1:0", "--otlp-http": "off", "--otlp-grpc": "off", flag: taken}
    done = serve(tmp_path, *(part for pair in addresses.items() for part in pair))
    said = complaint(done)
    assert f"{taken} is in use by another process" in said
    assert flag in said


@pytest.mark.parametrize(
    ("flag", "address"),
    [
        ("--listen", "0.0.0.0:0"),
        ("--otlp-http", "[::]:0"),
        ("--otlp-grpc", ":0"),
    ],
)
def test_serve_refuses_to_be_open_to_the_network(tmp_path: Path, flag: str, address: str) -> None:
    addresses = {
        "--listen": "127.0.0.1:0",
        "--otlp-http": "off",
        "--otlp-grpc": "off",
        flag: address,
    }
    said = complaint(serve(tmp_path, *(part for pair in addresses.items() for part in pair)))
    assert "not a loopback address" in said
    assert "--behind-proxy" in said
    assert not (tmp_path / "data").exists()


def test_serve_with_a_mistake_in_a_file_says_where(files: Path) -> None:
    (files / "rules.yml").write_text("groups: 7\n")
    said = complaint(
        serve(files, "--config", str(files / "warroom.yaml"), "--listen", "127.0.0.1:0")
    )
    assert f"{files / 'rules.yml'}:1: " in said


def test_a_second_service_on_the_same_data_is_refused(tmp_path: Path) -> None:
    first = Warroom(tmp_path)
    first.start()
    try:
        said = complaint(
            serve(tmp_path, "--listen", "127.0.0.1:0", "--otlp-http", "off", "--otlp-grpc", "off")
        )
        assert "data" in said
        assert first.ready()
    finally:
        first.stop()


def test_tokens_are_made_listed_and_revoked(tmp_path: Path) -> None:
    data = ("--data-dir", str(tmp_path / "data"))
    made = warroom("token", "create", "ci", "--role", "ingest", *data)
    assert made.returncode == 0, made.stderr
    secret, told = made.stdout.splitlines()
    assert secret.startswith("wr_")
    token_id = told.split()[1].rstrip(";")
    listed = warroom("token", "list", *data).stdout
    assert listed.split() == [token_id, "ingest", "ci"]
    assert secret not in listed
    assert warroom("token", "revoke", token_id, *data).returncode == 0
    assert token_id in complaint(warroom("token", "revoke", token_id, *data))
    kept = b"".join(file.read_bytes() for file in (tmp_path / "data").iterdir())
    assert secret.encode() not in kept


def test_usage_that_is_wrong_is_answered_with_the_usage() -> None:
    for arguments in ([], ["nonsense"], ["token", "create", "--role", "king"], ["query"]):
        done = warroom(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith("usage: warroom")


def test_a_service_that_does_not_run_is_named(taken: str) -> None:
    for arguments in (["query", "up"], ["slo"], ["findings"]):
        said = complaint(warroom(*arguments, "--url", "http://127.0.0.1:1"))
        assert "http://127.0.0.1:1" in said
        assert "warroom serve" in said


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warroom]:
    service = Warroom(_write_good(tmp_path_factory.mktemp("cli")), GOOD["warroom.yaml"])
    service.start()
    yield service
    service.stop()


def _send_n_plus_one(service: Warroom) -> None:
    """Requests that each ask for twelve brands, one by one."""
    provider = TracerProvider(
        resource=Resource.create({"service.name": "shop"}), shutdown_on_exit=False
    )
    exporter = OTLPSpanExporter(f"{service.url}/v1/traces", timeout=5)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("cli")
    begun = time.time_ns() - 2_000_000_000
    root = tracer.start_span(
        "GET /products",
        kind=SpanKind.SERVER,
        start_time=begun,
        attributes={"http.route": "/products", "http.request.method": "GET"},
    )
    for number in range(12):
        at = begun + number * 10_000_000
        child = tracer.start_span(
            "SELECT",
            context=set_span_in_context(root),
            kind=SpanKind.CLIENT,
            start_time=at,
            attributes={
                "db.system.name": "postgresql",
                "db.query.text": f"SELECT * FROM brand WHERE id = {number}",
                "code.file.path": "/srv/shop/views.py",
                "code.line.number": 87,
                "code.function.name": "product_list",
            },
        )
        child.end(at + 8_000_000)
    root.end(begun + 200_000_000)
    provider.shutdown()


def test_a_running_service_is_asked_and_told(running: Warroom) -> None:
    at = ("--url", running.url)
    until(lambda: running.vector("answer") == {"": 42.0}, "the recording rule")
    asked = warroom("query", "answer * 2", *at)
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.startswith("{} => 84 @")
    assert warroom("query", "1 + 1", *at).stdout == "2\n"
    assert "parse error" in complaint(warroom("query", "sum(", *at))
    assert "checkout" in warroom("slo", *at).stdout
    assert "99.900%" in warroom("slo", *at).stdout


def test_findings_are_listed_with_their_place_and_fix(running: Warroom) -> None:
    _send_n_plus_one(running)
    path = "/api/warroom/v1/findings"
    until(lambda: bool(running.get(path).json()["findings"]), "the finding")
    told = warroom("findings", "--status", "open", "--url", running.url)
    assert told.returncode == 0, told.stderr
    assert "views.py:87" in told.stdout
    assert "brand" in told.stdout
    assert "fix: " in told.stdout
    assert warroom("findings", "--status", "suppressed", "--url", running.url).stdout == ""


def test_a_silence_made_here_silences_there(running: Warroom) -> None:
    def state() -> str:
        alerts = running.get("/api/v2/alerts", filter='alertname="AlwaysOn"').json()
        return str(alerts[0]["status"]["state"]) if alerts else "none"

    until(lambda: state() == "active", "the alert")
    arguments = ("silence", "alertname=AlwaysOn", 'severity=~"in.*"', "--for", "10m", "--by", "me")
    made = warroom(*arguments, "--comment", "known", "--url", running.url)
    assert made.returncode == 0, made.stderr
    silences = running.get("/api/v2/silences").json()
    assert [silence["id"] for silence in silences] == [made.stdout.strip()]
    assert (silences[0]["comment"], silences[0]["createdBy"]) == ("known", "me")
    until(lambda: state() == "suppressed", "the alert is silenced")
    said = complaint(warroom("silence", "nonsense", "--comment", "x", "--url", running.url))
    assert "alertname=" in said


def test_a_token_stays_out_of_the_log(running: Warroom) -> None:
    secret = "wr_this-is-secret"  # not one that was made: it must not be echoed either
    httpx.get(f"{running.url}/api/v1/query", headers={"Authorization": f"Bearer {secret}"})
    done = warroom("query", "sum(", "--url", running.url, "--token", secret)
    assert secret not in done.stderr + done.stdout
    assert secret not in running.log


def test_a_setting_of_the_environment_holds_and_a_flag_wins(tmp_path: Path, taken: str) -> None:
    elsewhere = {"WARROOM_LISTEN": taken, "WARROOM_OTLP_HTTP": "off", "WARROOM_OTLP_GRPC": "off"}
    assert taken in complaint(serve(tmp_path, **elsewhere))
    assert "0.0.0.0:0" in complaint(serve(tmp_path, "--listen", "0.0.0.0:0", **elsewhere))


def test_the_answer_of_query_is_that_of_the_api(running: Warroom) -> None:
    until(lambda: running.vector("answer") == {"": 42.0}, "the recording rule")
    expr = 'ALERTS{alertname="AlwaysOn"}'
    until(lambda: bool(running.vector(expr)), "the alert as a series")
    at = str(time.time())
    told = warroom("query", expr, "--time", at, "--url", running.url).stdout
    result = running.get("/api/v1/query", query=expr, time=at).json()["data"]["result"]
    assert told.count("\n") == len(result) == 1, json.dumps(result)
    assert 'alertname="AlwaysOn"' in told
