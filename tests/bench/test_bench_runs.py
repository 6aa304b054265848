"""The benchmarks run, measure every target that is here, and say so; how fast is not asked."""

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from bench.registry import BENCHMARKS
from bench.targets import found

METHODS = {"3-sigma of 1 h", "3-sigma of 1 d", "sigma, tuned", "threshold, tuned"}
ROOT = Path(__file__).parents[2]
OF_ALL_TARGETS = {"remote_write", "range_queries", "month", "footprint", "recovery"}


def run_bench(*arguments: str, timeout_s: float = 170) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", "--tiny", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def children_of(pid: int) -> set[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
    return {int(child) for child in listed.split()}


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_a_benchmark_measures_every_target_that_is_installed(name: str, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    ran = run_bench(name, "--json", str(file))
    assert ran.returncode == 0, ran.stderr
    told = orjson.loads(file.read_bytes())
    here, absent = found()
    assert told["absent"] == absent
    assert list(told["versions"]) == [target.name for target in here]
    [table] = told["tables"]
    assert table["name"] == name
    assert f"## {table['title']}" in ran.stdout
    wanted = {target.name for target in here} if name in OF_ALL_TARGETS else {"warroom"}
    wanted |= METHODS if name.startswith("level_drops") else set()
    assert table["rows"]
    for row in table["rows"]:
        assert set(row["values"]) == wanted, row
        assert all(math.isfinite(value) and value >= 0 for value in row["values"].values()), row
        assert set(row["ratios"]) <= wanted - {"warroom"}


@pytest.mark.slow
def test_a_terminated_run_leaves_no_server_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "--tiny", "live_stream"]
    with subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as bench:
        assert bench.stderr is not None
        # Progress is told before a server starts; the next line, when it is up.
        lines = iter(bench.stderr.readline, "")
        assert "one watcher" in next(lines)
        assert "3 watchers" in next(lines)
        servers = children_of(bench.pid)
        assert servers
        bench.send_signal(signal.SIGTERM)
        assert bench.wait(60) == 143
    assert not [pid for pid in servers if is_alive(pid)]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
