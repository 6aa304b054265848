"""Boards: listed, read, previewed, saved, removed, and made of Grafana's dashboards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import orjson
import yaml
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from api.boards import MAX_CHARS, BoardText, board_yaml, parse_board
from api.bodies import read_body
from api.errors import NotFound, error_response
from api.grafana.importing import import_dashboard
from api.saved_boards.book import BoardBook, BrokenBoard, Outcome
from api.saved_boards.repository import tag_of
from api.shapes import Json
from api.stream import LiveBoards
from store.errors import BadInput, ConfigError

_MAX_IMPORT = 4 * 1024 * 1024
_REFUSALS = {
    Outcome.UNKNOWN: (404, "not_found", "there is no such board", "GET /api/warroom/v1/boards"),
    Outcome.NOT_SAVED: (
        409,
        "not_saved",
        "this board comes from a file, so it cannot be removed here",
        "only what was saved over it can be; change or remove the file",
    ),
    Outcome.TAG_MISSING: (
        428,
        "tag_missing",
        "a change must name the version that it was made from",
        "read the board, and send its ETag as If-Match",
    ),
    Outcome.CONFLICT: (
        412,
        "changed_meanwhile",
        "somebody changed this board meanwhile",
        "read it again, and make your change anew",
    ),
}


def router(book: BoardBook, live: LiveBoards, now: Callable[[], int]) -> APIRouter:
    """`/boards`, `/boards/{name}` and `/boards/{name}/snapshot`, `/boards/{preview,import}`."""
    routes = APIRouter(prefix="/api/warroom/v1", tags=["boards"])
    _add_trials(routes, live, now)
    _add_reading(routes, book, live)
    _add_changes(routes, book, now)
    return routes


def _add_trials(routes: APIRouter, live: LiveBoards, now: Callable[[], int]) -> None:
    """What is tried out, and kept by nobody."""

    @routes.post("/boards/preview", response_model=None)
    async def preview(request: Request) -> Response | Json:
        """A board's data without saving it, or the mistake in its text: both are answers."""
        text = await _text(request, MAX_CHARS)
        try:
            board = parse_board(text, "")
        except ConfigError as exc:
            return {"mistake": {"line": exc.line, "message": exc.problem, "hint": exc.hint}}
        shown = await live.compute_once(board, now(), gone=request.is_disconnected)
        return Response(orjson.dumps(shown), media_type="application/json")

    @routes.post("/boards/import")
    async def grafana(request: Request) -> Json:
        """A Grafana dashboard as a board, and what was not taken over. Nothing is saved."""
        document = _json(await read_body(request, _MAX_IMPORT))
        taken = await run_in_threadpool(import_dashboard, document)
        return {
            "name": taken.board.name,
            "yaml": board_yaml(taken.board),
            "panels": len(taken.board.panels),
            "not_taken_over": [
                {"where": left.where, "what": left.what} for left in taken.not_taken_over
            ],
        }


def _add_reading(routes: APIRouter, book: BoardBook, live: LiveBoards) -> None:
    @routes.get("/boards")
    async def list_boards() -> Json:
        broken = book.broken().values()
        sound = [_entry(text) for name, text in book.texts().items() if name not in book.broken()]
        return {"boards": [*sound, *map(_broken_entry, broken)], "next": None}

    @routes.get("/boards/{name}/snapshot")
    async def board_snapshot(name: str) -> Response:
        return Response(await live.snapshot(name), media_type="application/json")

    @routes.get("/boards/{name}")
    async def one_board(
        name: str, form: Annotated[str, Query(alias="format", pattern="^(json|yaml)$")] = "json"
    ) -> Response:
        broken = book.broken().get(name)
        if broken is not None and form == "yaml":
            headers = {"ETag": f'"{tag_of(broken.text)}"', "Cache-Control": "no-cache"}
            return Response(broken.text, headers=headers, media_type="application/yaml")
        held = book.texts().get(name)
        if held is None:
            raise NotFound(f"there is no board {name!r}", hint="GET /api/warroom/v1/boards")
        headers = {"ETag": f'"{tag_of(held.text)}"', "Cache-Control": "no-cache"}
        if form == "yaml":
            return Response(held.text, headers=headers, media_type="application/yaml")
        body = orjson.dumps(held.board.model_dump(mode="json"))
        return Response(body, headers=headers, media_type="application/json")


def _add_changes(routes: APIRouter, book: BoardBook, now: Callable[[], int]) -> None:
    @routes.put("/boards/{name}")
    async def save(
        name: str, request: Request, if_match: Annotated[str, Header(max_length=64)] = ""
    ) -> Response:
        text = await _text(request, MAX_CHARS)
        outcome = await run_in_threadpool(book.save, name, text, _tag(if_match), now())
        if outcome in _REFUSALS:
            return _refused(outcome)
        status = 201 if outcome is Outcome.CREATED else 200
        body = orjson.dumps(_entry(book.texts()[name]))
        headers = {"ETag": f'"{tag_of(text)}"'}
        return Response(body, status, headers=headers, media_type="application/json")

    @routes.delete("/boards/{name}", status_code=204)
    async def remove(name: str, if_match: Annotated[str, Header(max_length=64)] = "") -> Response:
        outcome = await run_in_threadpool(book.remove, name, _tag(if_match))
        return _refused(outcome) if outcome in _REFUSALS else Response(status_code=204)


def _entry(text: BoardText) -> Json:
    board = text.board
    return {
        "name": board.name,
        "title": board.title,
        "range": board.range,
        "panels": len(board.panels),
        "origin": text.origin,
        "etag": tag_of(text.text),
    }


def _broken_entry(broken: BrokenBoard) -> Json:
    return {
        "name": broken.name,
        "title": broken.name,
        "range": "",
        "panels": 0,
        "origin": "saved",
        "etag": tag_of(broken.text),
        "problem": broken.problem,
    }


def _refused(outcome: Outcome) -> Response:
    status, code, message, hint = _REFUSALS[outcome]
    return error_response(status, code, message, hint=hint)


def _tag(if_match: str) -> str | None:
    """The tag of a strong ETag; a weak one names no exact text."""
    text = if_match.strip()
    return text.strip('"') or None


async def _text(request: Request, limit: int) -> str:
    """The YAML that is kept; a board sent as JSON is written as YAML."""
    body = await read_body(request, limit)
    if request.headers.get("content-type", "").partition(";")[0].strip() == "application/json":
        return yaml.safe_dump(_json(body), sort_keys=False, allow_unicode=True, width=100)
    try:
        return body.decode()
    except UnicodeDecodeError as exc:
        raise BadInput("the text is not UTF-8") from exc


def _json(body: bytes) -> Json:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise BadInput(f"the body is no JSON: {exc}") from exc
    if not isinstance(document, dict):
        raise BadInput("a JSON object is expected")
    return document
