"""A real Prometheus as a process of its own, and the same questions for it and for the engine."""

import http.client
import json
import math
import os
import shutil
import socket
import subprocess
import time
import urllib.parse
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import cramjam
import pytest

from store.model import Labels
from tests.collector.remote_write_bytes import series_bytes

Series = tuple[Labels, list[tuple[int, float]]]


def binary_of(name: str) -> str:
    """The path of a Debian program; without it the test is skipped, but fails in CI."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI needs {name} for this comparison (Debian package prometheus)")
        pytest.skip(f"{name} is not installed")
    return found


@dataclass(frozen=True, slots=True)
class Reply:
    """Status and body of an answer; `json` is None where the body is none."""

    status: int
    body: bytes
    json: Any


class Server:
    """A server of Prometheus's HTTP API, asked over one connection."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, given: Iterable[tuple[str, object]] = ()) -> Reply:
        text = urllib.parse.urlencode(list(given))
        return self._send("GET", f"/api/v1/{path}?{text}" if text else f"/api/v1/{path}")

    def post(self, path: str, given: Iterable[tuple[str, object]] = ()) -> Reply:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._send(
            "POST", f"/api/v1/{path}", urllib.parse.urlencode(list(given)).encode(), headers
        )

    def ready(self) -> bool:
        try:
            return self._send("GET", "/-/ready").status == 200
        except OSError:
            return False

    def write(self, series: Iterable[Series]) -> None:
        """One remote write a series."""
        headers = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
        for labels, samples in series:
            body = bytes(cramjam.snappy.compress_raw(series_bytes(labels.pairs, samples)))
            reply = self._send("POST", "/api/v1/write", body, headers)
            assert reply.status == 204, reply.body

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Reply:
        try:
            self._connection.request(method, path, body or None, headers or {})
            answer = self._connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as exc:
            self._connection.close()  # the next request opens it again
            raise OSError(str(exc)) from exc
        try:
            return Reply(answer.status, data, json.loads(data))
        except ValueError:
            return Reply(answer.status, data, None)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    folder: Path, series: Iterable[Series], *flags: str, config: str = "global: {}\n"
) -> Iterator[Server]:
    """A Prometheus that holds these series."""
    binary = binary_of("prometheus")
    (folder / "prometheus.yml").write_text(config)
    port = free_port()
    command = [
        binary,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver",
        "--storage.tsdb.retention.time=100y",
        "--log.level=error",
        *flags,
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with Server(port) as server:
            _wait_ready(server, process)
            server.write(series)
            yield server
    finally:
        process.terminate()
        process.wait(60)


def _wait_ready(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if server.ready():
            return
    pytest.fail("prometheus did not become ready")


def table(rows: Any) -> dict[tuple[Labels, float], float]:
    """Values of a matrix by series and time."""
    return {
        (Labels.of(row["metric"]), ts): float(value) for row in rows for ts, value in row["values"]
    }


def same(ours: float, theirs: float, tolerance: float, least: float = 0.0) -> bool:
    """Equal but for rounding; NaN is equal to NaN."""
    if math.isnan(ours) or math.isnan(theirs):
        return math.isnan(ours) and math.isnan(theirs)
    return math.isclose(ours, theirs, rel_tol=tolerance, abs_tol=least)
