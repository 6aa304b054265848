"""What the business metrics must remember over a restart: when orders were missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Breach:
    """A span in which a figure's rule was met; open while `end_ms` is None."""

    kpi: str
    start_ms: int
    end_ms: int | None
    severity: str


class BreachMemory(Protocol):
    """Keeps breaches, identified by `(kpi, start_ms)`."""

    def breaches(self, kpi: str, since_ms: int) -> Sequence[Breach]:
        """Those that had not ended at `since_ms`, oldest first."""
        ...

    def save(self, breach: Breach) -> None: ...


class ForgetfulMemory:
    """Remembers nothing: for a process without state."""

    def breaches(self, kpi: str, since_ms: int) -> Sequence[Breach]:
        """None, for any `kpi` and `since_ms`."""
        del kpi, since_ms
        return ()

    def save(self, breach: Breach) -> None:
        """Let it go."""
        del breach
