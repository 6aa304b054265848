"""The demo's processes end with it, whatever ends it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.shop.conftest import eventually
from warroom.demo.processes import Children, ProcessFailed, port_free

_PARENT = """
    import sys, time
    from pathlib import Path
    from warroom.demo.processes import Children, signals_as_interrupt
    child = "import subprocess, sys, time; " \\
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); " \\
        "print(p.pid, flush=True); time.sleep(600)"
    try:
        with signals_as_interrupt(), Children(Path(sys.argv[1])) as children:
            print(children.start("family", ["-c", child], {}).process.pid, flush=True)
            while True:
                children.check()
                time.sleep(0.05)
    except KeyboardInterrupt:
        sys.exit(7)
"""


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_children_and_their_children_end_with_the_demo(tmp_path: Path, number: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_PARENT), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        log = tmp_path / "family.log"
        eventually(lambda: log.exists() and log.read_text().endswith("\n"))
        grandchild = int(log.read_text())
        assert _alive(child)
        assert _alive(grandchild)
        parent.send_signal(number)
        assert parent.wait(20) == 7
    eventually(lambda: not _alive(child) and not _alive(grandchild))
    assert log.exists()


def test_a_child_that_ended_is_told_with_its_last_lines(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        child = children.start("brief", ["-c", "print('what went wrong'); raise SystemExit(3)"], {})
        child.process.wait(20)
        with pytest.raises(ProcessFailed, match=r"brief ended with code 3(.|\n)*what went wrong"):
            children.check()


def test_a_taken_port_is_not_free() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not port_free(port)
    assert port_free(port)
