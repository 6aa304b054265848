"""The machine itself, by the names of node_exporter, from the kernel's own files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio.to_thread

from collector.polling.contract import PollFailed, Reading
from collector.polling.fields import Fields

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SECTOR_BYTES = 512
MAX_DEVICES = 200
MAX_FILE = 4 * 1024 * 1024
_PIECE = 64 * 1024
_MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_NOT_DISKS = re.compile(r"(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+")
_NO_FILESYSTEMS = re.compile(
    r"(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|"
    r"iso9660|mqueue|nsfs|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|"
    r"sysfs|tracefs|nfs4?|cifs|smb3?|fuse\..*)"
)
_ESCAPED = re.compile(r"\\([0-7]{3})")
_DISK = (
    ("reads_completed_total", 1.0),
    ("reads_merged_total", 1.0),
    ("read_bytes_total", float(SECTOR_BYTES)),
    ("read_time_seconds_total", 0.001),
    ("writes_completed_total", 1.0),
    ("writes_merged_total", 1.0),
    ("written_bytes_total", float(SECTOR_BYTES)),
    ("write_time_seconds_total", 0.001),
    ("io_now", 1.0),
    ("io_time_seconds_total", 0.001),
    ("io_time_weighted_seconds_total", 0.001),
)
_NETWORK = ("bytes", "packets", "errs", "drop", "fifo", "frame", "compressed", "multicast")
_NETWORK_OUT = ("bytes", "packets", "errs", "drop", "fifo", "colls", "carrier", "compressed")
_PRESSURE = (
    ("cpu", "some", "cpu_waiting"),
    ("io", "some", "io_waiting"),
    ("io", "full", "io_stalled"),
    ("memory", "some", "memory_waiting"),
    ("memory", "full", "memory_stalled"),
)
_STAT = {
    "ctxt": ("counter", "node_context_switches_total"),
    "intr": ("counter", "node_intr_total"),
    "processes": ("counter", "node_forks_total"),
    "btime": ("gauge", "node_boot_time_seconds"),
    "procs_running": ("gauge", "node_procs_running"),
    "procs_blocked": ("gauge", "node_procs_blocked"),
}


@dataclass(frozen=True, slots=True)
class HostSettings:
    """Where the kernel's files are; elsewhere in a container that watches its host."""

    proc: Path = Path("/proc")
    root: Path = Path("/")


def read_host(fields: Fields) -> HostSettings:
    """The fields of a `host` entry."""
    found = HostSettings(Path(fields.text("proc", "/proc")), Path(fields.text("root", "/")))
    for key, path in (("proc", found.proc), ("root", found.root)):
        if not path.is_absolute():
            raise fields.error(key, "an absolute path is expected")
    return found


class HostPoller:
    """Reads files in a thread: statvfs waits where a disk hangs."""

    def __init__(self, settings: HostSettings, timeout_s: float) -> None:
        del timeout_s
        self._settings = settings
        self._one_at_a_time: anyio.CapacityLimiter | None = None

    async def poll(self, now_ms: int) -> Reading:
        del now_ms
        if self._one_at_a_time is None:
            self._one_at_a_time = anyio.CapacityLimiter(1)
        return await anyio.to_thread.run_sync(
            partial(read, self._settings), limiter=self._one_at_a_time, abandon_on_cancel=True
        )

    async def aclose(self) -> None:
        return


def read(settings: HostSettings) -> Reading:
    """Every part that this kernel has.

    Raises:
        PollFailed: There is no /proc.
    """
    reading = Reading()
    proc = settings.proc
    try:
        _cpu(proc, reading)
    except OSError as error:
        raise PollFailed(f"{error}", hint="this poller needs Linux and its /proc") from error
    parts: tuple[Callable[[Path, Reading], None], ...] = (
        _load,
        _memory,
        _disks,
        _network,
        _pressure,
        _files,
        partial(_filesystems, root=settings.root),
    )
    for part in parts:
        try:
            part(proc, reading)
        except OSError as error:
            name = getattr(part, "__name__", "filesystems").strip("_")
            reading.lacks(name, str(error), "Let Warroom read this file, or mount it.")
    return reading


def _text(path: Path) -> str:
    # In small pieces: for some files the kernel sets a buffer aside as large as what is asked for.
    found = bytearray()
    with path.open("rb", buffering=0) as file:
        while len(found) < MAX_FILE and (piece := file.read(_PIECE)):
            found += piece
    return found.decode(errors="replace")


