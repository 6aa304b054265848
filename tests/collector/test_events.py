"""Business events over a real server: forms, checks, money, limits."""

from __future__ import annotations

import json
from contextlib import suppress
from decimal import Decimal
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.cloudevents import decode_events, split_events
from collector.receivers.events import routes
from store.errors import BadInput, Overloaded

NOW_MS = 1_790_000_000_000


def event(event_id: str = "e1", kind: str = "purchase", **data: Any) -> dict[str, Any]:
    if kind == "purchase":
        data = {"transaction_id": "o1", "value": "19.90", "currency": "EUR", **data}
    return {"specversion": "1.0", "id": event_id, "source": "shop", "type": kind, "data": data}


@pytest.fixture
def url(pipeline: Any, serve: Any) -> str:
    return f"{serve(routes(pipeline))}/events"


def post(url: str, body: Any, content_type: str = "application/json", **headers: str) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(url, content=content, headers={"Content-Type": content_type, **headers})


@pytest.mark.parametrize(
    ("content_type", "body", "count"),
    [
        ("application/cloudevents+json", event(), 1),
        ("application/cloudevents-batch+json", [event("a"), event("b")], 2),
        ("application/json", event(), 1),
        ("application/json; charset=utf-8", [event("a"), event("b")], 2),
        (
            "application/x-ndjson",
            "\n".join(json.dumps(event(i)) for i in "abc").encode() + b"\n\n",
            3,
        ),
    ],
)
def test_every_form_is_taken(
    url: str, appender: Any, content_type: str, body: Any, count: int
) -> None:
    response = post(url, body, content_type)
    assert response.status_code == 202
    assert response.json()["accepted"] == count
    assert len(appender.events()) == count


def test_binary_mode_reads_the_headers(url: str, appender: Any) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "b1", "ce-source": "shop", "ce-type": "view_item"}
    response = post(url, {"session_id": "s"}, "application/json", **headers)
    assert response.status_code == 202
    (row,) = appender.events()
    assert (row["event_id"], row["type"], row["session_id"]) == ("b1", "view_item", "s")


def test_the_fields_reach_their_columns(url: str, appender: Any) -> None:
    body = event(
        session_id="s1",
        checkout_id="c1",
        device="Mobile",
        channel="ads",
        country="DE",
        returning=True,
        bot=False,
        test="true",
        trace_id="0af7651916cd43dd8448eb211c80319c",
        items=[{"item_id": "p1", "price": 9.95}],
    )
    body["time"] = "2026-09-21T14:13:20.123+02:00"
    assert post(url, body).status_code == 202
    (row,) = appender.events()
    assert row["ts_ms"] == 1_789_992_800_123
    assert row["amount"] == Decimal("19.9000")
    assert (row["currency"], row["order_id"], row["device"]) == ("EUR", "o1", "mobile")
    assert (row["returning"], row["bot"], row["test"]) == (True, False, True)
    assert row["trace_id"].hex() == "0af7651916cd43dd8448eb211c80319c"
    assert json.loads(row["data"]) == {"items": [{"item_id": "p1", "price": "9.95"}]}


def test_money_is_exact_even_when_sent_as_a_json_number(url: str, appender: Any) -> None:
    body = json.dumps(event()).replace('"19.90"', "9007199254740.9931").encode()
    assert post(url, body).status_code == 202
    assert appender.events()[0]["amount"] == Decimal("9007199254740.9931")


