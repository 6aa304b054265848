"""The series that a real Prometheus and the engine are asked about.

The real one may be a 2.x, whose ranges and lookback are closed on the left; therefore no sample
stands at a whole second, while every query asks for whole seconds: no sample is ever at an edge.
Counters stay far above zero, because 2.x and 3.x extrapolate to a counter's zero differently.
"""

import numpy as np

from store.model import STALE_NAN_BITS, Labels
from store.promql.testing import MemoryReader
from tests.store.promql.real_prometheus import Series

BASE_MS = 1_700_000_000_000
STEP_MS = 15_000
SAMPLES = 120
START_MS = BASE_MS + 20 * 60_000
END_MS = START_MS + 8 * 60_000
STALE = np.int64(STALE_NAN_BITS).view(np.float64).item()


def world() -> list[Series]:
    """Counters, gauges, buckets, and a series with gaps."""
    rng = np.random.default_rng(7)
    found = []
    for route in ("/a", "/b"):
        for place, host in enumerate("abc"):
            jitter = 2_003 + 1_371 * place
            stamps = [BASE_MS + step * STEP_MS + jitter for step in range(SAMPLES)]
            counter = 1000 + np.cumsum(rng.integers(0, 9, SAMPLES)).astype(float)
            if host == "c":
                counter[100:] -= counter[100] - 900
            depth = rng.integers(0, 100, SAMPLES).astype(float)
            labels = {"host": host, "route": route}
            found.append((Labels.of(labels, __name__="requests_total"), counter, stamps))
            found.append((Labels.of(labels, __name__="depth"), depth, stamps))
            for bound, share in (("0.1", 0.3), ("0.5", 0.8), ("1", 0.95), ("+Inf", 1.0)):
                bucket = Labels.of(labels, __name__="seconds_bucket", le=bound)
                found.append((bucket, np.floor(counter * share), stamps))
    gaps = [BASE_MS + step * STEP_MS + 77 for step in range(SAMPLES) if step % 40 < 8]
    found.append((Labels.of(__name__="gappy"), np.arange(float(len(gaps))), gaps))
    return [
        (labels, list(zip(stamps, values.tolist(), strict=True)))
        for labels, values, stamps in found
    ]


def odd_world() -> list[Series]:
    """What the other lacks: series that end, NaN and infinities, values that never tie."""
    rng = np.random.default_rng(8)
    stamps = [BASE_MS + step * STEP_MS + 511 for step in range(SAMPLES)]
    found: list[Series] = []
    for place, host in enumerate("abcd"):
        values = (rng.integers(0, 100, SAMPLES) * 10 + place).astype(float)
        labels = Labels.of(__name__="level", host=host, zone="x" if place < 2 else "")
        found.append((labels, list(zip(stamps, values.tolist(), strict=True))))
    odd = rng.choice([0.0, 1.0, -2.5, float("nan"), float("inf"), float("-inf")], SAMPLES)
    found.append(
        (Labels.of(__name__="odd", host="a"), list(zip(stamps, odd.tolist(), strict=True)))
    )
    calm = rng.choice([0.0, 1.0, -2.5, float("nan")], SAMPLES)
    found.append(
        (Labels.of(__name__="odd", host="b"), list(zip(stamps, calm.tolist(), strict=True)))
    )
    for host, ends in (("a", 96), ("b", 104)):
        column = [float(step % 7) for step in range(SAMPLES)]
        column[ends] = STALE
        kept = [
            pair
            for step, pair in enumerate(zip(stamps, column, strict=True))
            if step <= ends or step > ends + 6
        ]
        found.append((Labels.of(__name__="ending", host=host, route="/a"), kept))
    return found


def reader_of(series: list[Series]) -> MemoryReader:
    reader = MemoryReader()
    for labels, samples in series:
        reader.put(labels, [ts for ts, _ in samples], [value for _, value in samples])
    return reader
