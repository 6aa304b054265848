"""Priority from an impact x effort matrix. Pure.

The matrix is the impact and effort matrix of D. Gray, S. Brown and J. Macanufo, "Gamestorming"
(O'Reilly, 2010), with three priorities in place of its four quarters. Impact decides first, since
P0 and P1 wake somebody; effort moves a finding by one step where impact leaves a choice: what is
dear to mend waits for the day, what is mended in a line is worth saying at once.

|          | small | medium | large |
|----------|-------|--------|-------|
| critical | P0    | P0     | P1    |
| high     | P1    | P1     | P2    |
| medium   | P1    | P2     | P2    |
| low      | P2    | P2     | P2    |
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from detectors.finding import Finding, Priority


class ImpactLevel(StrEnum):
    """How much it hurts, ascending; see `detectors.impact` for where one ends."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Effort(StrEnum):
    """What it takes to mend, ascending: a line or a setting, a change of code, one of design."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"


_P0, _P1, _P2 = Priority.P0, Priority.P1, Priority.P2
MATRIX: Mapping[ImpactLevel, Mapping[Effort, Priority]] = {
    ImpactLevel.CRITICAL: {Effort.SMALL: _P0, Effort.MEDIUM: _P0, Effort.LARGE: _P1},
    ImpactLevel.HIGH: {Effort.SMALL: _P1, Effort.MEDIUM: _P1, Effort.LARGE: _P2},
    ImpactLevel.MEDIUM: {Effort.SMALL: _P1, Effort.MEDIUM: _P2, Effort.LARGE: _P2},
    ImpactLevel.LOW: {Effort.SMALL: _P2, Effort.MEDIUM: _P2, Effort.LARGE: _P2},
}

_SMALL = (
    "n_plus_one_query", "n_plus_one_cache", "repeated_query", "missing_index", "unused_index",
    "redundant_index", "pool_wait", "evictions", "connection_saturation", "autoscaling_at_limit",
)  # fmt: skip
_LARGE = ("replica_underused", "consecutive_calls")
_EFFORT: Mapping[str, Effort] = {
    **dict.fromkeys(_SMALL, Effort.SMALL),
    **dict.fromkeys(_LARGE, Effort.LARGE),
}
# A signal detector names its priority by thresholds of its own: that tells the impact.
_LEVEL_OF_SIGNAL = {_P0: ImpactLevel.CRITICAL, _P1: ImpactLevel.HIGH, _P2: ImpactLevel.LOW}


def priority_of(level: ImpactLevel, effort: Effort) -> Priority:
    """The cell of the matrix."""
    return MATRIX[level][effort]


def effort_of(kind: str) -> Effort:
    """What mending a kind of finding takes as a rule; medium unless known better."""
    return _EFFORT.get(kind, Effort.MEDIUM)


def level_of(finding: Finding) -> ImpactLevel:
    """The impact that a finding was judged to have."""
    known = str(finding.evidence.detail.get("impact_level", ""))
    if known in frozenset(ImpactLevel):
        return ImpactLevel(known)
    return _LEVEL_OF_SIGNAL[finding.priority]
