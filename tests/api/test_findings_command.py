"""`warroom findings` and `warroom compare` as their user sees them, over the API of a service."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from detectors.finding import CodeLocation
from tests.api.test_warroom_compare import a_fix
from tests.api.test_warroom_findings import FINDING, known, several
from tests.warroom.world import NOW_MS, World
from warroom import findings_command
from warroom.cli import main


@pytest.fixture(autouse=True)
def _over_the_api(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands reach the service's application without a port; its clock is theirs."""

    def ask(method: str, _url: str, _token: str, path: str, **options: Any) -> Any:
        answer = world.ask(method, path, **options)
        assert answer.status_code < 400, answer.text
        return answer.json()

    monkeypatch.setattr(findings_command, "ask", ask)
    monkeypatch.setattr(findings_command, "system_now_ms", world.clock)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines), default=0) <= 80
    return lines


def test_the_list_says_what_where_since_when_and_what_to_do(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    known(world, FINDING)
    assert told(capsys, "findings") == [
        "P1 open       f1  brand is asked for once a product",
        "   shop products/  shop/views.py:42  seen 1 s ago  24.0 h a day wasted",
        "   fix: select_related('brand')",
    ]
    assert told(capsys, "findings", "--status", "suppressed") == []
    assert told(capsys, "findings", "--kind", "slow_query") == []
    assert len(told(capsys, "findings", "--priority", "P1", "--service", "shop")) == 3


def test_one_finding_is_shown_with_its_proof(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    known(world, FINDING)
    text = "\n".join(told(capsys, "findings", "show", "f1"))
    for part in (
        "status     open, holds now; 100% sure",
        "priority   P1: high impact, small effort",
        "where      shop products/",
        "code       shop/views.py:42 products",
        "statement  SELECT name FROM brand WHERE id = ?",
        "repeats    20 in one request",
        "impact     500 ms wasted a request, 7200 requests an hour, 24.0 hours a day,",
        "12.50 an hour",
        "proof      trace 0af7651916cd43dd8448eb211c80319c",
        "fix        select_related('brand')",
        "opened by warroom",
    ):
        assert part in text


def test_a_finding_says_who_was_hit_and_how_bad_the_worst_request_was(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    impact = replace(FINDING.impact, users_hit=812, worst_wasted_seconds=2.5, worst_repetitions=100)
    known(world, replace(FINDING, impact=impact))
    text = "\n".join(told(capsys, "findings", "show", "f1"))
    assert "812 users hit" in text
    assert "at worst   2.5 s wasted at 100 repeats; 120.0 hours a day if all were so" in text
    shown = world.get("/findings/f1")["impact"]
    assert (shown["users_hit"], shown["worst_request"]["repetitions"]) == (812, 100)


def test_a_span_around_a_query_does_not_pass_for_a_line_of_code(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    code = CodeLocation("", 0, "GET /list", inferred=True)
    known(world, replace(FINDING, evidence=replace(FINDING.evidence, code=code), occurrences=1))
    text = "\n".join(told(capsys, "findings", "show", "f1"))
    assert "code       not in the spans; the nearest one around it is GET /list" in text
    assert "seen       once, 1 s ago" in text


def test_decisions_are_sent_with_their_reason(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    known(world, FINDING)
    why = ("--reason", "a query a tenant", "--by", "anna")
    lines = told(capsys, "findings", "suppress", "f1", *why, "--for", "2d")
    assert any("accepted   until 2026-09-23 14:13:20: a query a tenant" in line for line in lines)
    assert world.get("/findings/f1")["status"] == "suppressed"
    assert any(
        "reopened by warroom findings" in x for x in told(capsys, "findings", "reopen", "f1")
    )
    told(capsys, "findings", "fixed", "f1", "--reason", "select_related", "--by", "ben")
    last = world.get("/findings/f1")["history"][-1]
    assert (last["event"], last["by"], last["detail"]) == ("fixed", "ben", "select_related")


def test_an_id_may_be_cut_short_where_it_is_clear(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    known(world, *(f for f in several(12)))
    assert told(capsys, "findings", "show", "f1")[1] == "f1"
    assert told(capsys, "findings", "show", "f11")[1] == "f11"
    assert main(["findings", "show", "f"]) == 1
    assert "12 findings begin with 'f'" in capsys.readouterr().err
    assert main(["findings", "show"]) == 1
    assert "which finding?" in capsys.readouterr().err


def test_a_comparison_is_a_table(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    a_fix(world)
    lines = told(capsys, "compare", "shop", "products/", "--deploy", "v42")
    assert lines[0].startswith("better (over 99.9% sure): ")
    assert "before shop v42" in lines[1]
    rows = {line.split()[0]: line.split()[1:] for line in lines}
    assert rows["*queries_per_request"] == ["20", "2", "-90%", "better"]
    assert lines[-1] == "* counts for the whole"


def test_the_proof_of_a_finding_is_the_same_table(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    known(world, FINDING)
    lines = told(capsys, "findings", "proof", "f1")
    assert lines[0].startswith("not enough data")
    world.clock.now_ms = NOW_MS


def test_json_is_the_answer_of_the_api(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    known(world, FINDING)
    assert main(["findings", "show", "f1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == world.get("/findings/f1")


def test_a_list_and_an_id_reach_beyond_one_page(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings_command, "_PAGE", 2)
    known(world, *several(5))

    def listed(limit: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(
            "\n".join(told(capsys, "findings", "--json", "--limit", limit))
        )
        return answer

    every = listed("50")
    assert [one["id"] for one in every["findings"]] == [f"f{number}" for number in range(5)]
    assert every["next"] is None
    some = listed("3")
    assert [one["id"] for one in some["findings"]] == ["f0", "f1", "f2"]
    assert some["next"]
    assert any("f4" in line for line in told(capsys, "findings", "show", "f4"))
