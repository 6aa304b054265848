"""Boards that are edited over the API: what is kept, who wins, and what comes back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import httpx
import orjson
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.routers.boards import router
from api.saved_boards.book import BoardBook, Outcome
from api.saved_boards.repository import BoardRepository, SavedBoard, tag_of
from store.testing import open_state
from tests.warroom.world import IN_MEMORY, World, open_world

BOARDS = "/api/warroom/v1/boards"
MINE = """\
# for the night shift
name: mine
title: {title}
rows:
  - panels:
      - {{id: up, kind: table, title: Up, queries: [{{expr: up, name: up}}]}}
"""


def put(world: World, name: str, text: str, tag: str | None = None) -> httpx.Response:
    headers = {"if-match": tag} if tag else {}
    return world.ask("PUT", f"{BOARDS}/{name}", content=text.encode(), headers=headers)


def read(world: World, name: str) -> tuple[str, str]:
    answer = world.ask("GET", f"{BOARDS}/{name}", params={"format": "yaml"})
    assert answer.status_code == 200, answer.text
    return answer.text, answer.headers["etag"]


def origins(world: World) -> dict[str, str]:
    return {board["name"]: board["origin"] for board in world.get("/boards")["boards"]}


def test_a_new_board_is_kept_as_it_was_written(still_world: World) -> None:
    world = still_world
    assert put(world, "mine", MINE.format(title="A")).status_code == 201
    assert read(world, "mine")[0] == MINE.format(title="A")
    assert origins(world)["mine"] == "saved"
    assert world.get("/boards/mine")["rows"][0]["panels"][0]["kind"] == "table"
    _, tag = read(world, "mine")
    gone = world.ask("DELETE", f"{BOARDS}/mine", headers={"if-match": tag})
    assert gone.status_code == 204
    assert world.ask("GET", f"{BOARDS}/mine").status_code == 404


def test_an_edit_of_a_shipped_board_is_a_copy_that_can_be_forgotten(still_world: World) -> None:
    world = still_world
    shipped, tag = read(world, "business")
    assert origins(world)["business"] == "shipped"
    changed = put(world, "business", shipped.replace("title: Business", "title: Ours"), tag)
    assert changed.status_code == 200
    assert world.get("/boards/business")["title"] == "Ours"
    _, newer = read(world, "business")
    assert changed.headers["etag"] == newer != tag
    world.ask("DELETE", f"{BOARDS}/business", headers={"if-match": newer})
    assert read(world, "business") == (shipped, tag)
    error = world.refusal("DELETE", f"{BOARDS}/business", 409, headers={"if-match": tag})
    assert error["code"] == "not_saved"


def test_of_two_edits_of_one_text_the_second_is_refused(still_world: World) -> None:
    world = still_world
    text, tag = read(world, "war-room")
    assert put(world, "war-room", text.replace("range: 15m", "range: 5m"), tag).status_code == 200
    late = text.replace("range: 15m", "range: 1h").encode()
    error = world.refusal("PUT", f"{BOARDS}/war-room", 412, content=late, headers={"if-match": tag})
    assert error["code"] == "changed_meanwhile"
    assert world.refusal("PUT", f"{BOARDS}/war-room", 428, content=late)["code"] == "tag_missing"
    gone = world.refusal("DELETE", f"{BOARDS}/war-room", 412, headers={"if-match": tag})
    assert gone["code"] == "changed_meanwhile"
    _, now = read(world, "war-room")
    world.ask("DELETE", f"{BOARDS}/war-room", headers={"if-match": now})


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("mine", "name: mine\n", "title"),
        ("other", MINE.format(title="A"), "not of 'other'"),
        ("mine", MINE.format(title="A").replace("table", "tabel"), "did you mean 'table'"),
        ("mine", "x" * 300_000, "larger"),
        ("mine", "a: [", "mine.yaml"),
    ],
)
def test_a_mistake_is_told_and_nothing_is_kept(
    still_world: World, name: str, text: str, told: str
) -> None:
    answer = put(still_world, name, text)
    assert answer.status_code in {400, 422}
    assert told in answer.text
    assert name not in origins(still_world)


def test_a_preview_shows_data_or_the_mistake_and_keeps_nothing(still_world: World) -> None:
    shown = still_world.ask("POST", f"{BOARDS}/preview", content=MINE.format(title="A").encode())
    assert shown.status_code == 200
    assert shown.json()["panels"]["up"]["state"] in {"ok", "no_data"}
    wrong = MINE.format(title="A").replace("kind: table", "kind: pie")
    mistake = still_world.ask("POST", f"{BOARDS}/preview", content=wrong.encode()).json()["mistake"]
    assert mistake["line"] == 6
    assert "kind" in mistake["message"]
    assert "mine" not in origins(still_world)


def test_json_is_a_board_as_well(still_world: World) -> None:
    board = {"name": "mine", "title": "J", "rows": [{"panels": [{"id": "a", "kind": "alerts"}]}]}
    answer = still_world.ask("PUT", f"{BOARDS}/mine", json=board)
    assert answer.status_code == 201
    text, tag = read(still_world, "mine")
    assert "kind: alerts" in text
    still_world.ask("DELETE", f"{BOARDS}/mine", headers={"if-match": tag})


def test_a_saved_board_survives_a_restart_and_a_reload(tmp_path: Path) -> None:
    with open_world(tmp_path, "{}\n") as world:
        put(world, "mine", MINE.format(title="Night"))
        world.run(world.service.configuration.reload())
        assert world.get("/boards/mine")["title"] == "Night"
    with open_world(tmp_path, "{}\n") as again:
        assert again.get("/boards/mine")["title"] == "Night"


def test_who_watches_an_edited_board_gets_the_new_one(tmp_path: Path) -> None:
    with open_world(tmp_path, IN_MEMORY) as world:
        put(world, "mine", MINE.format(title="Before"))
        world.evaluate()
        world.publish()
        live = world.service.web.live

        async def edit() -> tuple[bytes, bytes]:
            stream = await live.watch("mine", None, gzip=False)
            first = b"".join([await anext(stream), await anext(stream)])
            tick = int(first.split(b"id: ", 1)[1].split(b"\n", 1)[0])
            client = httpx.AsyncClient(
                transport=httpx.ASGITransport(app=world.app), base_url="http://127.0.0.1:8600"
            )
            tag = (await client.get(f"{BOARDS}/mine")).headers["etag"]
            text = MINE.format(title="After").encode()
            await client.put(f"{BOARDS}/mine", content=text, headers={"if-match": tag})
            await client.aclose()
            await live.publish(world.clock.now_ms + 5_000)
            with pytest.raises(StopAsyncIteration):
                await asyncio.wait_for(anext(stream), 30)
            resumed = await live.watch("mine", tick, gzip=False)
            return first, b"".join([await anext(resumed), await anext(resumed)])

        first, second = world.run(edit())
        assert b"Before" in first
        assert b"event: snapshot" in second
        assert orjson.loads(second.split(b"data: ", 1)[1])["board"]["title"] == "After"


def test_a_table_has_a_row_for_each_set_of_labels(tmp_path: Path) -> None:
    panel = (
        "{id: jobs, kind: table, queries: [{expr: jobs, name: now}, {expr: jobs_max, name: most}],"
        " options: {columns: [queue], limit: 2}}"
    )
    text = f"name: t\ntitle: T\nrows:\n  - panels:\n      - {panel}\n"
    with open_world(tmp_path, IN_MEMORY) as world:
        now_ms = world.evaluate()
        for queue, value in (("mail", 3.0), ("pay", 9.0), ("old", 1.0)):
            world.samples(({"__name__": "jobs", "queue": queue, "job": "x"}, now_ms, value))
        world.samples(({"__name__": "jobs_max", "queue": "pay"}, now_ms, 12.0))
        shown = world.ask("POST", f"{BOARDS}/preview", content=text.encode()).json()
    table = shown["panels"]["jobs"]
    assert (table["columns"], table["values"], table["total"]) == (["queue"], ["now", "most"], 3)
    assert table["rows"] == [
        {"labels": ["pay"], "values": [9.0, 12.0]},
        {"labels": ["mail"], "values": [3.0, None]},
    ]


def test_a_saved_board_of_another_version_is_listed_and_can_be_replaced_or_removed() -> None:
    repository = BoardRepository(open_state())
    old = "name: old\ntitle: O\nrows: [{panels: [{id: x, kind: gone, query: up}]}]"
    for name in ("old", "older"):
        repository.add(SavedBoard(name, old, 1))
    book = BoardBook(dict, repository)
    assert not book.texts()
    assert set(book.broken()) == {"old", "older"}
    assert "gone" in book.broken()["old"].problem or "kind" in book.broken()["old"].problem
    new = "name: old\ntitle: O\nrows: []"
    assert book.save("old", new, None, 2) is Outcome.TAG_MISSING
    assert book.save("old", new, tag_of("other"), 2) is Outcome.CONFLICT
    assert book.save("old", new, tag_of(old), 2) is Outcome.CHANGED
    assert book.remove("older", tag_of(old)) is Outcome.REMOVED
    assert not book.broken()
    assert set(book.texts()) == {"old"}
    assert [row.text for row in repository.all()] == [new]


def test_the_list_names_a_board_that_cannot_be_read() -> None:
    old = "name: old\ntitle: O\nrows: [{panels: [{id: x, kind: gone}]}]"
    repository = BoardRepository(open_state())
    repository.add(SavedBoard("old", old, 1))
    app = FastAPI()
    app.include_router(router(BoardBook(dict, repository), cast(Any, None), lambda: 2))
    with TestClient(app) as browser:
        (entry,) = browser.get(BOARDS).json()["boards"]
        assert "kind" in entry["problem"]
        answer = browser.get(f"{BOARDS}/old", params={"format": "yaml"})
        assert answer.text == old
        tag = {"if-match": answer.headers["etag"]}
        assert browser.delete(f"{BOARDS}/old", headers=tag).status_code == 204
        assert browser.get(BOARDS).json()["boards"] == []
