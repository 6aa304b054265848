"""A server in a process of its own, on loopback, in a temporary directory."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from urllib.parse import urlencode

from bench import proc
from bench.targets import Target

START_S = 180.0
STOP_S = 60.0
ANSWER_S = 180.0
_POLL_S = 0.05


class BenchFailed(Exception):
    """A server did not start, or did not answer as it should."""


@dataclass(slots=True)
class Server:
    """A target, started and stopped; a context manager that always ends its process.

    Attributes:
        config: Text of the target's configuration file.
    """

    target: Target
    directory: Path
    config: str = ""
    port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def __enter__(self) -> Server:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def log_file(self) -> Path:
        return self.directory / "log.txt"

    def start(self) -> None:
        """Start, and wait until it says that it is ready.

        Raises:
            BenchFailed: It ended, or was not ready in time.
        """
        self.port = free_port()
        config = self.directory / "config.yaml"
        config.write_text(self.config or self.target.config, encoding="utf-8")
        command = self.target.command(self.directory, config, self.port)
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=_environment()
            )
        try:
            self._wait_ready()
        except BaseException:
            self.stop()
            raise

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + START_S
        while not self._ready():
            assert self.process is not None
            ended = self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                tail = self.log_file.read_text(encoding="utf-8", errors="replace")[-2000:]
                what = "ended" if ended else f"was not ready within {START_S:.0f} s"
                raise BenchFailed(f"{self.target.name} {what}; its log ends:\n{tail}")
            time.sleep(_POLL_S)

    def _ready(self) -> bool:
        try:
            return self.get(self.target.ready_path)[0] == 200
        except OSError:
            return False

    def stop(self) -> None:
        """End the process, kindly first."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(STOP_S)
        self.process = None

    def kill(self) -> None:
        """End the process as a power cut would: SIGKILL, no chance to tidy up."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(STOP_S)
        self.process = None

    def cpu_s(self) -> float:
        return proc.cpu_s(self.pid)

    def get(self, path: str, parameters: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """Status and body of a GET."""
        return self.ask("GET", path, parameters)

    def ask(
        self, method: str, path: str, parameters: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body; each request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S)
        try:
            connection.request(method, f"{path}?{urlencode(parameters)}" if parameters else path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as exc:
            raise ConnectionError(f"{self.target.name} broke off: {exc!r}") from exc
        finally:
            connection.close()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _environment() -> dict[str, str]:
    """Ours, without settings that would change what is measured."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WARROOM_")}
    # Otherwise every start compiles every module again, which takes seconds.
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return kept
