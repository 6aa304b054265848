"""The points of an answer as JSON text, written by a compiled loop: `[1.5,"2"],[3,"4"]`."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from store.model import Int32Array, Int64Array
from store.promql.kernels import compiled

Bytes = npt.NDArray[np.uint8]
_OPEN, _CLOSE, _COMMA, _QUOTE = (np.uint8(ord(one)) for one in '[],"')
_AROUND = 6  # `[`, `,"`, `"]` and the comma to the next one


@compiled
def write_points(
    stamps: Bytes,
    stamp_ends: Int32Array,
    stamp_of: Int64Array,
    numbers: Bytes,
    number_ends: Int32Array,
    bounds: Int64Array,
) -> tuple[Bytes, Int64Array]:
    """The points of every series, one series after the other.

    Args:
        stamps: Texts of times, one after the other.
        stamp_ends: Text `i` is `stamps[stamp_ends[i]:stamp_ends[i + 1]]`.
        stamp_of: For each point, which of these is its time.
        numbers: Texts of values, a text for each point.
        number_ends: Likewise.
        bounds: Series `i` owns the points `[bounds[i], bounds[i + 1])`.

    Returns:
        The text, and where each series begins and the last one ends in it.
    """
    size = 0
    for point in range(bounds[0], bounds[-1]):
        at = stamp_of[point]
        size += stamp_ends[at + 1] - stamp_ends[at]
        size += number_ends[point + 1] - number_ends[point] + _AROUND
    out = np.empty(size, dtype=np.uint8)
    begins = np.empty(len(bounds), dtype=np.int64)
    place = 0
    for series in range(len(bounds) - 1):
        begins[series] = place
        for point in range(bounds[series], bounds[series + 1]):
            if point > bounds[series]:
                out[place] = _COMMA
                place += 1
            out[place] = _OPEN
            place += 1
            at = stamp_of[point]
            for source in range(stamp_ends[at], stamp_ends[at + 1]):
                out[place] = stamps[source]
                place += 1
            out[place] = _COMMA
            out[place + 1] = _QUOTE
            place += 2
            for source in range(number_ends[point], number_ends[point + 1]):
                out[place] = numbers[source]
                place += 1
            out[place] = _QUOTE
            out[place + 1] = _CLOSE
            place += 2
    begins[len(bounds) - 1] = place
    return out, begins
