"""A fix in the terms of the user's own stack: ORM, cache client and task queue of their language.

Detectors write fixes for Django. Which ORM a service has its spans tell: the SDK names the
language, each instrumentation its library. An ORM is named only where its spans were seen; anywhere
else the fix speaks of SQL, and of what the language itself brings.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from detectors.finding import Finding
from store.errors import StoreUnavailable
from store.ports import SpanReader

_MAX_SERVICES = 1_000
# Findings that one look asks for, and traces of one service that it reads.
_MAX_LOOKED_AT, _MAX_OF_A_SERVICE = 100, 3
_COLUMN = re.compile(r"\bWHERE\b.*?(\w+)[\"`\]]?\s*=\s*(?:\?|%s|\$\d|:\w+)", re.IGNORECASE)
_TABLE = re.compile(r"\b(?:FROM|INTO|UPDATE)\s+[\"`\[]?([\w.]+)", re.IGNORECASE)
_METHODS = ("GET ", "POST ", "PUT ")
_WRITES = ("INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE")

# Marks of an instrumentation's scope, by language, the more telling first.
_TOOLS: tuple[tuple[str, str, str], ...] = (
    ("python", "django", "django"),
    ("python", "sqlalchemy", "sqlalchemy"),
    ("ruby", "activerecord", "rails"),
    ("ruby", "rails", "rails"),
    ("java", "hibernate", "hibernate"),
    ("php", "laravel", "laravel"),
    ("php", "doctrine", "doctrine"),
    ("nodejs", "prisma", "prisma"),
    ("nodejs", "typeorm", "typeorm"),
    ("nodejs", "sequelize", "sequelize"),
    ("dotnet", "entityframework", "efcore"),
    ("go", "gorm", "gorm"),
)
# Tool or language -> case -> fix; `{table}` and `{column}` are those of the statement.
_FIXES: Mapping[str, Mapping[str, str]] = {
    "sqlalchemy": {
        "one": "Load {table} with the list: options(joinedload(…)), or one IN query.",
        "many": "Load {table} of all objects in one query: options(selectinload(…)).",
        "write": "Write the rows of the loop at once: session.execute(insert(…), rows).",
        "repeated": "Ask once: session.get() caches by key; else functools.cache.",
        "pages": "Read once: yield_per(2000) streams; seek by key instead of OFFSET.",
    },
    "rails": {
        "queries": "Run them at the same time (load_async), or join them into one query.",
        "one": "Load {table} with the list: .includes(:{singular}) (or .preload).",
        "many": "Load {table} of all objects in one query: .includes(:{relation}).",
        "write": "Write the rows of the loop at once: insert_all, upsert_all or update_all.",
        "repeated": "Ask once for the request: @value ||= …, or Rails.cache.fetch.",
        "pages": "Read in batches by key: find_each(batch_size: 2000) instead of OFFSET.",
        "cache": "Rails.cache.read_multi / fetch_multi / write_multi once (MGET).",
        "call": "Call a bulk endpoint once with all ids; until then Typhoeus::Hydra.",
        "blocking": "Do it behind the answer: perform_later (Active Job, Sidekiq).",
    },
    "hibernate": {
        "one": "Load {table} with the list: JOIN FETCH, or an @EntityGraph.",
        "many": "Load {table} of all objects in one query: JOIN FETCH, @EntityGraph, or "
        "@BatchSize / hibernate.default_batch_fetch_size.",
        "write": "Write in batches: hibernate.jdbc.batch_size with saveAll, or one bulk JPQL.",
        "repeated": "Ask once: the second-level or query cache, or @Cacheable.",
        "pages": "Read once: a ScrollableResults or Slice by key instead of OFFSET.",
    },
    "laravel": {
        "calls": "Send them at the same time (Http::pool), or ask one endpoint for all.",
        "one": "Load {table} with the list: ->with('{singular}').",
        "many": "Load {table} of all objects in one query: ->with('{relation}'); "
        "Model::preventLazyLoading() finds more.",
        "write": "Write the rows of the loop at once: insert([...]) or upsert([...]).",
        "repeated": "Ask once for the request: once(fn), or Cache::remember.",
        "pages": "Read in batches by key: lazyById(2000) instead of OFFSET.",
        "cache": "Cache::many($keys) / Cache::putMany once (MGET).",
        "call": "Call a bulk endpoint once with all ids; until then Http::pool.",
        "blocking": "Do it behind the answer: dispatch() to a queue, or dispatchAfterResponse().",
    },
    "doctrine": {
        "one": "Load {table} with the list: a JOIN with addSelect, or fetch=\"EAGER\".",
        "many": "Load {table} of all objects in one query: a JOIN with addSelect.",
        "write": "Flush once after the loop, not in it.",
        "repeated": "Ask once: the result cache, or keep it for the request.",
        "pages": "Read once: toIterable(), by key instead of OFFSET.",
    },
    "prisma": {
        "one": "Load {table} with the list: include: {{ {singular}: true }}.",
        "many": "Load {table} of all objects in one query: include, or {column}: {{ in: ids }}.",
        "write": "Write the rows of the loop at once: createMany or updateMany.",
    },
    "typeorm": {
        "one": "Load {table} with the list: relations, or leftJoinAndSelect.",
        "many": "Load {table} of all objects in one query: relations, or In(ids).",
        "write": "Write the rows of the loop at once: insert([...]) or save([...]).",
    },
    "sequelize": {
        "one": "Load {table} with the list: include.",
        "many": "Load {table} of all objects in one query: include with separate: true.",
        "write": "Write the rows of the loop at once: bulkCreate.",
    },
    "nodejs": {
        "queries": "Run them at the same time (Promise.all), or join them into one query.",
        "calls": "Send them at the same time (Promise.all), or ask one endpoint for all.",
        "one": "Load {table} with the list: a JOIN, or one WHERE {column} IN (…) by a DataLoader.",
        "many": "Load {table} of all objects in one query: WHERE {column} IN (…) by a DataLoader.",
        "write": "Write the rows of the loop in one statement.",
        "repeated": "Ask once for the request: a DataLoader or a Map keeps the answer.",
        "pages": "Read once with a cursor or a stream; seek by key instead of OFFSET.",
        "cache": "client.mGet(keys) once, or a pipeline (multi().exec()).",
        "call": "Call a bulk endpoint once with all ids; until then Promise.all.",
        "blocking": "Do it behind the answer: a job queue such as BullMQ.",
    },
    "efcore": {
        "one": "Load {table} with the list: .Include(x => x.{Singular}).",
        "many": "Load {table} of all objects in one query: .Include(…), .AsSplitQuery().",
        "write": "Write the rows of the loop at once: AddRange and one SaveChanges.",
        "repeated": "Ask once: Find() answers from the context; else IMemoryCache.",
        "pages": "Read once: AsAsyncEnumerable; seek by key instead of Skip.",
    },
    "gorm": {
        "one": "Load {table} with the list: Preload or Joins.",
        "many": "Load {table} of all objects in one query: Preload, or WHERE {column} IN ?.",
        "write": "Write the rows of the loop at once: CreateInBatches.",
        "repeated": "Ask once for the request and keep the answer in its context.",
        "pages": "Read once: Rows() or FindInBatches; seek by key instead of OFFSET.",
    },
    "python": {
        "queries": "Run them at the same time (asyncio.gather, threads), or join them into one.",
        "calls": "Send them at the same time (asyncio.gather, threads), or ask one endpoint.",
        "repeated": "Ask once for the request: keep the answer, or functools.cache its lookup.",
        "call": "Call a bulk endpoint once with all ids; until then asyncio.gather or threads.",
        "blocking": "Do it behind the answer: a task queue such as Celery.",
    },
    "java": {
        "queries": "Run them at the same time (CompletableFuture), or join them into one query.",
        "calls": "Send them at the same time (CompletableFuture.allOf), or ask one endpoint.",
        "call": "Call a bulk endpoint once with all ids; until then CompletableFuture.allOf.",
        "blocking": "Do it behind the answer: an outbox or a message queue.",
    },
    "dotnet": {
        "queries": "Run them at the same time (Task.WhenAll, a context each), or join them.",
        "calls": "Send them at the same time (Task.WhenAll), or ask one endpoint for all.",
        "call": "Call a bulk endpoint once with all ids; until then Task.WhenAll.",
        "blocking": "Do it behind the answer: a hosted service or a message queue.",
    },
    "go": {
        "queries": "Run them at the same time (an errgroup), or join them into one query.",
        "calls": "Send them at the same time (an errgroup), or ask one endpoint for all.",
        "repeated": "Ask once for the request and keep the answer in its context.",
        "call": "Call a bulk endpoint once with all ids; until then an errgroup.",
        "blocking": "Do it behind the answer: a queue; a goroutine is lost with the process.",
    },
}  # fmt: skip
# Where nothing more is known.
_PLAIN: Mapping[str, str] = {
    "one": "Load {table} with the list: a JOIN, or one query WHERE {column} IN (…).",
    "many": "Load {table} of all objects in one query: WHERE {column} IN (…).",
    "write": "Write the rows of the loop in one statement, or in one batch.",
    "repeated": "Ask once for the request and keep the answer.",
    "pages": "Read once with a cursor; seek by key (WHERE id > last) instead of OFFSET.",
    "cache": "Ask for all keys at once: MGET (or MSET), or a pipeline.",
    "call": "Call a bulk endpoint once with all ids; until then send the calls at the same time.",
    "blocking": "Do it behind the answer: a task queue.",
    "queries": "Run them at the same time, or join them into one query.",
    "calls": "Send them at the same time, or ask one endpoint for all.",
    "call_pages": "Ask for larger pages, or use an endpoint that sends the whole list at once.",
}
_CASES = {
    "n_plus_one_call": "call",
    "n_plus_one_cache": "cache",
    "repeated_query": "repeated",
    "paginated_loop": "pages",
    "consecutive_queries": "queries",
    "consecutive_calls": "calls",
    "blocking_call": "blocking",
}


@dataclass(frozen=True, slots=True)
class Stack:
    """What a service is written with; empty where nothing tells.

    Attributes:
        tool: The ORM, or the framework that brings one, whose spans were seen.
    """

    language: str = ""
    tool: str = ""


def stack_of(spans: pa.Table, service: str) -> Stack:
    """The stack that the spans of a service tell."""
    mine: Any = spans.filter(pc.equal(spans["service"], pa.scalar(service)))
    language = next(
        (
            str(found)
            for text in pc.unique(mine["resource"]).to_pylist()
            if (found := _object(text).get("telemetry.sdk.language"))
        ),
        "",
    )
    scopes = " ".join(str(s) for s in pc.unique(mine["scope"]).to_pylist() if s).lower()
    plain = scopes.replace("_", "").replace("entity framework", "entityframework")
    for of, mark, tool in _TOOLS:
        if language in {"", of} and mark in plain:
            return Stack(of, tool)
    return Stack(language)


def fix_in(stack: Stack, finding: Finding) -> str:
    """The fix in the words of a stack; of Django they are the detector's own."""
    case = _CASES.get(finding.kind)
    if case is None:
        if finding.kind != "n_plus_one_query":
            return finding.fix
        case = _query_case(finding.evidence.statement)
    if case == "pages" and finding.evidence.statement.startswith(_METHODS):
        return _PLAIN["call_pages"]
    if stack.tool == "django":
        return finding.fix
    for words in (_FIXES.get(stack.tool, {}), _FIXES.get(stack.language, {}), _PLAIN):
        if case in words:
            return words[case].format(**_words(finding.evidence.statement))
    return finding.fix


