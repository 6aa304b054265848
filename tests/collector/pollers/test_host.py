"""The host poller against this machine's own kernel, and against files that are odd."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from collector.pollers.host import HostSettings, read
from collector.polling.contract import PollFailed
from tests.collector.pollers.conftest import Ask
from tests.e2e.service import until

ENTRY = "pollers: [{type: host, name: web-1}]"


def test_processors_and_memory_agree_with_the_kernels_files(ask: Ask) -> None:
    answer = ask(ENTRY).poll()
    cpus = {series.get("cpu") for series in answer.values("node_cpu_seconds_total", mode="idle")}
    assert len(cpus) == os.cpu_count()
    total_kb = next(
        int(line.split()[1])
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemTotal:")
    )
    assert answer.value("node_memory_MemTotal_bytes") == total_kb * 1024
    assert 0 < answer.value("node_memory_MemAvailable_bytes") <= total_kb * 1024
    boot = int(Path("/proc/stat").read_text().split("btime ")[1].split()[0])
    assert answer.value("node_boot_time_seconds") == boot
    assert answer.value("node_load1") >= 0
    assert answer.value("node_filefd_allocated") > 0
    assert answer.values("node_network_receive_bytes_total", device="lo")


def test_a_busy_processor_is_busy_in_its_counters(ask: Ask) -> None:
    asking = ask(ENTRY)

    def busy() -> float:
        return sum(asking.poll().values("node_cpu_seconds_total", mode="user").values())

    before = busy()

    def worked() -> bool:
        sum(range(500_000))
        return busy() > before

    until(worked, "the user time grew")


def test_the_root_file_system_agrees_with_statvfs(tmp_path: Path) -> None:
    (tmp_path / "proc" / "1").mkdir(parents=True)
    (tmp_path / "proc" / "1" / "mounts").write_text(
        "/dev/a / ext4 rw,noatime 0 0\n/dev/b /no\\040where ext4 ro 0 0\nproc /proc proc rw 0 0\n"
    )
    (tmp_path / "proc" / "stat").write_text("cpu 1 2\ncpu0 100 0 200\n")
    reading = read(HostSettings(proc=tmp_path / "proc"))
    found = {(s.name, s.labels.get("mountpoint", "")): s.value for s in reading.samples}
    stat = os.statvfs("/")
    assert found["node_filesystem_size_bytes", "/"] == stat.f_blocks * stat.f_frsize
    assert found["node_filesystem_readonly", "/"] == 0
    assert found["node_filesystem_device_error", "/no where"] == 1
    assert not any(mountpoint == "/proc" for _, mountpoint in found)
    assert {part.part for part in reading.missing} >= {"load", "memory", "disks"}


def test_pressure_is_read_where_the_kernel_has_it(tmp_path: Path) -> None:
    (tmp_path / "pressure").mkdir()
    (tmp_path / "stat").write_text("")
    (tmp_path / "pressure" / "io").write_text(
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\n"
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\n"
    )
    samples = {s.name: s.value for s in read(HostSettings(proc=tmp_path)).samples}
    assert samples["node_pressure_io_waiting_seconds_total"] == 2.5
    assert samples["node_pressure_io_stalled_seconds_total"] == 1.5


def test_without_a_proc_it_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(PollFailed, match="needs Linux"):
        read(HostSettings(proc=tmp_path / "nothing"))
