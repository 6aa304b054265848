"""Whatever a system answers, reading it raises nothing but a failed poll."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.pollers.mysql.explain import _tables
from collector.pollers.mysql.replication import _positions
from collector.pollers.prometheus import _add, _row, _vector
from collector.pollers.redis import fields_of, read_info
from collector.polling.contract import PollFailed, Reading
from collector.polling.http import MAX_RETRY_AFTER_S, _retry_after_s
from collector.polling.mysql_values import number_of

KEYS = [
    "used_memory",
    "evicted_keys",
    "slave0",
    "db0",
    "cmdstat_get",
    "errorstat_ERR",
    "latency_percentiles_usec_get",
    "role",
    "uptime_in_seconds",
    "server_time_usec",
    "latest_fork_usec",
    "master_link_status",
]
VALUE = st.text(max_size=8) | st.sampled_from(
    [
        "calls=1,usec=²",
        "keys=1,expires=x",
        "p50=1,p99.9=²",
        "ip=a,offset=1,lag=",
        "slave",
        "²",
        "1e9",
    ]
)
LINES = st.lists(st.tuples(st.sampled_from(KEYS) | st.text(max_size=5), VALUE), max_size=8)


@settings(max_examples=80)
@given(LINES)
def test_any_info_is_read(lines: list[tuple[str, str]]) -> None:
    reading = Reading()
    read_info(fields_of("\r\n".join(f"{name}:{value}" for name, value in lines)), reading)
    assert all(sample.name.startswith("redis_") for sample in reading.samples)


@settings(max_examples=80)
@given(st.none() | st.text(max_size=12) | st.from_regex(r"[\w.+-]{0,9}", fullmatch=True))
def test_any_value_of_a_status_is_a_number_or_none(text: str | None) -> None:
    value = number_of(text)
    assert value is None or not math.isnan(value)


@settings(max_examples=50)
@given(st.text(alphabet="0123456789-,²x", max_size=20))
def test_any_gtid_position_is_read(text: str) -> None:
    _positions(Reading(), "io", text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "status",
                    "data",
                    "resultType",
                    "result",
                    "metric",
                    "value",
                    "table_name",
                    "access_type",
                    "rows",
                ]
            ),
            inner | st.sampled_from(["success", "vector", "scalar", "ALL"]),
            max_size=5,
        )
    ),
    max_leaves=15,
)


@settings(max_examples=80)
@given(JSON)
def test_any_json_is_a_vector_a_plan_or_a_failed_poll(answer: Any) -> None:
    reading = Reading()
    with contextlib.suppress(PollFailed):
        for row in _vector(answer):
            labels, value = _row(row)
            _add(reading, "a", labels, value)
    for table, access, rows in _tables(answer):
        assert isinstance(table, str)
        assert isinstance(access, str)
        assert isinstance(rows, float)


@settings(max_examples=50)
@given(st.text(alphabet="0123456789.²e- ", max_size=8))
def test_any_retry_after_is_bounded(text: str) -> None:
    wait_s = _retry_after_s(httpx.Headers([(b"retry-after", text.encode())]))
    assert wait_s is None or 0 <= wait_s <= MAX_RETRY_AFTER_S
