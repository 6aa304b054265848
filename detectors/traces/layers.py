"""One query that two instrumentations show side by side, neither inside the other.

A framework that is told of a query when it is over starts its span then, with the time at which
the query began: that span becomes a sibling of the driver's, not its parent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Sibling(NamedTuple):
    """A span beside others of the same form and parent."""

    span: int
    name: int
    start_ns: int
    end_ns: int


def shown_twice(siblings: Iterable[Sibling]) -> dict[int, int]:
    """Those that another one of another name covers, each with the one that covers it.

    >>> rows = [Sibling(0, 1, 0, 9), Sibling(1, 2, 1, 8), Sibling(2, 1, 20, 29)]
    >>> shown_twice(rows)
    {1: 0}
    """
    covered: dict[int, int] = {}
    # Of each name the one that ends last so far; the longest begins first.
    latest: dict[int, Sibling] = {}
    for one in sorted(siblings, key=lambda item: (item.start_ns, -item.end_ns, item.span)):
        for other in latest.values():
            if other.name != one.name and other.end_ns >= one.end_ns:
                covered[one.span] = other.span
                break
        before = latest.get(one.name)
        if before is None or before.end_ns < one.end_ns:
            latest[one.name] = one
    return covered
