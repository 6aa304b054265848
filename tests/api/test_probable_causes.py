"""An alert that fires names what changed or broke before it, over the whole service."""

from __future__ import annotations

from tests.warroom.world import NOW_MS, World


def grows(world: World) -> dict[str, str]:
    world.samples(({"__name__": "queue_length", "queue": "mail"}, world.clock.now_ms, 500.0))
    world.evaluate(5_000)
    (alert,) = world.get("/alerts")["alerts"]
    notes: dict[str, str] = alert["annotations"]
    return notes


def test_a_rule_that_fires_after_a_deploy_names_it(world: World) -> None:
    deploy = {"kind": "deploy", "title": "worker", "version": "v7", "service": "shop"}
    ref = world.post("/annotations", {**deploy, "at": (NOW_MS - 60_000) / 1000}, status=201)["id"]
    notes = grows(world)
    assert notes["cause"].startswith("likely: deploy worker v7 at 2026-09-21T14:12:20.000Z (")
    assert notes["cause_ref"] == ref
    (incident,) = world.get("/incidents")["incidents"]
    (cause,) = incident["probable_causes"]
    assert (cause["kind"], cause["ref"]) == ("deploy", ref)
    assert cause["confidence"] == float(notes["cause_confidence"])
    shown = world.get(f"/incidents/{incident['id']}")
    (candidate,) = shown["candidates"]
    assert (candidate["title"], candidate["word"]) == ("worker v7", "likely")
    assert candidate["ref"] == ref


def test_a_rule_that_fires_out_of_the_blue_says_so(world: World) -> None:
    old = {"kind": "deploy", "title": "worker", "at": (NOW_MS - 3_400_000) / 1000}
    world.post("/annotations", old, status=201)
    assert grows(world)["cause"] == "no probable cause found"
    assert "cause_confidence" not in grows(world)


def test_a_rule_that_fires_anew_is_explained_anew_from_its_first_tick(world: World) -> None:
    deploy = {"kind": "deploy", "title": "worker", "version": "v7", "service": "shop"}
    world.post("/annotations", {**deploy, "at": (NOW_MS - 60_000) / 1000}, status=201)
    assert "began 65 s before" in grows(world)["cause"]
    world.samples(({"__name__": "queue_length", "queue": "mail"}, world.clock.now_ms, 1.0))
    world.evaluate(5_000)
    assert [a for a in world.get("/alerts")["alerts"] if a["state"] != "resolved"] == []
    world.clock.now_ms += 2 * 60_000
    assert "began 3 min before" in grows(world)["cause"]
