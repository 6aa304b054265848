"""`/mcp`, asked by the protocol's own client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from api.mcp.tools import TOOLS
from tests.warroom.traces import product_list
from tests.warroom.world import NOW_MS, World

_RPC = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
_TRACE_WINDOW = {"start_us": NOW_MS * 1000 - 3_600_000_000, "end_us": NOW_MS * 1000 + 60_000_000}


@asynccontextmanager
async def assistant(world: World) -> AsyncIterator[Client]:
    transport = httpx2.ASGITransport(app=world.app)
    base = "http://127.0.0.1:8600"
    async with (
        httpx2.AsyncClient(transport=transport, base_url=base) as http,
        Client(streamable_http_client(f"{base}/mcp", http_client=http)) as client,
    ):
        yield client


def asked(world: World, question: Callable[[Client], Awaitable[Any]]) -> Any:
    async def ask() -> Any:
        async with assistant(world) as client:
            return await question(client)

    return world.run(ask())


def told(world: World, tool: str, **arguments: Any) -> Any:
    answer = asked(world, lambda client: client.call_tool(tool, arguments))
    assert not answer.is_error, answer.content
    return answer.structured_content


def refused(world: World, tool: str, **arguments: Any) -> str:
    answer = asked(world, lambda client: client.call_tool(tool, arguments))
    assert answer.is_error
    return str(answer.content[0].text)


def test_an_assistant_sees_every_tool_and_that_none_writes(still_world: World) -> None:
    listed = asked(still_world, lambda client: client.list_tools()).tools
    promised = {"slo_status", "alerts", "findings", "query_promql", "search_traces"}
    promised |= {"trace_summary", "funnel", "what_changed", "timeline", "data_freshness"}
    assert promised <= {tool.name for tool in listed}
    assert all(tool.annotations.read_only_hint for tool in listed)
    assert all(tool.description and tool.input_schema["type"] == "object" for tool in listed)


@pytest.mark.parametrize(
    "tool", [t.name for t in TOOLS if not any(a.required for a in t.arguments.values())]
)
def test_every_tool_that_needs_no_argument_answers_without_one(
    still_world: World, tool: str
) -> None:
    assert isinstance(told(still_world, tool), dict)


def test_the_cause_of_slow_pages_is_found_by_asking(world: World) -> None:
    world.ask("POST", "/v1/traces", json=product_list(NOW_MS))
    world.evaluate()
    finding = told(world, "findings", kind="n_plus_one_query")["findings"][0]
    trace_id = finding["evidence"]["trace_id"]
    traces = told(world, "search_traces", service=finding["service"], **_TRACE_WINDOW)["traces"]
    assert trace_id in {trace["trace_id"] for trace in traces}
    summary = told(world, "trace_summary", trace_id=trace_id)
    assert summary["repeated"][0]["times"] == finding["evidence"]["repetitions"]
    assert summary["repeated"][0]["example"]["statement"].startswith("SELECT")
    explained = told(world, "explain_trace", trace_id=trace_id)
    assert explained["findings"][0]["kind"] == "n_plus_one_query"


def test_a_number_is_the_same_as_over_http(world: World) -> None:
    answer = told(world, "query_promql", query="sum(vector(2)) * 21")
    assert answer["data"]["result"][0]["value"][1] == "42"


def test_what_changed_tells_deploys_and_leaves_notes_of_other_kinds_out(world: World) -> None:
    world.post("/annotations", {"kind": "deploy", "title": "shop 4.2"}, 201)
    world.post("/annotations", {"kind": "note", "title": "lunch"}, 201)
    changes = told(world, "what_changed")["changes"]
    assert [change["title"] for change in changes] == ["shop 4.2"]
    assert len(told(world, "timeline")["events"]) == 2


@pytest.mark.parametrize(
    ("tool", "arguments", "sentence"),
    [
        ("query_promql", {"query": "sum("}, "parse"),
        ("query_promql", {}, "needs the argument 'query'"),
        ("trace_summary", {"trace_id": "00ff"}, "not found"),
        ("query_promql", {"query": "1 +" * 30_000}, "too long"),
        ("findings", {"color": "red"}, "knows no argument 'color'"),
        ("findings", {"limit": 0}, "limit"),
        ("search_traces", {"service": "shop", "limit": 1501}, "query.limit: Input should be less"),
        ("search_traces", {"service": "shop", "tags": "["}, "tags is no JSON object"),
        ("trace_summary", {"trace_id": ".."}, "'..' is no hexadecimal trace id"),
        ("trace_summary", {"trace_id": "."}, "'.' is no hexadecimal trace id"),
        ("explain_trace", {"trace_id": "../../logs"}, "is no hexadecimal trace id"),
        ("why_paged", {"fingerprint": ".."}, "is no fingerprint"),
    ],
)
def test_a_mistake_is_told_so_that_the_assistant_can_mend_it(
    still_world: World, tool: str, arguments: dict[str, Any], sentence: str
) -> None:
    told_so = refused(still_world, tool, **arguments)
    assert sentence in told_so
    assert "{" not in told_so


def test_an_unknown_tool_is_an_error_of_the_protocol_that_names_those_there_are(
    still_world: World,
) -> None:
    async def call(client: Client) -> str:
        with pytest.raises(MCPError) as refusal:
            await client.call_tool("delete_everything", {})
        assert refusal.value.code == -32602  # JSON-RPC: invalid params
        return str(refusal.value)

    sentence = asked(still_world, call)
    assert sentence.startswith("there is no tool 'delete_everything'; there are: slo_status, ")


def test_tags_may_be_told_as_an_object_or_as_its_text(world: World) -> None:
    world.ask("POST", "/v1/traces", json=product_list(NOW_MS))
    found = told(world, "search_traces", service="shop", tags={"http.route": "products/"})
    text = '{"http.route": "products/"}'
    assert found == told(world, "search_traces", service="shop", tags=text)
    assert found["traces"]
    for tags in ({"http.route": "elsewhere/"}, {"cart.items": 10**30}):
        assert told(world, "search_traces", service="shop", tags=tags) == {"traces": []}


def test_an_answer_too_long_for_an_assistant_is_cut_and_says_so(world: World) -> None:
    for n in range(130):
        world.post("/annotations", {"kind": "note", "title": f"{n} ".ljust(500, "x")}, 201)
    answer = asked(world, lambda client: client.call_tool("timeline", {}))
    assert len(answer.content[0].text) == 60_000
    assert answer.content[1].text.startswith("cut to 60000 of ")


def test_a_page_of_another_origin_may_not_ask(still_world: World) -> None:
    headers = {**_RPC, "Origin": "https://evil.example"}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    assert still_world.ask("POST", "/mcp", json=body, headers=headers).status_code == 403


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"jsonrpc":"2.0"}', b"\xff" * 40])
def test_what_is_no_message_is_refused_as_the_protocol_says(
    still_world: World, body: bytes
) -> None:
    answer = still_world.ask("POST", "/mcp", content=body, headers=_RPC)
    assert 400 <= answer.status_code < 500


def test_a_message_without_bound_is_refused(still_world: World) -> None:
    answer = still_world.ask("POST", "/mcp", content=b" " * 300_000, headers=_RPC)
    assert answer.status_code == 413


def test_there_is_no_stream_to_read_and_no_session_to_end(still_world: World) -> None:
    assert still_world.ask("GET", "/mcp").status_code == 405
    assert still_world.ask("DELETE", "/mcp").status_code == 405


def posted(world: World, message: Any, **headers: str) -> httpx.Response:
    return world.ask("POST", "/mcp", json=message, headers={**_RPC, **headers})


PING = {"jsonrpc": "2.0", "id": 7, "method": "ping"}
LIST = {"jsonrpc": "2.0", "id": 8, "method": "tools/list"}


def test_a_batch_is_answered_message_by_message_and_a_notification_not(still_world: World) -> None:
    note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    wrong = {"jsonrpc": "2.0", "id": 9, "method": "resources/list"}
    answer = posted(still_world, [PING, note, wrong, LIST])
    assert answer.status_code == 200
    told = {one["id"]: one for one in answer.json()}
    assert set(told) == {7, 8, 9}
    assert told[7]["result"] == {}
    assert told[9]["error"]["code"] == -32601
    assert len(told[8]["result"]["tools"]) == len(TOOLS)
    assert posted(still_world, [note]).status_code == 202


@pytest.mark.parametrize("batch", [[], [PING] * 21])
def test_a_batch_has_bounds(still_world: World, batch: list[Any]) -> None:
    answer = posted(still_world, batch)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == -32600


def test_a_later_revision_of_the_protocol_has_no_batches(still_world: World) -> None:
    header = {"MCP-Protocol-Version": "2025-06-18"}
    assert posted(still_world, [PING], **header).status_code == 400
    assert posted(still_world, PING, **header).json()["result"] == {}


@pytest.mark.parametrize(
    ("wanted", "given"), [("2025-03-26", "2025-03-26"), ("1999-01-01", "2025-11-25")]
)
def test_a_revision_is_agreed_on(still_world: World, wanted: str, given: str) -> None:
    client = {"name": "a stranger", "version": "1"}
    params = {"protocolVersion": wanted, "capabilities": {}, "clientInfo": client}
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    assert posted(still_world, hello).json()["result"]["protocolVersion"] == given


def test_there_is_one_page_of_tools(still_world: World) -> None:
    assert "nextCursor" not in posted(still_world, LIST).json()["result"]
    answer = posted(still_world, {**LIST, "params": {"cursor": "elsewhere"}}).json()
    assert answer["error"]["code"] == -32602
