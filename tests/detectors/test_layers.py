"""Which spans beside each other show one query."""

from __future__ import annotations

from typing_extensions import override

from detectors.traces.layers import Sibling, shown_twice

ORM, DRIVER, POOL = 1, 2, 3


def test_three_instrumentations_of_one_query_leave_the_longest_span() -> None:
    rows = [Sibling(7, ORM, 0, 90), Sibling(8, DRIVER, 1, 50), Sibling(9, POOL, 60, 80)]
    assert shown_twice(rows) == {8: 7, 9: 7}


def test_each_span_covers_one_of_each_other_name() -> None:
    """Twelve queries at once that two instrumentations show are twelve."""
    outer = [Sibling(span, ORM, span, 900 - span, None) for span in range(12)]
    inner = [Sibling(100 + span, DRIVER, 20 + span, 800 - span, str(span)) for span in range(12)]
    covered = shown_twice([*outer, *inner])
    assert set(covered) == {row.span for row in inner}
    assert set(covered.values()) == {row.span for row in outer}


def test_other_values_are_another_query() -> None:
    rows = [Sibling(span, span, span, 900 - span, str(span)) for span in range(20)]
    assert shown_twice(rows) == {}


def test_a_span_without_values_is_that_of_a_query_with_values_around_it() -> None:
    rows = [
        Sibling(0, ORM, 0, 90, "7"),
        Sibling(1, DRIVER, 1, 80, "7"),
        Sibling(2, POOL, 2, 70),
        Sibling(3, POOL, 95, 99),
    ]
    assert shown_twice(rows) == {1: 0, 2: 0}


def test_one_after_another_is_looked_at_once() -> None:
    """Each with a name of its own: what is over is not compared again."""
    for key in (None, "7"):
        ends = [Counted(10 * span + 9) for span in range(2_000)]
        rows = [Sibling(span, span, 10 * span, end, key) for span, end in enumerate(ends)]
        assert shown_twice(rows) == {}
        assert sum(end.compared for end in ends) < 10 * len(ends)


class Counted(int):
    """Counts how often it is compared."""

    compared = 0

    @override
    def __lt__(self, other: int) -> bool:
        self.compared += 1
        return super().__lt__(other)

    @override
    def __ge__(self, other: int) -> bool:
        self.compared += 1
        return super().__ge__(other)