@pytest.mark.parametrize("value", ["10.50", "-10.50"])
def test_what_was_given_back_counts_the_same_with_a_minus(
    url: str, appender: Any, value: str
) -> None:
    body = event(value=value) | {"type": "refund"}
    assert post(url, body).status_code == 202
    assert appender.events()[0]["amount"] == Decimal("10.50")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"id": ""}, "id must be"),
        ({"id": "x" * 257}, "id must be"),
        ({"source": 3}, "source must be"),
        ({"type": "login"}, "type 'login' is unknown"),
        ({"type": {}}, "is unknown"),
        ({"data": [1]}, "data must be"),
        ({"time": "yesterday"}, "RFC 3339"),
        ({"time": "2026-09-21T14:13:20"}, "RFC 3339"),
        ({"time": "2026-09-22T14:13:20Z"}, "future"),
        ({"time": "2024-09-22T14:13:20Z"}, "400 days"),
        ({"data": {"transaction_id": "o"}}, "a purchase needs"),
        ({"data": {"transaction_id": "o", "value": 1}}, "needs data.currency"),
        ({"data": {"transaction_id": "o", "value": 1, "currency": "EURO"}}, "ISO 4217"),
        ({"data": {"transaction_id": "o", "value": "NaN", "currency": "EUR"}}, "0 or more"),
        ({"data": {"transaction_id": "o", "value": -1, "currency": "EUR"}}, "0 or more"),
        ({"data": {"transaction_id": "o", "value": "1e99", "currency": "EUR"}}, "10^13"),
        ({"data": {"transaction_id": "o", "value": True, "currency": "EUR"}}, "decimal"),
        ({"data": {"transaction_id": "o", "value": "ten", "currency": "EUR"}}, "decimal"),
        ({"type": "refund", "data": {"session_id": {}}}, "data.session_id"),
        ({"type": "refund", "data": {"bot": "perhaps"}}, "true or false"),
    ],
)
def test_a_bad_event_is_rejected_with_its_place_and_the_others_are_kept(
    url: str, appender: Any, change: dict[str, Any], says: str
) -> None:
    response = post(url, [event("good"), {**event("bad"), **change}])
    assert response.status_code == 202
    answer = response.json()
    assert answer["accepted"] == 1
    assert answer["rejected"][0]["index"] == 1
    assert says in answer["rejected"][0]["reason"]
    assert [row["event_id"] for row in appender.events()] == ["good"]


def test_a_broken_line_costs_only_itself(url: str) -> None:
    body = json.dumps(event()).encode() + b"\n{broken\n\xff\xff"
    answer = post(url, body, "application/x-ndjson").json()
    assert answer["accepted"] == 1
    assert [item["index"] for item in answer["rejected"]] == [1, 2]


def test_when_nothing_can_be_taken_it_is_400(url: str) -> None:
    response = post(url, [{**event(), "type": "x"}])
    assert response.status_code == 400
    assert "none of the events" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"[1e999999999999999999]", "application/json", 400),
        (b"NaN", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"9" * 5000, "application/json", 400),
        (b"{}", "text/plain", 415),
        (b" " * (6 << 20), "application/json", 413),
        (b"{}\n" * 10_001, "application/x-ndjson", 400),
    ],
)
def test_an_unreadable_request_is_refused(
    url: str, body: bytes, content_type: str, status: int
) -> None:
    response = post(url, body, content_type)
    assert response.status_code == status
    assert response.json()["error"]["message"]


def test_the_same_id_twice_counts_once(url: str, appender: Any) -> None:
    answer = post(url, [event("a"), event("a")]).json()
    assert (answer["accepted"], answer["duplicates"]) == (1, 1)
    assert len(appender.events()) == 1


def test_overload_asks_for_a_retry(url: str, appender: Any) -> None:
    appender.refuse_with = Overloaded("full", retry_after_s=3)
    response = post(url, event())
    assert response.status_code == 429
    assert response.headers["retry-after"] == "3"


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "specversion",
                    "id",
                    "source",
                    "type",
                    "data",
                    "time",
                    "value",
                    "bot",
                    "currency",
                    "session_id",
                    "trace_id",
                    "x",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)


@given(st.lists(json_values | st.builds(lambda d: {**event(), "data": d}, json_values), max_size=5))
def test_no_event_breaks_the_decoder(values: list[Any]) -> None:
    decoded = decode_events(values, NOW_MS)
    assert len(decoded.batch) + len(decoded.rejected) + decoded.duplicates == len(values)


@given(st.binary(max_size=200), st.sampled_from(["application/json", "application/x-ndjson"]))
def test_no_bytes_break_the_decoder(body: bytes, content_type: str) -> None:
    with suppress(BadInput):
        decode_events(split_events(body, content_type, {}), NOW_MS)
