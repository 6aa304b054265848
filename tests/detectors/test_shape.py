from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.traces.call_shape import normalise_call
from detectors.traces.normaliser import Normaliser, normalise_statement
from detectors.traces.shape import Category

SYSTEMS = ("", "mysql", "postgresql", "sqlite", "redis", "memcached", "mongodb", "elasticsearch")


@pytest.mark.parametrize(
    ("system", "one", "other"),
    [
        (
            "mysql",
            "SELECT a FROM b WHERE id = 7",
            "SELECT  a FROM b\n WHERE id = 8 -- x",
        ),
        ("mysql", 'SELECT a FROM b WHERE n = "it"', "SELECT a FROM b WHERE n = 'x''y'"),
        ("postgresql", "SELECT a FROM b WHERE id IN ($1, $2)", "SELECT a FROM b WHERE id IN ($1)"),
        ("sqlite", "SELECT a FROM b WHERE id IN (1, 2, 3)", "SELECT a FROM b WHERE id IN (?)"),
        ("mysql", "INSERT INTO a (x) VALUES (1), (2)", "INSERT INTO a (x) VALUES (%s)"),
        ("mysql", "SELECT 1 /*route='a'*/", "SELECT 2 /*route='b',x='1'*/"),
        ("mysql", "SELECT a FROM b WHERE c = @p1", "SELECT a FROM b WHERE c = :name"),
        ("redis", "GET product:1:de", "GET product:22:de"),
        (
            "redis",
            "GET s:8f14e45fceea167a5a36dedd4bea2543",
            "GET s:c9f0f895fb98ab9159f51fd0297e236d",
        ),
        ("mongodb", '{"find": "p", "filter": {"id": 1}}', '{"find": "p", "filter": {"id": 2}}'),
        ("mysql", "SELECT a, b FROM c WHERE id = 7", "select a,b from c where id=7"),
        (
            "mysql",
            "UPDATE a SET b = 1 WHERE c IN (1) AND d <= 2",
            "update a set b=%s where c in(%s, %s) and d<=%s",
        ),
        (
            "postgresql",
            "SELECT COUNT(*) FROM a WHERE b = ANY ($1) ORDER BY c DESC",
            "select count( * ) from a where b=any($1) order by c desc",
        ),
    ],
)
def test_texts_that_differ_in_values_or_spelling_have_one_shape(
    system: str, one: str, other: str
) -> None:
    assert normalise_statement(system, one).text == normalise_statement(system, other).text


@pytest.mark.parametrize(
    "text",
    [
        'SELECT "from", `select`, [Order by] FROM a',
        "SELECT a.order, a.count FROM a",
        "SELECT a->>b, a@>b, a<->b, a||b FROM c",
        "SELECT selection, orders FROM a",
    ],
)
def test_names_and_operators_of_one_server_are_spelt_as_they_came(text: str) -> None:
    assert normalise_statement("postgresql", text).text == text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://a/items/1", "http://a/items/2?"),
        ("http://a/items/1.json", "http://a/items/22.json"),
        ("http://u:p@a/x/123e4567-e89b-12d3-a456-426614174000", "http://a/x/123e4567-e89b-12d3-a456-426614174001"),
        ("http://a/s?q=red&page=1", "http://a/s?page=2&q=blue"),
    ],
)  # fmt: skip
def test_urls_that_differ_in_ids_have_one_shape(one: str, other: str) -> None:
    assert normalise_call("GET", one, "", "").text == normalise_call("GET", other, "", "").text


def test_versions_in_urls_are_kept_and_credentials_are_not() -> None:
    shape = normalise_call("get", "https://user:secret@api/v2/users/9", "", "")
    assert shape.text == "GET api/v2/users/*"
    assert shape.key == "9"


def test_identifiers_with_digits_and_casts_are_kept() -> None:
    shape = normalise_statement(
        "postgresql", 'SELECT t1."a2"::int4 FROM tenant_7.t1 WHERE t1.id = 5'
    )
    assert shape.text == 'SELECT t1."a2"::int4 FROM tenant_7.t1 WHERE t1.id = ?'
    assert (shape.key, shape.column, shape.operation) == ("5", "id", "SELECT")


def test_the_key_is_kept_where_the_text_tells_it_and_unknown_where_not() -> None:
    assert normalise_statement("mysql", "SELECT a FROM b WHERE id = 5 LIMIT 21").key == "5"
    assert normalise_statement("mysql", "SELECT a FROM b WHERE id = %s LIMIT 21").key is None


@pytest.mark.parametrize(
    "text", ["BEGIN", "COMMIT", "SAVEPOINT x", "SET autocommit = 1", "connect"]
)
def test_control_statements_are_told_apart(text: str) -> None:
    assert normalise_statement("mysql", text).category is Category.CONTROL


@given(st.sampled_from(SYSTEMS), st.text(max_size=300))
def test_any_text_has_a_shape(system: str, text: str) -> None:
    shape = normalise_statement(system, text)
    assert shape == normalise_statement(system, text)
    assert shape.list_size >= 0


@given(st.text(max_size=8), st.text(max_size=200), st.text(max_size=20), st.text(max_size=20))
def test_any_call_has_a_shape(method: str, url: str, name: str, host: str) -> None:
    assert normalise_call(method, url, name, host).category is Category.CALL


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=30))
def test_literals_never_reach_the_shape(values: list[int]) -> None:
    text = f"SELECT a FROM b WHERE id IN ({', '.join(map(str, values))})"
    shape = normalise_statement("mysql", text)
    assert shape.text == "SELECT a FROM b WHERE id IN (?)"
    assert shape.list_size == len(values)


@pytest.mark.parametrize(
    "piece", ["'", '"', "/*", "(", "?,", "IN (", "\\'", "%(", "1e", "-- ", "[", "a1-"]
)
@pytest.mark.parametrize("system", SYSTEMS)
def test_hostile_text_takes_linear_time(system: str, piece: str) -> None:
    started = time.perf_counter()
    normalise_statement(system, piece * 20_000)
    assert time.perf_counter() - started < 2


def test_the_cache_is_bounded() -> None:
    normaliser = Normaliser(cache_size=10)
    for number in range(100):
        normaliser.statement("mysql", f"SELECT {number}")
    assert normaliser.remembered == 10


def test_long_texts_are_not_remembered() -> None:
    normaliser = Normaliser()
    for number in range(10):
        normaliser.statement("mysql", f"SELECT {number} FROM t WHERE a = '{'x' * 100_000}'")
        normaliser.call("GET", f"http://a/{number}?q={'x' * 100_000}", "GET", "")
    assert normaliser.remembered == 0
