"""What is decided of a finding, by people or by Warroom, and what was."""

from __future__ import annotations

from dataclasses import dataclass

WARROOM = "warroom"
"""The actor of what nobody did by hand."""


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One change of a finding: when, what, why, and who did it (`warroom` itself by default)."""

    finding_id: str
    at_ms: int
    event: str
    detail: str
    actor: str = WARROOM


@dataclass(frozen=True, slots=True)
class Decision:
    """Who changes a finding, when, and why."""

    at_ms: int
    by: str = WARROOM
    reason: str = ""
