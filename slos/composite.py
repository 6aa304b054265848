"""One SLO of several: how the error ratios of its members become its own.

OpenSLO v1 has objectives with an indicator and a `compositeWeight` each; what they add up to it
leaves open. Warroom's forms:

- `weighted`: the mean of the members' error ratios, by weight. A journey of independent parts.
- `product`: `1 - (1 - e1)(1 - e2)…`. A chain: the journey is good when every part of it is.
  Weights are exponents: a part that is passed twice weighs 2.
- `min`: the worst member's error ratio. As reliable as the weakest part; weights have no effect.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from slos.burn_rate import WindowReading

Weighted = Sequence[tuple[float, float]]  # error ratio and weight of each member


def _weighted(parts: Weighted) -> float:
    return sum(ratio * weight for ratio, weight in parts) / sum(weight for _, weight in parts)


def _product(parts: Weighted) -> float:
    return 1.0 - math.prod(math.pow(1.0 - ratio, weight) for ratio, weight in parts)


def _worst(parts: Weighted) -> float:
    return max(ratio for ratio, _ in parts)


METHODS: Mapping[str, Callable[[Weighted], float]] = {
    "weighted": _weighted,
    "product": _product,
    "min": _worst,
}


def combined(
    method: str, window_s: int, members: Sequence[tuple[WindowReading, float]]
) -> WindowReading:
    """The composite's reading of a window from its members' readings and weights.

    Members without data are left out with their weight; without any the composite has none. Where
    all that are left count events, the composite has as many, and as many bad ones as its ratio
    says: few events need proof here too.
    """
    known = [(r, weight) for r, weight in members if r.error_ratio is not None]
    if not known:
        return WindowReading(window_s)
    ratio = METHODS[method]([(r.error_ratio or 0.0, weight) for r, weight in known])
    ratio = min(max(ratio, 0.0), 1.0)
    totals = [r.total for r, _ in known if r.total is not None]
    if len(totals) < len(known):
        return WindowReading(window_s, ratio)
    return WindowReading(window_s, ratio, ratio * sum(totals), sum(totals))
