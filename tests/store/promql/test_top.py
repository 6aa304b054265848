"""topk and bottomk choose as a stable sort would; count_values tells what is written apart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.model import Labels
from store.promql.engine import Engine
from store.promql.grouping import group_top
from store.promql.testing import MemoryReader

VALUES = st.sampled_from([0.0, 1.0, 2.0, -1.0, float("nan"), float("inf"), float("-inf")])


def by_sorting(column: list[float], k: int, sign: float) -> set[int]:
    """Best first, the first of equals first, NaN after everything."""
    order = sorted(
        range(len(column)),
        key=lambda row: (
            np.isnan(column[row]),
            0.0 if np.isnan(column[row]) else -column[row] * sign,
        ),
    )
    return set(order[: max(0, k)])


@given(
    column=st.lists(VALUES, min_size=1, max_size=90),
    k=st.integers(-1, 100),
    sign=st.sampled_from([1.0, -1.0]),
)
def test_the_best_of_a_group_are_those_that_a_stable_sort_puts_first(
    column: list[float], k: int, sign: float
) -> None:
    columns = [column, column[::-1]]
    values = np.array(columns).T.copy()
    rows = np.arange(len(values), dtype=np.int64)
    bounds = np.array([0, len(values)], dtype=np.int64)
    chosen = np.zeros(values.shape, dtype=np.bool_)
    present = np.ones(values.shape, dtype=np.bool_)
    wanted = np.full(values.shape[1], max(0, k), dtype=np.int64)
    group_top(values, present, rows, bounds, wanted, sign, chosen)
    for step, one in enumerate(columns):
        assert set(np.flatnonzero(chosen[:, step]).tolist()) == by_sorting(one, k, sign)


@pytest.fixture
def engine() -> Engine:
    reader = MemoryReader()
    for place, value in enumerate([0.0, -0.0, float("nan"), float("nan"), 3.0]):
        reader.put(Labels.of(__name__="m", i=str(place), v="old"), [0], [value])
    return Engine(reader)


def counted(engine: Engine, query: str) -> dict[Labels, float]:
    return dict(engine.instant(query, 0).items())


def test_values_are_counted_as_they_are_written(engine: Engine) -> None:
    found = counted(engine, 'count_values("v", m)')
    assert {labels.get("v"): count for labels, count in found.items()} == {
        "0": 1.0,
        "-0": 1.0,
        "NaN": 2.0,
        "3": 1.0,
    }


def test_the_label_of_count_values_replaces_one_of_its_name(engine: Engine) -> None:
    assert counted(engine, 'count_values without (i) ("v", m == 3)') == {Labels.of(v="3"): 1.0}
    assert counted(engine, 'count_values without (i, v) ("v", m)') == {Labels(): 5.0}
    assert counted(engine, 'count_values by (v) ("v", m == 3)') == {Labels.of(v="3"): 1.0}
    nested = 'count_values without (i) ("v", count_values by (i) ("v", m))'
    assert counted(engine, nested) == {Labels.of(v="1"): 5.0}


def test_a_scalar_keeps_the_sign_of_nothing(engine: Engine) -> None:
    assert np.signbit(engine.instant("scalar(vector(-0))", 0).values[0])
