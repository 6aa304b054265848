"""Repeated range queries of the whole service: remembered, told in /metrics, and switched off."""

import re
from pathlib import Path

import pytest

from tests.warroom.world import IN_MEMORY, NOW_MS, World, open_world

UP = {"__name__": "up", "job": "shop"}
END_S = NOW_MS // 1000
ASKED = {"query": "sum(up)", "start": END_S - 600, "end": END_S, "step": 15}


def ask(world: World, **more: object) -> list[list[object]]:
    answer = world.ask("GET", "/api/v1/query_range", params={**ASKED, **more})
    assert answer.status_code == 200, answer.text
    found: list[list[object]] = answer.json()["data"]["result"][0]["values"]
    return found


def figure(world: World, name: str) -> float:
    text = world.ask("GET", "/metrics").text
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found is not None, name
    return float(found.group(1))


HITS = 'warroom_query_cache_requests_total{result="hits"}'
REUSED = 'warroom_query_cache_steps_total{origin="cache"}'


def test_a_repeated_query_is_remembered_and_still_sees_every_write(tmp_path: Path) -> None:
    with open_world(tmp_path, IN_MEMORY) as world:
        world.samples(*((UP, NOW_MS - 600_000 + step * 15_000, 1.0) for step in range(41)))
        first = ask(world)
        assert len(first) == 41
        before = figure(world, HITS)
        assert ask(world) == first
        assert figure(world, HITS) == before + 1
        assert figure(world, REUSED) >= 41
        world.samples((UP, NOW_MS - 300_001, 7.0))
        late = ask(world)
        changed = [place for place, pair in enumerate(late) if pair != first[place]]
        assert changed == []  # the sample a millisecond later hides it at every step
        world.samples((UP, NOW_MS - 300_000, 7.0))
        rewritten = ask(world)
        assert [place for place, pair in enumerate(rewritten) if pair != first[place]] == [20]
        assert rewritten == ask(world, nocache=1)


@pytest.mark.parametrize("given", [{"nocache": 1}, {"query": "sum(up @ end())"}])
def test_what_is_not_to_be_remembered_is_evaluated(
    tmp_path: Path, given: dict[str, object]
) -> None:
    with open_world(tmp_path, IN_MEMORY) as world:
        world.samples((UP, NOW_MS, 1.0))
        before = figure(world, HITS)
        assert ask(world, **given) == ask(world, **given)
        assert figure(world, HITS) == before


def test_the_cache_can_be_switched_off(tmp_path: Path) -> None:
    with open_world(tmp_path, "store: {url: 'duckdb:memory', query_cache: 0}\n") as world:
        world.samples((UP, NOW_MS, 1.0))
        assert ask(world) == ask(world)
        assert "warroom_query_cache" not in world.ask("GET", "/metrics").text
