"""A run's figures as text: for the terminal, for `docs/benchmarks.md`, as JSON."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from bench import proc
from bench.table import OURS, Table, markdown


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a figure is worth nothing without."""

    command: str
    started_at: str
    cores: int
    cpu: str
    versions: Mapping[str, str]
    absent: Sequence[str]

    @classmethod
    def now(cls, command: str, versions: Mapping[str, str], absent: Sequence[str]) -> Circumstances:
        started_at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        cores = len(os.sched_getaffinity(0))
        return cls(command, started_at, cores, proc.cpu_model(), versions, absent)

    def lines(self) -> list[str]:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        lines = [
            f"- Command: `{self.command}`",
            f"- Started: {self.started_at}",
            f"- Machine: {self.cores} cores, {self.cpu}; servers, senders and anything else share"
            " them",
            f"- Versions: {versions}",
        ]
        if self.absent:
            names = ", ".join(f"`{name}`" for name in self.absent)
            lines.append(f"- Not found on this machine, so not measured: {names}")
        return lines

    def as_json(self) -> dict[str, object]:
        return {
            "command": self.command,
            "started_at": self.started_at,
            "cores": self.cores,
            "cpu": self.cpu,
            "versions": dict(self.versions),
            "absent": list(self.absent),
        }


_HEAD = f"""# Benchmarks

Made by `make bench ARGS=--write`. All servers run in one go, each in a process of its own,
on loopback, with a fresh directory. A column "× peer" says how many times better {OURS} is;
below 1 is worse. CPU is user and system time of the server's process. Figures of a busy machine
are rough: trust ratios and CPU-seconds, not wall times.

"""


def page(told: Circumstances, tables: Sequence[Table]) -> str:
    """`docs/benchmarks.md`."""
    targets = list(told.versions)
    body = "\n".join(markdown(table, targets) for table in tables)
    return _HEAD + "\n".join(told.lines()) + "\n\n" + body


def as_json(told: Circumstances, tables: Sequence[Table]) -> dict[str, object]:
    return {**told.as_json(), "tables": [table.as_json() for table in tables]}
