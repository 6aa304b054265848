"""The statement normaliser alone: texts that come again, and texts that never do."""

from __future__ import annotations

import time

from detectors.traces.normaliser import Normaliser

_SHAPES = 200
_LOOKUPS = 200_000
_DISTINCT = 50_000


def repeats_per_s() -> float:
    """Statements a CPU-second, of which each has been seen before."""
    normaliser = Normaliser()
    texts = [
        f'SELECT "shop_{number}"."id" FROM "shop_{number}" WHERE "shop_{number}"."id" = %s LIMIT 21'
        for number in range(_SHAPES)
    ]
    for text in texts:
        normaliser.statement("postgresql", text)
    # Each decoded anew, as those of a body are: a text that was hashed before would flatter.
    rounds = [[text.encode().decode() for text in texts] for _ in range(_LOOKUPS // _SHAPES)]
    before_s = time.process_time()
    for some in rounds:
        for text in some:
            normaliser.statement("postgresql", text)
    return _LOOKUPS / max(time.process_time() - before_s, 1e-6)


def remembered() -> int:
    """Statements that are kept after many distinct ones, however many there were."""
    normaliser = Normaliser()
    for number in range(_DISTINCT):
        normaliser.statement("mysql", f"SELECT name FROM product WHERE id = {number}")
    return normaliser.remembered
