"""Which series matchers select, however the index finds them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.backends.duckdb import series_index
from store.backends.duckdb.series_index import SeriesIndex, predicate
from store.model import Labels, Matcher, MatchOp

NAMES, VALUES = ["__name__", "job", "shard"], ["", "a", "b", "ab"]
series = st.builds(
    Labels.of, st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES), min_size=1)
)
matchers = st.builds(
    Matcher,
    st.sampled_from(NAMES),
    st.sampled_from(list(MatchOp)),
    st.sampled_from([*VALUES, "a|b", "a.*", ".+"]),
)


@pytest.mark.parametrize("few", [0, 2, 2_048])
@given(
    known=st.lists(series, max_size=30, unique=True),
    later=st.lists(series, max_size=6, unique=True),
    gone=st.sets(st.integers(0, 30), max_size=5),
    asked=st.lists(matchers, min_size=1, max_size=3),
)
def test_a_selection_is_every_series_that_passes_each_matcher(
    few: int, known: list[Labels], later: list[Labels], gone: set[int], asked: list[Matcher]
) -> None:
    index = SeriesIndex()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(series_index, "_MOST_TO_EXTEND", few)
        index.add(list(enumerate(known)))
        index.remove(place for place in gone if place < len(known))
        index.select(asked)
        fresh = index.unknown(later)
        index.add(list(enumerate(fresh, index.next_id)))
        found = index.select(asked).tolist()
    held = [
        (place, labels) for place in range(index.next_id) for labels in index.labels_of([place])
    ]
    wanted = [
        place
        for place, labels in held
        if all(predicate(matcher)(labels.get(matcher.name)) for matcher in asked)
    ]
    assert found == wanted
