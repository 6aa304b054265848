"""PagerDuty's change events as annotations: shape, idempotence, bounds, who may send."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers
from starlette.testclient import TestClient

from api.guard import GuardPolicy, Refusal, decide
from api.routers.change_events import PATH, change_of, router
from api.tokens.repository import Role
from store.annotations.repository import AnnotationRepository
from store.errors import BadInput
from store.testing import open_state
from tests.warroom.world import NOW_MS, World

# The example of PagerDuty's own documentation, but for its day.
EVENT: dict[str, Any] = {
    "routing_key": "samplekeyhere",
    "payload": {
        "summary": "Build Success: Increase snapshot create timeout to 30 seconds",
        "timestamp": "2026-09-21T14:00:58.315+0000",
        "source": "acme-build-pipeline-tool-default-i-9999",
        "custom_details": {"build_state": "passed", "build_number": "2", "run_time": "1236s"},
    },
    "links": [
        {"href": "ftp://no", "text": "?"},
        {"href": "https://acme.pagerduty.dev/build/2", "text": "View more details in Acme!"},
    ],
}


def event(**payload: Any) -> dict[str, Any]:
    made = copy.deepcopy(EVENT)
    made["payload"].update(payload)
    return made


def titles(world: World) -> list[tuple[str, str, str]]:
    events = world.get("/timeline")["events"]
    return [(one["at"], one["kind"], one["title"]) for one in events]


def test_a_change_event_is_on_the_timeline_once(world: World) -> None:
    for _ in range(2):
        answer = world.ask("POST", PATH, json=EVENT)
        assert answer.status_code == 202
        assert answer.json() == {"status": "success", "message": "Change event processed"}
    summary = EVENT["payload"]["summary"]
    assert titles(world) == [("2026-09-21T14:00:58.315Z", "deploy", f"{summary} 2")]
    assert world.get("/timeline")["events"][0]["ref"] == "https://acme.pagerduty.dev/build/2"


def test_an_event_without_a_time_that_is_sent_again_soon_is_the_same(world: World) -> None:
    bare = {"routing_key": "k", "payload": {"summary": "flag on"}}
    for wait_ms in (0, 60_000, 600_000):
        world.clock.now_ms += wait_ms
        assert world.ask("POST", PATH, json=bare).status_code == 202
    assert [title for _, _, title in titles(world)] == ["flag on", "flag on"]


def test_custom_details_name_kind_service_and_version() -> None:
    details = {"kind": "flag", "service": "shop", "revision": 7, "version": ""}
    change, at_ms = change_of(event(custom_details=details), NOW_MS)
    assert (change.kind, change.service, change.version) == ("flag", "shop", "7")
    assert at_ms == change.at_ms == NOW_MS - 741_685


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        ({"summary": ""}, "summary"),
        ({"summary": "x" * 1025}, "summary"),
        ({"summary": 7}, "summary"),
        ({"summary": "nul \0"}, "NUL"),
        ({"custom_details": {"service": "sh\0p"}}, "NUL"),
        ({"custom_details": {"version": "\0"}}, "NUL"),
        ({"timestamp": "soon"}, "timestamp"),
        ({"timestamp": 12}, "timestamp"),
        ({"timestamp": "2027-01-01T00:00:00Z"}, "future"),
    ],
)
def test_a_bad_event_is_told_as_pagerduty_tells_it(
    still_world: World, payload: dict[str, Any], told: str
) -> None:
    answer = still_world.ask("POST", PATH, json=event(**payload))
    assert answer.status_code == 400
    body = answer.json()
    assert body["status"] == "invalid event"
    assert told in body["errors"][0]


@pytest.mark.parametrize(
    ("body", "status"), [(b"{", 400), (b"[]", 400), (b"{}", 400), (b" " * 524_289, 413)]
)
def test_what_is_no_event_is_refused(still_world: World, body: bytes, status: int) -> None:
    assert still_world.ask("POST", PATH, content=body).status_code == status


def test_a_long_summary_is_cut_to_what_a_title_holds() -> None:
    change, _ = change_of(event(summary="y" * 1000), NOW_MS)
    assert change.title == "y" * 511 + "…"


@pytest.mark.parametrize(
    ("token", "key", "status"),
    [
        ("", "send", 202),
        ("", "admin", 202),
        ("", "view", 403),
        ("", "samplekeyhere", 403),
        ("", None, 403),
        ("Bearer send", "x", 202),
        ("Bearer view", "send", 403),
        ("Basic c2VuZA==", "x", 403),
        ("Basic c2VuZA==", "send", 202),
    ],
)
def test_a_routing_key_is_a_token_like_any_other(token: str, key: Any, status: int) -> None:
    annotations = AnnotationRepository(open_state())

    async def accepts(secret: str) -> bool:
        return secret in {"send", "admin"}

    app = FastAPI()
    app.include_router(router(annotations, accepts, lambda: NOW_MS))
    headers = {"Authorization": token} if token else {}
    document = {**EVENT, "routing_key": key}
    answer = TestClient(app).post(PATH, json=document, headers=headers)
    assert answer.status_code == status
    assert len(annotations.between(0, NOW_MS)) == (status == 202)


@pytest.mark.parametrize(
    ("path", "token", "refusal"),
    [
        (PATH, "", None),
        (PATH, "send", None),
        (PATH, "view", Refusal.ROLE),
        (PATH, "wrong", Refusal.NO_TOKEN),
        (f"{PATH}/x", "", Refusal.NO_TOKEN),
        ("/v2/change/other", "", Refusal.NO_TOKEN),
    ],
)
def test_the_guard_leaves_only_this_path_to_its_route(
    path: str, token: str, refusal: Refusal | None
) -> None:
    roles = {"send": Role.INGEST, "view": Role.VIEWER}
    policy = GuardPolicy(frozenset(), tokens_required=True, role_of=roles.get)
    headers = {"authorization": f"Bearer {token}"} if token else {}
    assert decide(policy, "POST", path, Headers(headers)) is refusal


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["href", "version", "service", "kind"]), inner)
    ),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {
            "payload": values
            | st.fixed_dictionaries(
                {"summary": st.text(min_size=1, max_size=5)},
                optional={"timestamp": values, "custom_details": values, "source": values},
            )
        },
        optional={"links": values, "routing_key": values},
    )
)
def test_no_event_breaks_the_decoder(document: dict[str, Any]) -> None:
    with suppress(BadInput):
        change, _ = change_of(document, NOW_MS)
        assert 0 < len(change.title) <= 512
        assert max(len(change.service), len(change.version)) <= 256
