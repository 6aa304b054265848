"""Before and after, over the whole service."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.warroom.traces import TRACE_ID, Json, product_list
from tests.warroom.world import NOW_MS, World

MINUTE_MS = 60_000
COMPARE = "/api/warroom/v1/compare"


def page_views(number: int, first_ms: int, step_ms: int, queries: int, seed: int = 0) -> Json:
    """Requests of one route, `step_ms` apart."""
    spans = []
    for n in range(number):
        one = json.dumps(product_list(first_ms + n * step_ms, queries))
        trace_id = f"{(seed + 1) * 100_000 + n:032x}"
        spans += json.loads(one.replace(TRACE_ID, trace_id))["resourceSpans"]
    return {"resourceSpans": spans}


def sent(world: World, *views: Json) -> None:
    for view in views:
        answer = world.ask("POST", "/v1/traces", json=view)
        assert answer.status_code == 200, answer.text


def deployed(world: World, at_ms: int, version: str, service: str = "shop") -> str:
    body = {"kind": "deploy", "title": "shop", "version": version, "service": service}
    answer = world.post("/annotations", {**body, "at": at_ms / 1000}, status=201)
    return str(answer["id"])


def window(start_ms: int, end_ms: int) -> str:
    return f"{start_ms / 1000}/{end_ms / 1000}"


def a_fix(world: World) -> str:
    """Twenty queries a page until a deploy ten minutes ago, two since."""
    deploy_ms = NOW_MS - 10 * MINUTE_MS
    sent(
        world,
        page_views(60, deploy_ms - 9 * MINUTE_MS, 8_000, 20, seed=1),
        page_views(60, deploy_ms + MINUTE_MS, 8_000, 2, seed=2),
    )
    return deployed(world, deploy_ms, "v42")


def figures(answer: Json) -> dict[str, Json]:
    return {figure["name"]: figure for figure in answer["figures"]}


def test_a_deploy_that_removes_a_loop_is_better(world: World) -> None:
    deploy = a_fix(world)
    answer = world.get("/compare", service="shop", route="products/", deploy=deploy)
    assert answer["verdict"] == "better"
    assert answer["confidence"] > 0.99
    queries = figures(answer)["queries_per_request"]
    assert (queries["before"], queries["after"], queries["change"]) == (20.0, 2.0, -0.9)
    assert queries["samples"] == {"before": 60, "after": 60}
    assert queries["decides"]
    assert answer["before"]["label"] == "before shop v42"
    assert answer["before"]["counted_by"] == "spans"
    assert world.get("/compare", service="shop", route="products/", deploy="v42") == answer


def test_a_whole_service_is_compared_at_one_mix_of_its_routes(world: World) -> None:
    """Both pages are as they were; more people go to the one that asks more."""
    deploy_ms = NOW_MS - 10 * MINUTE_MS
    visits = ((deploy_ms - 9 * MINUTE_MS, 80, 40), (deploy_ms + MINUTE_MS, 30, 90))
    for seed, (start_ms, light, heavy) in enumerate(visits):
        few = page_views(light, start_ms, 480_000 // light, 2, seed=10 + seed)
        many = page_views(heavy, start_ms + 500, 480_000 // heavy, 20, seed=20 + seed)
        sent(world, json.loads(json.dumps(few).replace("products/", "start/")), many)
    deployed(world, deploy_ms, "v42")
    answer = world.get("/compare", service="shop", deploy="v42")
    queries = figures(answer)["queries_per_request"]
    assert queries["before"] == pytest.approx(queries["after"], rel=0.1)
    assert answer["verdict"] == "same"
    assert "at one mix of routes" in answer["why"]


def test_two_windows_the_other_way_round_turn_the_verdict_round(world: World) -> None:
    a_fix(world)
    middle = NOW_MS - 10 * MINUTE_MS
    old, new = window(NOW_MS - 20 * MINUTE_MS, middle), window(middle, NOW_MS)
    ask: dict[str, Any] = {"service": "shop", "route": "products/"}
    forth = world.get("/compare", **ask, before=old, after=new)
    back = world.get("/compare", **ask, before=new, after=old)
    assert (forth["verdict"], back["verdict"]) == ("better", "worse")
    assert forth["confidence"] == back["confidence"]
    assert world.get("/compare", **ask, before=old, after=old)["verdict"] == "same"


def test_two_deploys_are_compared_by_the_time_they_were_live(world: World) -> None:
    first = deployed(world, NOW_MS - 20 * MINUTE_MS, "v41")
    second = a_fix(world)
    pair = {"before": f"deploy:{first}", "after": f"deploy:{second}"}
    answer = world.get("/compare", service="shop", route="products/", **pair)
    assert answer["verdict"] == "better"
    assert (answer["before"]["label"], answer["after"]["label"]) == ("shop v41", "shop v42")
    # v41 was live until v42 came, its first half minute left out.
    assert answer["before"]["from"] == "2026-09-21T13:53:50.000Z"
    assert answer["before"]["to"] == "2026-09-21T14:03:20.000Z"


def test_a_service_that_nobody_uses_gives_not_enough_data(world: World) -> None:
    answer = world.get("/compare", service="ghost", before="now-2h/now-1h", after="now-1h/now")
    assert (answer["verdict"], answer["confidence"]) == ("not enough data", 0)
    assert "at least 30" in answer["why"]


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"service": "shop"},
        {"service": "shop", "before": "now-1h/now"},
        {"service": "shop", "before": "now-1h", "after": "now-1h/now"},
        {"service": "shop", "before": "now/now-1h", "after": "now-1h/now"},
        {"service": "shop", "before": "now-90d/now-1h", "after": "now-1h/now"},
        {"service": "shop", "deploy": "x", "before": "now-1h/now", "after": "now-1h/now"},
        {"service": "shop", "before": "now-2h/now-1h", "after": "now-1h/now", "span": "soon"},
        {"service": "shop", "before": "now-2h/now-1h", "after": "now-1h/now", "span": "9w"},
    ],
    ids=str,
)
def test_a_comparison_that_makes_no_sense_is_refused(world: World, parameters: Json) -> None:
    assert world.refusal("GET", COMPARE, 400, params=parameters)["code"] == "bad_input"


@pytest.mark.parametrize("named", [{"deploy": "v9"}, {"before": "deploy:v9", "after": "deploy:v9"}])
def test_an_unknown_deploy_is_told(world: World, named: Json) -> None:
    error = world.refusal("GET", COMPARE, 404, params={"service": "shop", **named})
    assert "v9" in error["message"]


def test_a_finding_that_a_deploy_ended_is_proven_fixed(world: World) -> None:
    world.clock.now_ms = NOW_MS - 15 * MINUTE_MS
    sent(world, page_views(60, world.clock.now_ms - 5 * MINUTE_MS, 5_000, 20, seed=1))
    world.evaluate()
    world.evaluate()
    (found,) = world.get("/findings", kind="n_plus_one_query")["findings"]
    begun = world.get(f"/findings/{found['id']}/before-after")
    assert (begun["pivot"]["reason"], begun["verdict"]) == ("began", "not enough data")
    deploy = deployed(world, world.clock.now_ms, "v42")
    world.clock.now_ms += MINUTE_MS
    sent(world, page_views(60, world.clock.now_ms, 5_000, 1, seed=2))
    world.evaluate(5 * MINUTE_MS)
    world.evaluate(15 * MINUTE_MS)
    assert not world.get(f"/findings/{found['id']}")["active"]
    proof = world.get(f"/findings/{found['id']}/before-after")
    assert proof["pivot"] == {
        "at": proof["before"]["to"],
        "reason": "deploy",
        "title": "shop v42",
        "ref": deploy,
    }
    assert proof["verdict"] == "better"
    assert figures(proof)["wasted_seconds_per_request"]["after"] == 0
    decides = {name for name, one in figures(proof).items() if one["decides"]}
    assert decides == {"queries_per_request", "wasted_seconds_per_request"}


def test_before_and_after_of_an_unknown_finding_is_not_found(world: World) -> None:
    path = "/api/warroom/v1/findings/nothing/before-after"
    assert world.refusal("GET", path, 404)["code"] == "not_found"
