"""Whole processes: the service as a user starts it, and what talks to it."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[2]
START_S = 90


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def until(condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    """Poll until it holds, or fail with what was waited for."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        time.sleep(0.05)


def needs(program: str) -> str:
    """The path of a Debian program; the test is skipped by name without it, and fails under CI."""
    found = shutil.which(program)
    if found:
        return found
    if os.environ.get("CI") == "true":
        pytest.fail(f"{program} is not installed, and under CI it must be")
    pytest.skip(f"needs {program}")


@dataclass
class Warroom:
    """A service in a process of its own, that may be killed and started again."""

    directory: Path
    config: str = ""
    port: int = field(default_factory=free_port)
    otlp_port: int = field(default_factory=free_port)
    grpc_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.directory / "warroom.log").read_text(encoding="utf-8", errors="replace")

    def start(self) -> None:
        """Start, and wait until it is ready."""
        self.launch()
        until(self.ready, f"ready, see {self.directory / 'warroom.log'}", START_S)

    def launch(self) -> None:
        file = self.directory / "warroom.yaml"
        file.write_text(self.config, encoding="utf-8")
        log = (self.directory / "warroom.log").open("ab")
        command = [sys.executable, "-m", "warroom.cli", "serve", "--config", str(file)]
        command += [
            "--data-dir",
            str(self.directory / "data"),
            "--listen",
            f"127.0.0.1:{self.port}",
        ]
        command += ["--otlp-http", f"127.0.0.1:{self.otlp_port}"]
        command += ["--otlp-grpc", f"127.0.0.1:{self.grpc_port}"]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        log.close()

    def ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.directory / "warroom.log").read_text()[-3000:]
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/-/ready", timeout=2).status_code == 200
        return False

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise

    def get(self, path: str, **params: str | float) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", params=params, timeout=30)

    def vector(self, expr: str, **params: str | float) -> dict[str, float]:
        """An instant query's answer: the labels as text, without the name, to the value."""
        answer = self.get("/api/v1/query", query=expr, **params).json()
        assert answer["status"] == "success", answer
        return {
            ",".join(f"{k}={v}" for k, v in sorted(s["metric"].items()) if k != "__name__"): float(
                s["value"][1]
            )
            for s in answer["data"]["result"]
        }


@dataclass
class PagerDuty:
    """The double of PagerDuty, in a process of its own: it outlives the service."""

    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "warroom.demo.pagerduty_double", "--port", str(self.port)]
        self.process = subprocess.Popen(command, cwd=ROOT)
        until(self._answers, "the PagerDuty double answers")

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/healthz", timeout=2).status_code == 200
        return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)

    def events(self) -> list[dict[str, Any]]:
        """Every event that was received, in order."""
        received: list[dict[str, Any]] = httpx.get(f"{self.url}/log", timeout=10).json()["events"]
        return received

    def counts(self) -> dict[str, tuple[int, int]]:
        """Triggers and resolves by the class of the page and its dedup key."""
        told: dict[str, tuple[int, int]] = {}
        names: dict[str, str] = {}
        for event in self.events():
            key = event["dedup_key"]
            name = names.setdefault(key, f"{event['payload'].get('class', '')} {key}")
            triggers, resolves = told.get(name, (0, 0))
            is_trigger = event["event_action"] == "trigger"
            told[name] = (triggers + is_trigger, resolves + (not is_trigger))
        return told