class StackAdvisor:
    """Says fixes in the terms of each service.

    The stack of a service is kept (bounded) once an ORM's spans proved it. A trace without them,
    such as an incomplete one, proves nothing: there the next finding is looked at again.
    """

    def __init__(self, spans: SpanReader) -> None:
        self._spans = spans
        self._proven: OrderedDict[str, Stack] = OrderedDict()

    def advise(self, findings: Sequence[Finding]) -> list[Finding]:
        """The findings with fixes in the terms of their services, in one look at their traces."""
        traced = [finding for finding in findings if finding.evidence.trace_id]
        known = self._looked_up(traced)
        return [
            replace(finding, fix=fix_in(known.get(finding.service, Stack()), finding))
            if finding.evidence.trace_id
            else finding
            for finding in findings
        ]

    def _looked_up(self, findings: Sequence[Finding]) -> dict[str, Stack]:
        services = {finding.service for finding in findings}
        known = {name: stack for name in services if (stack := self._proven.get(name)) is not None}
        wanted = _to_look_at([one for one in findings if one.service not in known])
        if not wanted:
            return known
        try:
            spans = self._spans.traces(list(set().union(*wanted.values())))
        except StoreUnavailable:
            return known  # plain words will do until the next finding
        for service in wanted:
            known[service] = stack_of(spans, service)
            if known[service].tool:
                self._proven[service] = known[service]
        while len(self._proven) > _MAX_SERVICES:
            self._proven.popitem(last=False)
        return known


def _to_look_at(findings: Sequence[Finding]) -> dict[str, set[bytes]]:
    """Ids of some traces of each service."""
    wanted: dict[str, set[bytes]] = {}
    for finding in islice(findings, _MAX_LOOKED_AT):
        ids = wanted.setdefault(finding.service, set())
        if len(ids) < _MAX_OF_A_SERVICE:
            ids.add(bytes.fromhex(finding.evidence.trace_id))
    return wanted


def _query_case(statement: str) -> str:
    if statement.lstrip().upper().startswith(_WRITES):
        return "write"
    return "many" if _words(statement)["column"].endswith("_id") else "one"


def _words(statement: str) -> dict[str, str]:
    table, column = _TABLE.search(statement), _COLUMN.search(statement)
    name = (table[1] if table else "the rows").rpartition(".")[2]
    relation = name.rpartition("_")[2] if name else name
    singular = relation.removesuffix("s")
    return {
        "table": name,
        "column": column[1] if column else "id",
        "relation": relation,
        "singular": singular,
        "Singular": singular.capitalize(),
    }


def _object(text: str | None) -> dict[str, Any]:
    try:
        found = orjson.loads(text) if text else None
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
