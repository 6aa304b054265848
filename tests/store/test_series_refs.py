"""Series found by the refs of a receiver are those found by their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from store.backends.duckdb.series_index import NO_ID, SeriesIndex
from store.model import Labels, RefSpace, SampleBatch, SeriesRefs

MANY = [Labels.of(__name__="m", i=str(place)) for place in range(8)]


def batch_of(places: Sequence[int], space: RefSpace | None, bound: int = 8) -> SampleBatch:
    series = tuple(MANY[place] for place in places)
    refs = np.array(places, dtype=np.int32)
    return SampleBatch(
        series=series,
        series_index=np.arange(len(series), dtype=np.int32),
        ts_ms=np.ones(len(series), dtype=np.int64),
        values=np.ones(len(series)),
        series_refs=None if space is None else SeriesRefs(space, refs, bound, series),
    )


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 7)),
        st.tuples(st.just("remove"), st.integers(0, 7)),
        st.tuples(st.just("ask"), st.permutations(range(8)).map(lambda order: order[:5])),
        st.tuples(st.just("reset"), st.just(0)),
    ),
    max_size=30,
)


@settings(max_examples=150)
@given(steps)
def test_refs_and_labels_agree_whatever_is_added_and_removed(
    done: list[tuple[str, int | list[int]]],
) -> None:
    index, space = SeriesIndex(), RefSpace()
    for what, which in done:
        if isinstance(which, list):
            by_ref = index.ids_of_batch(batch_of(which, space))
            wanted = [index.id_of(MANY[place]) for place in which]
            assert by_ref.tolist() == [NO_ID if one is None else one for one in wanted]
            assert index.ids_of_batch(batch_of(which, None)).tolist() == by_ref.tolist()
            continue
        known = index.id_of(MANY[which])
        if what == "add" and known is None:
            index.add([(index.next_id, MANY[which])])
        elif what == "remove" and known is not None:
            index.remove([known])
        elif what == "reset":
            space = RefSpace()


def test_a_table_of_refs_may_grow() -> None:
    index, space = SeriesIndex(), RefSpace()
    index.add(list(enumerate(MANY)))
    assert index.ids_of_batch(batch_of([0, 1], space, bound=2)).tolist() == [0, 1]
    assert index.ids_of_batch(batch_of([7, 0], space, bound=8)).tolist() == [7, 0]


def test_refs_of_replaced_series_do_not_count() -> None:
    index, space = SeriesIndex(), RefSpace()
    index.add(list(enumerate(MANY)))
    batch = batch_of([0, 1], space)
    changed = replace(batch, series=(MANY[5], MANY[6]))
    assert changed.known_refs is None
    assert index.ids_of_batch(changed).tolist() == [5, 6]


def test_an_empty_batch_has_no_ids() -> None:
    assert SeriesIndex().ids_of_batch(batch_of([], RefSpace())).tolist() == []
