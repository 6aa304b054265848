"""One query that two instrumentations show side by side, neither inside the other.

A framework that is told of a query when it is over starts its span then, with the time at which
the query began: that span becomes a sibling of the driver's, not its parent.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import NamedTuple

# A framework, an ORM and a driver: more names for one query are no instrumentations.
_MOST_LAYERS = 3
_VALUED = -1


class Sibling(NamedTuple):
    """A span beside others of the same form and parent.

    Attributes:
        key: The values that its query asks for; None where its text does not tell them.
    """

    span: int
    name: int
    start_ns: int
    end_ns: int
    key: str | None = None


def shown_twice(siblings: Iterable[Sibling]) -> dict[int, int]:
    """Those that another one of another name covers, each with the one that covers it.

    A query with other values is another query, and each span covers one span of each other name:
    so queries at the same time stay as many as they are.

    >>> rows = [Sibling(0, 1, 0, 9), Sibling(1, 2, 1, 8), Sibling(2, 1, 20, 29)]
    >>> shown_twice(rows)
    {1: 0}
    >>> shown_twice([Sibling(0, 1, 0, 9, "7"), Sibling(1, 2, 1, 8, "8")])
    {}
    """
    rows = list(siblings)
    alike: dict[str, list[Sibling]] = {}
    for one in rows:
        if one.key is not None:
            alike.setdefault(one.key, []).append(one)
    covered: dict[int, int] = {}
    for group in alike.values():
        if len(group) > 1:
            covered |= _covered(group)
    if any(one.key is None for one in rows):
        # Which of the values an untold one has is unknown: any query at its time may be its own.
        left = [one for one in rows if one.span not in covered]
        more = _covered(one if one.key is None else one._replace(name=_VALUED) for one in left)
        covered = {span: more.get(other, other) for span, other in covered.items()} | more
    return covered


def _covered(siblings: Iterable[Sibling]) -> dict[int, int]:
    """The same of siblings that may all be one query."""
    covered: dict[int, int] = {}
    # Those that may cover more, by the names that already show each, ascending in their ends.
    free: dict[frozenset[int], list[tuple[int, int]]] = {}
    for one in sorted(siblings, key=lambda item: (item.start_ns, -item.end_ns, item.span)):
        names = frozenset({one.name})
        cover = (one.end_ns, one.span)
        for shown, ends in list(free.items()):
            if ends[-1][0] < one.start_ns:
                del free[shown]  # whose ends have passed
            elif one.name not in shown and ends[-1][0] >= one.end_ns:
                cover = ends.pop(bisect_left(ends, (one.end_ns, -1)))
                covered[one.span] = cover[1]
                names |= shown
                if not ends:
                    del free[shown]
                break
        if len(names) < _MOST_LAYERS:
            insort(free.setdefault(names, []), cover)
    return covered
