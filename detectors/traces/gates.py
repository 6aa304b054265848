"""Named gates: why a shape is, or is not, reported, each with its number and its threshold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

_REACHED = 1 - 1e-5  # of a threshold: see `just`


class GateName(StrEnum):
    """Every reason for not reporting a shape."""

    MIN_REPETITIONS = "min_repetitions"
    MIN_UNION_TIME = "min_union_time_ms"
    MIN_SHARE = "min_share_of_request"
    MIN_EACH = "min_each_us"
    ALREADY_BATCHED = "already_batched_list_size"
    VAGUE = "name_tells_no_statement"
    RETRIES = "retries_after_failure"
    PARTITION_LOOP = "one_query_per_partition"
    SCATTERED = "scattered_over_different_spans"
    MIN_DURATION = "min_duration_ms"
    MIN_SAVING = "min_saving_ms"
    MIN_SAVING_SHARE = "min_saving_share"
    DELIBERATE_WAIT = "waits_on_purpose"
    DEPENDENT = "needs_an_earlier_answer"
    IN_TRANSACTION = "inside_a_transaction"
    ROUTE_MAY_WAIT = "route_may_wait"
    EXPECTED_TO_BLOCK = "expected_to_block"
    OFF_CRITICAL_PATH = "off_the_critical_path"
    WAITS_FURTHER_IN = "waits_for_a_call_further_in"


class Gate(NamedTuple):
    """One condition. It is passed when `value` reaches `threshold` (or does not, where `below`)."""

    name: GateName
    value: float
    threshold: float
    below: bool = False

    @property
    def passed(self) -> bool:
        return (self.value >= self.threshold * _REACHED) is not self.below


def just(threshold: float) -> float:
    """What counts as having reached a threshold.

    Many SDKs take times as floating-point seconds, which are some hundred nanoseconds off, and
    shares are quotients: a query of 1 s is one, though it seems 200 ns shorter.
    """
    return threshold * _REACHED


@dataclass(frozen=True, slots=True)
class NotReported:
    """A shape that met a gate it did not pass."""

    kind: str
    shape: str
    gate: GateName
    value: float
    threshold: float


def first_closed(gates: Iterable[Gate]) -> Gate | None:
    """The first gate that is not passed, or None when all are."""
    for gate in gates:
        if not gate.passed:
            return gate
    return None


def refuse(kind: str, shape: str, gate: Gate) -> NotReported:
    """The answer to "why was this not reported?"."""
    return NotReported(kind, shape, gate.name, round(gate.value, 6), gate.threshold)
