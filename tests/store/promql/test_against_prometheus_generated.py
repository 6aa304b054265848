"""Queries that hypothesis makes up: engine and real Prometheus answer the same, errors too."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from store.errors import QueryError
from store.model import InstantVector, Labels
from store.promql.engine import Engine, ScalarResult
from tests.store.promql import query_grammar as grammar
from tests.store.promql.compared_world import END_MS, START_MS, odd_world, reader_of, world
from tests.store.promql.real_prometheus import Reply, Server, running, same, table

STEP_MS = 20_000
EXACT, ROUGH = 1e-12, 1e-9
Answer = dict[tuple[Labels, float], float] | str


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("prometheus"), [*world(), *odd_world()]) as server:
        yield server


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(reader_of([*world(), *odd_world()]))


def range_of(engine: Engine, query: str) -> Answer:
    try:
        matrix = engine.range(query, START_MS, END_MS, STEP_MS)
    except QueryError as error:
        return error.kind
    return {
        (labels, int(matrix.steps_ms[step]) / 1000): float(matrix.values[row, step])
        for row, labels in enumerate(matrix.series)
        for step in np.nonzero(matrix.present[row])[0].tolist()
    }


def instant_of(engine: Engine, query: str) -> Answer:
    try:
        result = engine.query(query, END_MS).result
    except QueryError as error:
        return error.kind
    if isinstance(result, ScalarResult):
        return {(Labels(), END_MS / 1000): result.value}
    assert isinstance(result, InstantVector)
    return {(labels, END_MS / 1000): value for labels, value in result.items()}


def answer_of(reply: Reply) -> Answer:
    if reply.json["status"] == "error":
        return str(reply.json["errorType"])
    data = reply.json["data"]
    match data["resultType"]:
        case "matrix":
            return table(data["result"])
        case "vector":
            return table(
                {"metric": row["metric"], "values": [row["value"]]} for row in data["result"]
            )
        case _:
            return {(Labels(), data["result"][0]): float(data["result"][1])}


def difference(ours: Answer, theirs: Answer, tolerance: float) -> str:
    """What is not the same; empty when nothing is."""
    if isinstance(ours, str) or isinstance(theirs, str):
        return "" if ours == theirs else f"ours {str(ours)[:300]}, theirs {str(theirs)[:300]}"
    if ours.keys() != theirs.keys():
        only = sorted(ours.keys() ^ theirs.keys())[:3]
        return f"only on one side: {only} (ours {[key in ours for key in only]})"
    # A difference of large numbers keeps the rounding of the large ones.
    largest = max((abs(v) for v in theirs.values() if np.isfinite(v)), default=0.0)
    least = 0.0 if tolerance == EXACT else largest * tolerance
    wrong = [
        (key, ours[key], value)
        for key, value in theirs.items()
        if not same(ours[key], value, tolerance, least)
    ]
    return f"{len(wrong)} values: {wrong[:3]}" if wrong else ""


def compare(prometheus: Server, engine: Engine, query: str, tolerance: float) -> None:
    there = query.replace("double_exponential_smoothing", "holt_winters")  # its name in 2.x
    asked = [("query", there), ("start", START_MS / 1000), ("end", END_MS / 1000)]
    reply = prometheus.get("query_range", [*asked, ("step", STEP_MS / 1000)])
    problem = difference(range_of(engine, query), answer_of(reply), tolerance)
    assert not problem, f"{query} (range): {problem}"
    reply = prometheus.get("query", [("query", there), ("time", END_MS / 1000)])
    problem = difference(instant_of(engine, query), answer_of(reply), tolerance)
    assert not problem, f"{query} (instant): {problem}"


QUERIES = st.one_of(
    grammar.exact_queries().map(lambda query: (query, EXACT)),
    grammar.rough_queries().map(lambda query: (query, ROUGH)),
)
GENERATED = settings(
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


# The same queries each time: what a change breaks is the change's own doing.
@settings(GENERATED, max_examples=200, derandomize=True, phases=[Phase.generate])
@given(case=QUERIES)
def test_generated_queries_answer_as_in_prometheus(
    prometheus: Server, engine: Engine, case: tuple[str, float]
) -> None:
    compare(prometheus, engine, *case)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@settings(GENERATED, max_examples=20_000)
@given(case=QUERIES)
def test_many_more_generated_queries_answer_as_in_prometheus(
    prometheus: Server, engine: Engine, case: tuple[str, float]
) -> None:
    compare(prometheus, engine, *case)
