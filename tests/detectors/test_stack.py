"""Fixes in the terms of the user's stack, and who calls whom: both are read off spans."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from typing_extensions import override

from detectors.finding import Evidence, Finding, Impact, Priority
from detectors.repository import FindingRepository
from detectors.runner import DetectorRunner
from detectors.stack import Stack, StackAdvisor, fix_in, stack_of
from detectors.topology import NO_CALLS, Relation, ServiceEdges, Topology
from detectors.traces.frame import build_frame
from detectors.traces.normaliser import Normaliser
from store.errors import StoreUnavailable
from store.testing import open_state
from tests.detectors.corpus import TraceBuilder, table
from tests.detectors.counters import Counters
from tests.detectors.stored_spans import StoredSpans

T0_MS = 1_700_000_000_000
DJANGO = "Load brand with the list: .select_related(…)"
BY_ID = "SELECT name FROM shop_brands WHERE id = ?"
BY_OWNER = 'SELECT * FROM "reviews" WHERE "product_id" = ?'


def finding(kind: str = "n_plus_one_query", statement: str = BY_ID) -> Finding:
    return Finding(
        "f1", kind, Priority.P1, "t", "shop", "products/", T0_MS, T0_MS,
        Evidence(trace_id="ab" * 16, statement=statement), Impact(), DJANGO,
    )  # fmt: skip


def spans(language: str, scope: str) -> list[dict[str, Any]]:
    trace = TraceBuilder(1)
    for turn in range(20):
        trace.query("SELECT name FROM shop_brands WHERE id = %s", 1 + turn * 8, 6)
    resource = json.dumps({"telemetry.sdk.language": language, "service.name": "shop"})
    return [{**row, "resource": resource, "scope": scope} for row in trace.rows]


@pytest.mark.parametrize(
    ("language", "scope", "tool"),
    [
        ("python", "opentelemetry.instrumentation.django", "django"),
        ("python", "opentelemetry.instrumentation.sqlalchemy", "sqlalchemy"),
        ("ruby", "OpenTelemetry::Instrumentation::ActiveRecord", "rails"),
        ("java", "io.opentelemetry.hibernate-6.0", "hibernate"),
        ("java", "io.opentelemetry.jdbc", ""),
        ("java", "io.opentelemetry.spring-data-1.8", ""),
        ("php", "io.opentelemetry.contrib.php.laravel", "laravel"),
        ("nodejs", "@prisma/instrumentation", "prisma"),
        ("php", "io.opentelemetry.contrib.php.symfony", ""),
        ("php", "io.opentelemetry.contrib.php.doctrine", "doctrine"),
        ("go", "github.com/XSAM/otelsql", ""),
        ("dotnet", "OpenTelemetry.Instrumentation.SqlClient", ""),
        ("python", "opentelemetry.instrumentation.asyncpg", ""),
        ("nodejs", "@opentelemetry/instrumentation-pg", ""),
        ("dotnet", "OpenTelemetry.Instrumentation.EntityFrameworkCore", "efcore"),
        ("go", "gorm.io/plugin/opentelemetry", "gorm"),
        ("", "", ""),
    ],
)
def test_the_stack_is_read_off_the_spans(language: str, scope: str, tool: str) -> None:
    stored = table(spans(language, scope))
    service = stored["service"][0].as_py()
    assert stack_of(stored, service) == Stack(language, tool)
    assert stack_of(stored, "another") == Stack()


@pytest.mark.parametrize(
    ("tool", "statement", "words"),
    [
        ("rails", BY_ID, ".includes(:brand)"),
        ("rails", BY_OWNER, ".includes(:reviews)"),
        ("hibernate", BY_OWNER, "@BatchSize"),
        ("laravel", BY_ID, "->with('brand')"),
        ("prisma", BY_OWNER, "product_id: { in: ids }"),
        ("efcore", BY_ID, ".Include(x => x.Brand)"),
        ("sqlalchemy", BY_OWNER, "selectinload"),
        ("gorm", "INSERT INTO line (a) VALUES (?)", "CreateInBatches"),
        ("django", BY_ID, "select_related"),
        ("", "UPDATE stock SET n = ? WHERE id = ?", "one statement"),
    ],
)
def test_the_fix_is_in_the_words_of_the_orm(tool: str, statement: str, words: str) -> None:
    assert words in fix_in(Stack("x", tool), finding(statement=statement))


def test_tools_without_words_of_their_own_borrow_those_of_their_language() -> None:
    assert "mGet" in fix_in(Stack("nodejs", "prisma"), finding("n_plus_one_cache"))
    assert "CompletableFuture" in fix_in(Stack("java", "hibernate"), finding("n_plus_one_call"))
    assert "MGET" in fix_in(Stack("php", "doctrine"), finding("n_plus_one_cache"))


def test_a_fix_without_a_case_keeps_the_detectors_words() -> None:
    assert fix_in(Stack("ruby", "rails"), finding("slow_query")) == DJANGO


ORMS = re.compile(
    r"select_related|prefetch|joinedload|selectinload|\.includes|JOIN FETCH|->with|addSelect"
    r"|\binclude|\.Include|Preload|InBatches|bulk_create|saveAll|insert_all|Http::|Cache::|Rails"
)


@pytest.mark.parametrize(
    "language", ["", "python", "java", "php", "nodejs", "dotnet", "go", "rust"]
)
@pytest.mark.parametrize(
    "kind",
    [
        *("n_plus_one_query", "n_plus_one_call", "n_plus_one_cache", "repeated_query"),
        *("paginated_loop", "blocking_call"),
    ],
)
def test_an_orm_that_was_not_seen_is_not_named(language: str, kind: str) -> None:
    for statement in (BY_ID, BY_OWNER, "INSERT INTO line (a) VALUES (?)"):
        fix = fix_in(Stack(language), finding(kind, statement))
        assert fix != DJANGO
        assert not ORMS.search(fix), fix


def test_an_incomplete_first_trace_decides_nothing_for_later_ones() -> None:
    stored = StoredSpans()
    advisor = StackAdvisor(stored)
    rows = spans("ruby", "OpenTelemetry::Instrumentation::PG")
    trace_id = rows[0]["trace_id"].hex()
    first = replace(finding(), service=rows[0]["service"], evidence=Evidence(trace_id=trace_id))
    stored.append(rows, T0_MS)
    (told,) = advisor.advise([first])
    assert "a JOIN" in told.fix
    stored.append(spans("ruby", "OpenTelemetry::Instrumentation::ActiveRecord")[:1], T0_MS)
    (told,) = advisor.advise([first])
    assert ".includes" in told.fix
    # What was proven stays, whatever the next trace lacks.
    elsewhere = replace(first, evidence=Evidence(trace_id="ee" * 16, statement=BY_ID))
    (told,) = advisor.advise([elsewhere])
    assert ".includes(:brand)" in told.fix


def test_two_services_of_one_trace_have_each_their_own_words() -> None:
    stored = StoredSpans()
    rows = spans("ruby", "OpenTelemetry::Instrumentation::ActiveRecord")
    other = [{**row, "service": "stock"} for row in spans("java", "io.opentelemetry.hibernate-6.0")]
    stored.append([*rows, *other], T0_MS)
    evidence = Evidence(trace_id=rows[0]["trace_id"].hex(), statement=BY_ID)
    asked = [
        replace(finding(), service=service, evidence=evidence)
        for service in (rows[0]["service"], "stock")
    ]
    rails, hibernate = StackAdvisor(stored).advise(asked)
    assert ".includes" in rails.fix
    assert "JOIN FETCH" in hibernate.fix


def test_a_finding_of_a_rails_shop_names_includes() -> None:
    stored = StoredSpans()
    runner = DetectorRunner(stored, Counters(), FindingRepository(open_state()))
    stored.append(spans("ruby", "OpenTelemetry::Instrumentation::ActiveRecord"), T0_MS)
    (found,) = runner.tick(T0_MS + 60_000).findings
    assert ".includes(:brand)" in found.fix


def test_a_store_that_does_not_answer_costs_only_the_words() -> None:
    class Broken(StoredSpans):
        @override
        def traces(self, trace_ids: Any) -> Any:
            raise StoreUnavailable("the disk is gone")

    signal = replace(finding(), evidence=Evidence(series="sig:lag"))
    told, same = StackAdvisor(Broken()).advise([finding(), signal])
    assert "a JOIN" in told.fix
    assert same == signal


def shop_calls() -> Topology:
    rows = []
    names = ["web", "checkout", "inventory"]
    for number, name in enumerate(names):
        builder = TraceBuilder(7)
        root = dict(builder.rows[0])
        root["service"] = name
        root["span_id"] = bytes([number + 1]) * 8
        root["parent_span_id"] = bytes([number]) * 8 if number else None
        rows.append(root)
    asks = dict(rows[-1])
    asks.update(span_id=b"q" * 8, parent_span_id=rows[-1]["span_id"], kind=3, server_address="db-2")
    rows.append(asks)
    edges = ServiceEdges()
    edges.observe(build_frame(table(rows), Normaliser()), T0_MS)
    return edges.topology(T0_MS)


def test_calls_between_services_and_to_hosts_are_seen() -> None:
    shop = shop_calls()
    assert shop.calls["web"] == {"checkout"}
    assert shop.calls["inventory"] == {"db-2"}
    assert shop.relation("checkout", "checkout") is Relation.SAME
    assert shop.relation("web", "db-2:3306") is Relation.CALLED
    assert shop.relation("web", "db-2") is Relation.CALLED
    assert shop.relation("inventory", "web") is Relation.CALLER
    assert shop.relation("web", "elsewhere") is Relation.UNKNOWN
    assert NO_CALLS.relation("web", "checkout") is Relation.UNKNOWN


def test_calls_are_forgotten_after_a_day_and_bounded() -> None:
    edges = ServiceEdges()
    rows = list(TraceBuilder(7).rows)
    edges.observe(build_frame(table(rows), Normaliser()), T0_MS)
    assert edges.topology(T0_MS + 86_400_001) == NO_CALLS


@pytest.mark.parametrize(
    ("kind", "statement", "language", "words"),
    [
        ("consecutive_queries", "SELECT a FROM b", "nodejs", "Promise.all"),
        ("consecutive_calls", "GET a/b", "go", "errgroup"),
        ("consecutive_calls", "GET a/b", "", "at the same time"),
        ("paginated_loop", "GET erp/orders?page", "python", "larger pages"),
        ("paginated_loop", "SELECT a FROM b LIMIT ? OFFSET ?", "go", "OFFSET"),
    ],
)
def test_chains_and_pages_are_mended_in_the_words_of_their_language(
    kind: str, statement: str, language: str, words: str
) -> None:
    assert words in fix_in(Stack(language), finding(kind, statement))
