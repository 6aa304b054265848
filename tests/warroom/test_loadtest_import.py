"""`warroom loadtest import`: the file goes to the service as it is, and a broken bound is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from warroom.cli import main


@dataclass
class Answering:
    """A service that answers with one record and keeps what it was sent."""

    record: dict[str, Any]
    url: str = ""
    asked: list[tuple[str, bytes, str]] = field(default_factory=list)


@pytest.fixture
def service() -> Iterator[Answering]:
    found = Answering({"id": "t1", "name": "sale", "requests": 12, "thresholds": []})

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.asked.append((self.path, body, self.headers.get("Authorization", "")))
            answer = json.dumps(found.record).encode()
            self.send_response(201)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        @override
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield found
    server.shutdown()
    thread.join(30)
    server.server_close()


def test_a_summary_is_sent_as_it_is(
    service: Answering, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "summary.json"
    file.write_bytes(b'{"metrics":  {}}')
    told = ["--name", "sale day", "--target-multiple", "3", "--token", "wr_1"]
    assert main(["loadtest", "import", str(file), "--url", service.url, *told]) == 0
    path = "/api/warroom/v1/loadtests?name=sale+day&target_multiple=3"
    assert service.asked == [(path, b'{"metrics":  {}}', "Bearer wr_1")]
    assert capsys.readouterr().out == "t1  sale: 12 requests, 0 bounds broken\n"


def test_a_broken_bound_is_told_and_is_the_exit_code(
    service: Answering, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.record["thresholds"] = [{"name": "p(95)<400", "ok": False}, {"name": "b", "ok": True}]
    file = tmp_path / "summary.json"
    file.write_text("{}")
    assert main(["loadtest", "import", str(file), "--url", service.url]) == 1
    assert capsys.readouterr().out.splitlines()[1] == "   broken: p(95)<400"


def test_a_file_that_is_not_there_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["loadtest", "import", str(tmp_path / "none.json")]) == 1
    assert "cannot be read" in capsys.readouterr().err
