"""Native histograms in the JSON of Prometheus's API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from store.histograms import CUSTOM_SCHEMA, Buckets, NativeHistogram
from store.model import Labels
from tests.api.test_prometheus_api import Shop, app_of

H = Labels.of(__name__="h", job="shop")
BOTH_SIDES = NativeHistogram(
    zero_threshold=0.5,
    zero_count=2,
    count=8,
    sum=-1.5,
    positive=Buckets((1, 2, 3), (3.0, 0.0, 1.0)),
    negative=Buckets((1,), (2.0,)),
)
CUSTOM = NativeHistogram(
    CUSTOM_SCHEMA, count=4, sum=9, positive=Buckets((0, 2), (3.0, 1.0)), custom_values=(2.0, 5.0)
)
BUCKETS = [
    [1, "-2", "-1", "2"],
    [3, "-0.5", "0.5", "2"],
    [0, "1", "2", "3"],
    [0, "4", "8", "1"],
]

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    shop = Shop()
    shop.put_histograms(H, [(2000, BOTH_SIDES)])
    shop.put(H, [1000], [7.5])
    shop.put_histograms(Labels.of(__name__="c"), [(2000, CUSTOM)])
    shop.put_histograms(Labels.of(__name__="e"), [(2000, NativeHistogram())])
    shop.put_histograms(Labels.of(__name__="w"), [(2000, NativeHistogram(count=1e300, sum=1e21))])
    transport = httpx.ASGITransport(app_of(shop))
    async with httpx.AsyncClient(transport=transport, base_url="http://w/api/v1/") as found:
        yield found


async def ask(client: httpx.AsyncClient, path: str, **given: object) -> list[Any]:
    response = await client.get(path, params={key: str(value) for key, value in given.items()})
    assert response.status_code == 200, response.text
    result: list[Any] = response.json()["data"]["result"]
    return result


async def test_an_instant_answer_has_a_histogram_in_the_place_of_a_value(
    client: httpx.AsyncClient,
) -> None:
    (row,) = await ask(client, "query", query="h", time=2.5)
    wanted = {"count": "8", "sum": "-1.5", "buckets": BUCKETS}
    assert row == {"metric": {"__name__": "h", "job": "shop"}, "histogram": [2.5, wanted]}


async def test_a_range_answer_keeps_values_and_histograms_apart(client: httpx.AsyncClient) -> None:
    (row,) = await ask(client, "query_range", query="h", start=1, end=3, step=1)
    assert row["values"] == [[1, "7.5"]]
    assert [at for at, _ in row["histograms"]] == [2, 3]
    assert row["histograms"][0][1]["buckets"] == BUCKETS


async def test_a_range_selector_answers_what_is_stored(client: httpx.AsyncClient) -> None:
    (row,) = await ask(client, "query", query="h[1h]", time=3)
    assert row["values"] == [[1, "7.5"]]
    assert [at for at, _ in row["histograms"]] == [2]


async def test_custom_buckets_say_which_bounds_they_include(client: httpx.AsyncClient) -> None:
    (row,) = await ask(client, "query", query="c", time=2)
    assert row["histogram"][1]["buckets"] == [[3, "-Inf", "2", "3"], [0, "5", "+Inf", "1"]]


async def test_an_empty_histogram_has_no_buckets_and_huge_numbers_an_exponent(
    client: httpx.AsyncClient,
) -> None:
    (empty,) = await ask(client, "query", query="e", time=2)
    assert empty["histogram"] == [2, {"count": "0", "sum": "0"}]
    (wide,) = await ask(client, "query", query="w", time=2)
    assert wide["histogram"][1] == {"count": "1e+300", "sum": "1e+21"}


async def test_what_is_read_off_a_histogram_is_a_number(client: httpx.AsyncClient) -> None:
    (row,) = await ask(client, "query", query="histogram_count(h)", time=2)
    assert row["value"] == [2, "8"]


async def test_limits_count_series_of_either_kind(client: httpx.AsyncClient) -> None:
    assert len(await ask(client, "query", query='{__name__=~"h|c|e"}', time=2, limit=2)) == 2
    found = await ask(
        client, "query_range", query='{__name__=~"h|c|e"}', start=1, end=3, step=1, limit=1
    )
    assert len(found) == 1
