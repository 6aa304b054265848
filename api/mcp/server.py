"""`/mcp`: the Model Context Protocol over streamable HTTP, without sessions."""

from __future__ import annotations

from typing import Any

import httpx
import orjson
from mcp import types
from mcp.server import Server
from mcp.server.context import ServerRequestContext
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from api.mcp.batch import Batches
from api.mcp.tools import TOOLS, Tool

_MAX_REQUEST_BYTES = 256 * 1024
# What an assistant can take in; a longer answer is cut, and says so.
_MAX_ANSWER_CHARS = 60_000
_MAX_SENTENCE = 500
_MAX_NAME = 64
_INSTRUCTIONS = (
    "Warroom watches an online shop. Start with data_freshness, alerts and findings; "
    "what_changed and timeline tell what came before. Nothing can be changed from here. "
    "Ratios are 0-1, times RFC 3339 in UTC, money strings with their currency."
)
_BY_NAME = {tool.name: tool for tool in TOOLS}


def routes(version: str) -> list[BaseRoute]:
    """The endpoint; `version` is told to clients."""
    # No stream to GET and no session to DELETE: the protocol wants 405 for both.
    endpoint = Batches(_Endpoint(version), _MAX_REQUEST_BYTES)
    return [Route("/mcp", endpoint, methods=["POST"])]


class _Endpoint:
    """Answers one request with a transport of its own: nothing is kept between two."""

    def __init__(self, version: str) -> None:
        self._version = version

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        manager = StreamableHTTPSessionManager(
            _server(scope["app"], self._version, _rights(Request(scope))),
            json_response=True,
            stateless=True,
            max_request_body_size=_MAX_REQUEST_BYTES,
        )
        async with manager.run():
            await manager.handle_request(scope, receive, send)


def _rights(request: Request) -> dict[str, str]:
    """Headers by which the guard knows who asks: a tool may see what its caller may see."""
    names = ("host", "authorization")
    return {name: request.headers[name] for name in names if name in request.headers}


def _server(app: ASGIApp, version: str, rights: dict[str, str]) -> Server[Any]:
    async def list_tools(
        _: ServerRequestContext[Any], asked: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        if asked is not None and asked.cursor is not None:
            # All of them are on the first page, which names no other.
            raise MCPError(types.INVALID_PARAMS, "no page begins at this cursor")
        return types.ListToolsResult(tools=[_described(tool) for tool in TOOLS])

    async def call_tool(
        _: ServerRequestContext[Any], asked: types.CallToolRequestParams
    ) -> types.CallToolResult:
        return await _call(app, rights, asked.name, asked.arguments or {})

    return Server(
        "warroom",
        version=version,
        instructions=_INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def _described(tool: Tool) -> types.Tool:
    return types.Tool(
        name=tool.name,
        description=tool.about,
        input_schema=tool.schema(),
        annotations=types.ToolAnnotations(read_only_hint=True, open_world_hint=False),
    )


async def _call(
    app: ASGIApp, rights: dict[str, str], name: str, given: dict[str, Any]
) -> types.CallToolResult:
    tool = _BY_NAME.get(name)
    if tool is None:
        # Of an unknown tool the protocol wants an error of its own, not a failed answer.
        known = ", ".join(_BY_NAME)
        raise MCPError(
            types.INVALID_PARAMS, f"there is no tool {name[:_MAX_NAME]!r}; there are: {known}"
        )
    try:
        path, query = tool.question(given)
        url = httpx.URL(f"http://warroom{path}", params=query)
    except (ValueError, httpx.InvalidURL) as exc:
        return _failure(str(exc))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
        answer = await client.get(url, headers=rights)
    if answer.status_code != httpx.codes.OK:
        return _failure(_sentence(answer))
    told = answer.json()
    return _success(told if tool.shape is None else tool.shape(told))


def _success(told: dict[str, Any]) -> types.CallToolResult:
    text = orjson.dumps(told).decode()
    if len(text) <= _MAX_ANSWER_CHARS:
        return types.CallToolResult(content=[types.TextContent(text=text)], structured_content=told)
    note = f"cut to {_MAX_ANSWER_CHARS} of {len(text)} characters: ask for less (limit, window)"
    cut = text[:_MAX_ANSWER_CHARS]
    return types.CallToolResult(content=[types.TextContent(text=cut), types.TextContent(text=note)])


def _failure(sentence: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=sentence)], is_error=True)


def _sentence(answer: httpx.Response) -> str:
    """An error as one sentence, in whichever shape the asked API tells it.

    Our own is `error: {message, hint}`, Prometheus's `error: text`, Jaeger's `errors: [{msg}]`.
    """
    plain = answer.text.strip()[:_MAX_SENTENCE]
    try:
        body = answer.json()
    except ValueError:
        body = None
    match body:
        case {"error": {"message": message, **rest}}:
            told = f"{message} {rest.get('hint') or ''}"
        case {"error": str(told)} | {"errors": [{"msg": str(told)}, *_]} | {"detail": str(told)}:
            pass
        case _:
            told = plain or f"the API answered {answer.status_code}"
    return told.strip()[:_MAX_SENTENCE]
