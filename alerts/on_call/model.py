"""People, schedules and escalation policies, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from alerts.time_intervals import TimeInterval


@dataclass(frozen=True, slots=True)
class User:
    """A person, and the receivers of the Alertmanager configuration that reach him."""

    name: str
    receivers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rotation:
    """People who take turns, in this order.

    Attributes:
        starts: The first hand-over, by the wall clock of the schedule's time zone (naive).
        turn_days: A turn ends after so many days, at the same time by that clock.
        restrictions: Only then does the rotation hold; empty means always.
    """

    users: tuple[str, ...]
    starts: datetime
    turn_days: int
    restrictions: tuple[TimeInterval, ...] = ()


@dataclass(frozen=True, slots=True)
class Override:
    """Somebody stands in from `start_ms` until `end_ms`."""

    user: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """Overrides come before rotations, and a rotation before those below it."""

    name: str
    time_zone: str
    rotations: tuple[Rotation, ...]
    overrides: tuple[Override, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """Whom to tell `delay_ms` after the step before: by schedule, and by name."""

    delay_ms: int
    schedules: tuple[str, ...] = ()
    users: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """Steps, one after the other until somebody acknowledges; then again `repeat` times."""

    name: str
    steps: tuple[Step, ...]
    repeat: int = 0


@dataclass(frozen=True, slots=True)
class OnCall:
    """Everything under `on_call:`."""

    users: dict[str, User] = field(default_factory=dict)
    schedules: dict[str, Schedule] = field(default_factory=dict)
    policies: dict[str, Policy] = field(default_factory=dict)
