"""Child processes of the demo: each in its own group, all of them ended with the demo."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType

from store.errors import WarroomError

TERM_S = 8.0
TAIL_LINES = 15


class ProcessFailed(WarroomError):
    """A child ended that should run."""


@dataclass(frozen=True, slots=True)
class Child:
    """One running child with its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def tail(self) -> str:
        """The last lines of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-TAIL_LINES:])


class Children:
    """Starts processes and ends every one of them when the block is left, whatever the reason.

    Each child leads a process group, so that its own children end with it, and so that Ctrl-C in
    the terminal reaches the demo alone, which then ends them in order: the last one first.
    """

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self._children: list[Child] = []

    def __enter__(self) -> Children:
        self._log_dir.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> Child:
        """Start `python command…`; its output goes to `<name>.log`."""
        log = self._log_dir / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, *command],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        child = Child(name, process, log)
        self._children.append(child)
        return child

    def end(self, child: Child) -> None:
        """End one that is needed no more."""
        self._children.remove(child)
        _end([child])

    def check(self) -> None:
        """See that all run.

        Raises:
            ProcessFailed: One has ended.
        """
        for child in self._children:
            code = child.process.poll()
            if code is not None:
                raise ProcessFailed(
                    f"{child.name} ended with code {code}. Its last lines:\n{child.tail()}",
                    hint=f"the whole log is {child.log}",
                )

    def stop(self) -> None:
        """End all: SIGTERM, the last started first; SIGKILL for what is left after 8 s."""
        _end(self._children)
        self._children.clear()


def _end(children: Sequence[Child]) -> None:
    for child in reversed(children):
        _signal_group(child, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.process.wait(TERM_S)
    for child in children:
        # The group may outlive its leader.
        _signal_group(child, signal.SIGKILL)
        child.process.wait(TERM_S)


def _signal_group(child: Child, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.process.pid, number)


@contextlib.contextmanager
def signals_as_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does, so that clean-up runs."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def port_free(port: int) -> bool:
    """Whether this port of the loopback address can be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def wait_until(deadline_s: float, children: Children, answers: Iterator[bool]) -> float:
    """Ask again and again until the answer is yes; the seconds it took.

    Raises:
        ProcessFailed: A child ended meanwhile.
        TimeoutError: `deadline_s` passed.
    """
    begun = time.monotonic()
    for answer in answers:
        passed = time.monotonic() - begun
        if answer:
            return passed
        children.check()
        if passed > deadline_s:
            break
        time.sleep(0.2)
    raise TimeoutError(f"no answer within {deadline_s:g} s")