def _cpu(proc: Path, reading: Reading) -> None:
    for line in _text(proc / "stat").splitlines():
        name, *values = line.split()
        if name.startswith("cpu") and name != "cpu":
            for mode, ticks in zip(_MODES, values, strict=False):
                labels = {"cpu": name.removeprefix("cpu"), "mode": mode}
                reading.counter("node_cpu_seconds_total", int(ticks) / TICKS_PER_S, labels)
        elif name in _STAT:
            kind, metric = _STAT[name]
            add = reading.counter if kind == "counter" else reading.gauge
            add(metric, float(values[0]))


def _load(proc: Path, reading: Reading) -> None:
    for minutes, value in zip((1, 5, 15), _text(proc / "loadavg").split(), strict=False):
        reading.gauge(f"node_load{minutes}", float(value))


def _memory(proc: Path, reading: Reading) -> None:
    for line in _text(proc / "meminfo").splitlines():
        name, _, rest = line.partition(":")
        value, *unit = rest.split()
        plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")
        if unit:
            reading.gauge(f"node_memory_{plain}_bytes", float(value) * 1024)
        else:
            reading.gauge(f"node_memory_{plain}", float(value))


def _disks(proc: Path, reading: Reading) -> None:
    told = 0
    for line in _text(proc / "diskstats").splitlines():
        _major, _minor, device, *values = line.split()
        if _NOT_DISKS.fullmatch(device) or told >= MAX_DEVICES:
            continue
        told += 1
        for (name, scale), value in zip(_DISK, values, strict=False):
            add = reading.gauge if name == "io_now" else reading.counter
            add(f"node_disk_{name}", int(value) * scale, {"device": device})


def _network(proc: Path, reading: Reading) -> None:
    for line in _text(proc / "net" / "dev").splitlines()[2 : 2 + MAX_DEVICES]:
        device, _, rest = line.partition(":")
        values = rest.split()
        labels = {"device": device.strip()}
        for way, names, part in (
            ("receive", _NETWORK, values[:8]),
            ("transmit", _NETWORK_OUT, values[8:16]),
        ):
            for name, value in zip(names, part, strict=False):
                reading.counter(f"node_network_{way}_{name}_total", float(value), labels)


def _pressure(proc: Path, reading: Reading) -> None:
    """A kernel without pressure information has no such directory: nothing is missing then."""
    for resource, share, metric in _PRESSURE:
        path = proc / "pressure" / resource
        if not path.exists():
            continue
        for line in _text(path).splitlines():
            kind, *pairs = line.split()
            total = dict(pair.split("=", 1) for pair in pairs).get("total")
            if kind == share and total is not None:
                name = f"node_pressure_{metric}_seconds_total"
                reading.counter(name, int(total) / 1_000_000)


def _files(proc: Path, reading: Reading) -> None:
    allocated, _free, maximum = _text(proc / "sys" / "fs" / "file-nr").split()
    reading.gauge("node_filefd_allocated", float(allocated))
    reading.gauge("node_filefd_maximum", float(maximum))


def _filesystems(proc: Path, reading: Reading, *, root: Path) -> None:
    for device, mountpoint, fstype, read_only in _mounts(proc):
        labels = {"device": device, "mountpoint": mountpoint, "fstype": fstype}
        try:
            stat = os.statvfs(root / mountpoint.lstrip("/"))
        except OSError:
            # Mounted where this process may not look: others still tell.
            reading.gauge("node_filesystem_device_error", 1, labels)
            continue
        reading.gauge("node_filesystem_device_error", 0, labels)
        reading.gauge("node_filesystem_size_bytes", stat.f_blocks * stat.f_frsize, labels)
        reading.gauge("node_filesystem_free_bytes", stat.f_bfree * stat.f_frsize, labels)
        reading.gauge("node_filesystem_avail_bytes", stat.f_bavail * stat.f_frsize, labels)
        reading.gauge("node_filesystem_files", stat.f_files, labels)
        reading.gauge("node_filesystem_files_free", stat.f_ffree, labels)
        reading.gauge("node_filesystem_readonly", float(read_only), labels)


def _mounts(proc: Path) -> Iterator[tuple[str, str, str, bool]]:
    """Local file systems: device, mount point as the host names it, type, whether read only."""
    seen: set[str] = set()
    first = proc / "1" / "mounts"
    path = first if first.exists() else proc / "mounts"
    for line in _text(path).splitlines()[: MAX_DEVICES * 10]:
        device, mountpoint, fstype, options, *_rest = line.split(" ")
        mountpoint = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), mountpoint)
        if _NO_FILESYSTEMS.fullmatch(fstype) or mountpoint in seen or len(seen) >= MAX_DEVICES:
            continue
        if re.match(r"/(dev|proc|sys|run/credentials/.+|var/lib/docker/.+)($|/)", mountpoint):
            continue
        seen.add(mountpoint)
        yield device, mountpoint, fstype, "ro" in options.split(",")
