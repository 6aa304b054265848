"""Who is measured: Warroom, and the peers that are installed. One literal table."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from bench.table import OURS

PROMETHEUS = "prometheus"
VICTORIA = "victoria-metrics"


@dataclass(frozen=True, slots=True)
class Target:
    """How a server is started and where it keeps its data.

    Attributes:
        program: Its executable, or none for the one of this checkout.
        command: The command line from a directory, a configuration file and a port.
        stored: What counts as its data on disk, once it was asked to put it in order.
        config: The configuration file's text.
        no_cache: Parameters of a query that is to be computed, not remembered.
        loses_unflushed: A kill may take what it has acknowledged in the last seconds.
    """

    name: str
    program: str | None
    command: Callable[[Path, Path, int], list[str]]
    ready_path: str
    stored: Callable[[Path], list[Path]]
    config: str = ""
    no_cache: tuple[tuple[str, str], ...] = ()
    loses_unflushed: bool = False


def _warroom(directory: Path, config: Path, port: int) -> list[str]:
    command = [sys.executable, "-m", "warroom.cli", "serve", "--config", str(config)]
    command += ["--data-dir", str(directory / "data"), "--listen", f"127.0.0.1:{port}"]
    return [*command, "--otlp-http", "off", "--otlp-grpc", "off", "--log-level", "warning"]


def _prometheus(directory: Path, config: Path, port: int) -> list[str]:
    return [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver",
        "--web.enable-admin-api",
        "--storage.tsdb.retention.time=60d",
        "--log.level=error",
    ]


def _victoria(directory: Path, _config: Path, port: int) -> list[str]:
    return [
        "victoria-metrics",
        f"-storageDataPath={directory / 'data'}",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-retentionPeriod=60d",
        "-search.latencyOffset=0s",
        "-loggerLevel=ERROR",
    ]


TARGETS = (
    Target(
        name=OURS,
        program=None,
        command=_warroom,
        ready_path="/-/ready",
        stored=lambda directory: sorted((directory / "data").glob("telemetry.duckdb*")),
        config="{}\n",
        no_cache=(("nocache", "1"),),
    ),
    Target(
        name=PROMETHEUS,
        program="prometheus",
        command=_prometheus,
        ready_path="/-/ready",
        stored=lambda directory: [directory / "data" / "snapshots"],
        config="global: {scrape_interval: 15s}\n",
    ),
    Target(
        name=VICTORIA,
        program="victoria-metrics",
        command=_victoria,
        ready_path="/health",
        stored=lambda directory: [directory / "data" / "data", directory / "data" / "indexdb"],
        no_cache=(("nocache", "1"),),
        loses_unflushed=True,
    ),
)


def found() -> tuple[list[Target], list[str]]:
    """Targets that can be run here, and the names of those that cannot."""
    here = [t for t in TARGETS if t.program is None or shutil.which(t.program)]
    return here, [t.name for t in TARGETS if t not in here]


def versions(targets: Sequence[Target]) -> dict[str, str]:
    return {target.name: _version(target) for target in targets}


def _version(target: Target) -> str:
    if target.program is None:
        return metadata.version("warroom")
    flag = "-version" if target.name == VICTORIA else "--version"
    asked = subprocess.run(
        [target.program, flag], capture_output=True, text=True, timeout=30, check=False
    )
    told = (asked.stdout + asked.stderr).strip().splitlines()
    first = told[0] if told else ""
    return first.removeprefix("prometheus, version ").split(" (")[0] or _debian(target.program)


def _debian(package: str) -> str:
    if not shutil.which("dpkg-query"):
        return "unknown"
    asked = subprocess.run(
        ["dpkg-query", "-W", "-f=${Version}", package],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return asked.stdout.strip() or "unknown"
