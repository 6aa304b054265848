"""The shop's pages, healthy and with each fault on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = [pytest.mark.usefixtures("django_shop"), pytest.mark.slow]
OPS = {"HTTP_AUTHORIZATION": "Bearer test-token"}


@pytest.fixture
def visitor() -> Iterator[Any]:
    from django.core.cache import cache
    from django.test import Client

    cache.clear()
    yield Client()
    everything = Client().get("/ops/faults", **OPS).json()["faults"]
    _switch(**dict.fromkeys(everything, False))


def _switch(**switches: bool) -> Any:
    from django.test import Client

    return Client().post("/ops/faults", json.dumps(switches), "application/json", **OPS)


def _queries(visitor: Any, path: str) -> list[str]:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as captured:
        assert visitor.get(path).status_code == 200
    return [query["sql"] for query in captured.captured_queries]


def _filled_cart(visitor: Any, products: int = 3) -> None:
    for number in range(1, products + 1):
        answer = visitor.post("/cart/add/", {"product": number, "quantity": 1})
        assert answer.status_code == 302


def _to_purchase(visitor: Any) -> Any:
    _filled_cart(visitor)
    assert visitor.post("/checkout/").status_code == 204
    assert visitor.post("/checkout/shipping/", {"country": "DE"}).status_code == 204
    assert visitor.post("/checkout/payment/", {"method": "card"}).status_code == 204
    return visitor.post("/checkout/purchase/")


def test_a_healthy_list_asks_the_same_few_queries_on_every_page(visitor: Any) -> None:
    _queries(visitor, "/products/")
    counts = {len(_queries(visitor, f"/products/?page={page}")) for page in range(1, 6)}
    assert counts == {2}


def test_the_n_plus_one_asks_one_query_for_each_product(visitor: Any) -> None:
    healthy = len(_queries(visitor, "/products/"))
    healthy = len(_queries(visitor, "/products/"))
    _switch(n_plus_one=True)
    queries = _queries(visitor, "/products/")
    assert len(queries) == healthy + 48
    assert sum('FROM "shop_brand" WHERE' in sql for sql in queries) == 48


def test_cache_keys_stop_matching(visitor: Any) -> None:
    _queries(visitor, "/products/")
    warm = len(_queries(visitor, "/products/"))
    _switch(cache_keys=True)
    assert len(_queries(visitor, "/products/")) == warm + 3
    assert len(_queries(visitor, "/products/")) == warm + 3


def test_cache_counters_have_the_names_of_django_prometheus(visitor: Any) -> None:
    def counters() -> dict[str, float]:
        text = visitor.get("/metrics").content.decode()
        lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in lines}

    before = counters()
    visitor.get("/products/")
    visitor.get("/products/")
    after = counters()
    label = '{backend="locmem"}'
    grown = {name: after[name] - before[name] for name in after}
    assert grown == {
        f"django_cache_get_total{label}": 6,
        f"django_cache_get_hits_total{label}": 3,
        f"django_cache_get_misses_total{label}": 3,
    }


def test_a_checkout_ends_in_one_order_however_often_it_is_sent(visitor: Any) -> None:
    answer = _to_purchase(visitor)
    assert answer.status_code == 302
    assert b"Thank you" in visitor.get(answer.url).content
    assert visitor.post("/checkout/purchase/").status_code == 400


def test_payment_failures_answer_502_and_keep_the_cart(visitor: Any) -> None:
    _switch(payment_failures=True)
    assert _to_purchase(visitor).status_code == 502
    _switch(payment_failures=False)
    assert visitor.post("/checkout/purchase/").status_code == 302


def test_the_cart_shows_the_same_stock_with_one_call_and_with_many(visitor: Any) -> None:
    _filled_cart(visitor)

    def lines() -> list[str]:
        return re.findall(r"<li>.*?</li>", visitor.get("/cart/").content.decode())

    healthy = lines()
    _switch(inventory_per_item=True)
    assert lines() == healthy
    assert all(re.search(r"\([1-9]\d+ in stock\)", line) for line in healthy)
    assert len(healthy) == 3


@pytest.mark.parametrize("data", [{"product": "x"}, {"product": "1", "quantity": "99"}])
def test_a_wrong_cart_is_refused(visitor: Any, data: dict[str, str]) -> None:
    assert visitor.post("/cart/add/", data).status_code == 400


@pytest.mark.parametrize("step", ["shipping", "payment", "purchase"])
def test_a_step_without_its_predecessor_is_refused(visitor: Any, step: str) -> None:
    assert visitor.post(f"/checkout/{step}/", {"country": "DE"}).status_code == 400


def test_posts_without_a_csrf_token_are_refused() -> None:
    from django.test import Client

    strict = Client(enforce_csrf_checks=True)
    assert strict.post("/cart/add/", {"product": 1}).status_code == 403


def test_the_switches_need_the_token_and_this_machine(visitor: Any) -> None:
    assert visitor.get("/ops/faults").status_code == 401
    far = visitor.get("/ops/faults", REMOTE_ADDR="10.0.0.7", **OPS)
    assert far.status_code == 403


@pytest.mark.parametrize(
    "body", ["[]", "nonsense", '{"unknown": true}', '{"n_plus_one": "yes"}', '{"n_plus_one": 1}']
)
def test_wrong_switches_change_nothing(visitor: Any, body: str) -> None:
    answer = visitor.post("/ops/faults", body, "application/json", **OPS)
    assert answer.status_code == 400
    assert not any(visitor.get("/ops/faults", **OPS).json()["faults"].values())


def test_the_measuring_script_is_on_the_page_when_beacons_have_a_destination(visitor: Any) -> None:
    from django.test import override_settings

    assert b"PerformanceObserver" not in visitor.get("/products/").content
    with override_settings(WARROOM_RUM_URL="/rum</script>"):
        page = visitor.get("/products/").content.decode()
    assert "PerformanceObserver" in page
    assert '"page": "/products/"' in page
    assert '"/rum\\u003c/script>"' in page


def test_beacons_that_are_no_json_are_refused(visitor: Any) -> None:
    assert visitor.post("/rum", "{", "text/plain").status_code == 400
    assert visitor.post("/rum", "[" + " " * 70_000 + "]", "text/plain").status_code == 413
