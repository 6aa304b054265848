"""What the kernel says of a process and of the machine. Linux only: it reads /proc."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """User and system time of all threads of a process so far, in seconds."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND


def memory_bytes(pid: int) -> tuple[int, int]:
    """Resident memory, and the part of it that no file backs."""
    sizes = {"VmRSS": 0, "RssAnon": 0}
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        name, _, rest = line.partition(":")
        if name in sizes:
            sizes[name] = int(rest.split()[0]) * 1024
    return sizes["VmRSS"], sizes["RssAnon"]


def tree_bytes(*roots: Path) -> int:
    """Length of all files below the roots."""
    files = (path for root in roots for path in (root.rglob("*") if root.is_dir() else [root]))
    return sum(path.stat().st_size for path in files if path.is_file())


def load_average() -> float:
    """Of the last minute."""
    return os.getloadavg()[0]


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return os.uname().machine
