"""Times that a baseline must not learn from, and when a run of bad steps began."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from store.model import BoolArray, Float64Array, Int64Array


def outside(steps_ms: Int64Array, step_ms: int, episodes: Iterable[tuple[int, int]]) -> BoolArray:
    """Steps that lie in no episode `(start_ms, end_ms)`. A step ends at its time."""
    learned: BoolArray = np.ones(len(steps_ms), dtype=np.bool_)
    for start_ms, end_ms in episodes:
        learned &= (steps_ms <= start_ms) | (steps_ms - step_ms >= end_ms)
    return learned


def began(bad: Float64Array, total: Float64Array, middle: float) -> int:
    """The step from which on bad events outweigh `middle` of all events the most.

    This is the change point of a CUSUM (E. S. Page, "Continuous inspection schemes", 1954) with
    `middle` halfway between the share before and the share now.
    """
    weight = np.cumsum((bad - middle * total)[::-1])[::-1]
    return int(np.argmax(weight)) if len(weight) else 0


def steps_since(began_ms: int, now_ms: int, step_ms: int, longest_s: float) -> int:
    """Steps of a window of `longest_s` that reaches back no further than the beginning."""
    passed_ms = min(now_ms - began_ms, int(longest_s * 1_000))
    return max(1, -(-passed_ms // step_ms))
