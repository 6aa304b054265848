"""OTLP/HTTP bodies of a Django shop: requests with ORM and cache spans, one in ten with an N+1."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span

from bench.wire import post

BODY_SPANS = 512  # what the SDK's batch processor sends at once by default
_SERVER, _CLIENT = Span.SpanKind.SPAN_KIND_SERVER, Span.SpanKind.SPAN_KIND_CLIENT
_ROUTES = ("product/<slug>/", "category/<slug>/", "cart/", "checkout/", "search/")
_QUERIES = (
    'SELECT "shop_product"."id", "shop_product"."name" FROM "shop_product" WHERE'
    ' "shop_product"."slug" = %s LIMIT 21',
    'SELECT "shop_price"."id", "shop_price"."amount" FROM "shop_price" WHERE'
    ' "shop_price"."product_id" = %s',
    'SELECT COUNT(*) AS "__count" FROM "shop_review" WHERE "shop_review"."product_id" = %s',
    'UPDATE "shop_cart" SET "touched" = %s WHERE "shop_cart"."id" = %s',
)
_LOOP = (
    'SELECT "shop_supplier"."id", "shop_supplier"."name" FROM "shop_supplier" WHERE'
    ' "shop_supplier"."id" = %s LIMIT 21'
)
_N_PLUS_ONE_EVERY = 10
_LOOPS = 24
_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Bodies:
    """Requests, and how many spans they hold."""

    requests: list[bytes]
    spans: int


def bodies(spans: int, seed: int) -> Bodies:
    """At least so many spans in whole traces that end now."""
    traces = _traces(random.Random(seed))
    made: list[bytes] = []
    count = 0
    while count < spans:
        message = ExportTraceServiceRequest()
        resource = message.resource_spans.add()
        _attribute(resource.resource, "service.name", "shop")
        _attribute(resource.resource, "service.instance.id", f"web-{len(made) % 4}")
        scope = resource.scope_spans.add()
        scope.scope.name = "opentelemetry.instrumentation.django"
        while len(scope.spans) < BODY_SPANS:
            next(traces).add_to(scope)
        count += len(scope.spans)
        made.append(post("/v1/traces", message.SerializeToString(), "application/x-protobuf"))
    return Bodies(made, count)


class _Trace:
    """One request of the shop."""

    def __init__(self, rng: random.Random, number: int) -> None:
        self._rng = rng
        self._number = number
        self._trace_id = rng.randbytes(16)
        self._root = rng.randbytes(8)
        self._start = time.time_ns() - 500 * _MS

    def add_to(self, scope: ScopeSpans) -> None:
        route = _ROUTES[self._number % len(_ROUTES)]
        looping = self._number % _N_PLUS_ONE_EVERY == 0
        statements = [*self._rng.choices(_QUERIES, k=6), *([_LOOP] * _LOOPS if looping else [])]
        at = self._start + _MS
        for statement in statements:
            at = self._query(scope, statement, at)
        at = self._cache(scope, at)
        root = scope.spans.add()
        root.trace_id, root.span_id = self._trace_id, self._root
        root.name, root.kind = f"GET {route}", _SERVER
        root.start_time_unix_nano, root.end_time_unix_nano = self._start, at + _MS
        for key, value in (
            ("http.method", "GET"),
            ("http.route", route),
            ("http.target", f"/{route.replace('<slug>', f'item-{self._number % 5000}')}"),
            ("http.host", "shop.example"),
        ):
            _attribute(root, key, value)
        status = root.attributes.add(key="http.status_code")
        status.value.int_value = 200

    def _child(self, scope: ScopeSpans, name: str, at: int, took: int) -> Span:
        span: Span = scope.spans.add()
        span.trace_id, span.span_id, span.parent_span_id = (
            self._trace_id,
            self._rng.randbytes(8),
            self._root,
        )
        span.name, span.kind = name, _CLIENT
        span.start_time_unix_nano, span.end_time_unix_nano = at, at + took
        return span

    def _query(self, scope: ScopeSpans, statement: str, at: int) -> int:
        took = self._rng.randrange(_MS // 2, 3 * _MS)
        span = self._child(scope, statement.split(" ", 1)[0], at, took)
        for key, value in (
            ("db.system", "postgresql"),
            ("db.name", "shop"),
            ("db.statement", statement),
            ("code.function", "shop.views.product"),
            ("code.filepath", "shop/views.py"),
        ):
            _attribute(span, key, value)
        return at + took

    def _cache(self, scope: ScopeSpans, at: int) -> int:
        span = self._child(scope, "GET", at, _MS // 4)
        _attribute(span, "db.system", "redis")
        _attribute(span, "db.statement", f"GET shop:product:{self._number % 5000}")
        return at + _MS // 4


def _traces(rng: random.Random) -> Iterator[_Trace]:
    number = 0
    while True:
        yield _Trace(rng, number)
        number += 1


def _attribute(holder: Span | Resource, key: str, value: str) -> None:
    holder.attributes.add(key=key).value.string_value = value
