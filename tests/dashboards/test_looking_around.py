"""What a person does with a board in a real browser: another time, another board, a file of it."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, Route, expect

from tests.dashboards import story
from tests.dashboards.conftest import Tab, require
from tests.dashboards.fixture import NO_BOARD, ScriptedServer
from tests.dashboards.test_browser import AXE, PAGES, READY, violations

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def wall(tab: Tab, server: ScriptedServer, query: str = "") -> Page:
    page = tab.open(f"{server.url}/{query}")
    page.locator("[data-link=live]").wait_for()
    page.locator("[data-panel=cache-hits] canvas").wait_for()
    return page


# What a first-time visitor may click on the wall, and what then.
WAYS = {
    "the finding": ["[data-panel=findings] [data-finding=n_plus_one_query] .title"],
    "its trace": ["[data-panel=findings] [data-finding=n_plus_one_query] a:text-is('Trace')"],
    "the alert": ["[data-alert=NPlusOneQuery] .name", "dl.facts a"],
    "its evidence": ["[data-alert=NPlusOneQuery] a:text-is('Evidence')"],
    "what changed": [f"[data-panel=timeline] a[href*='{story.FINDING_ID}']"],
}


@pytest.mark.parametrize("way", WAYS)
def test_the_failing_line_is_at_most_three_clicks_from_the_wall(
    tab: Tab, calm_server: ScriptedServer, way: str
) -> None:
    page = wall(tab, calm_server)
    clicks = WAYS[way]
    assert len(clicks) <= 3
    for selector in clicks:
        page.locator(selector).first.click()
    page.wait_for_url(re.compile("/(findings|traces)/"))
    expect(page.locator("main")).to_contain_text("catalog/views.py:87")


def test_a_drag_over_a_graph_asks_for_what_was_known_then(
    tab: Tab, calm_server: ScriptedServer
) -> None:
    page = wall(tab, calm_server)
    canvas = page.locator("[data-panel=request-rate] canvas")
    canvas.scroll_into_view_if_needed()
    page.mouse.wheel(0, 300)
    page.wait_for_function("scrollY > 0 || document.documentElement.scrollHeight <= innerHeight")
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + 40, steps=4)
    with page.expect_request(re.compile("/replay")) as asked:
        page.mouse.up()
    found = re.search(r"from=(\d+)&to=(\d+)", page.url)
    assert found is not None
    width_ms = int(found[2]) - int(found[1])
    assert 0 < width_ms < 900_000
    assert f"at={int(found[2]) // 1000}" in asked.value.url
    expect(page.locator(".replay")).to_contain_text("As it was known at")
    page.get_by_role("button", name="\u22121 min").click()
    page.get_by_role("button", name="Back to live").first.click()
    expect(page.locator(".replay")).to_have_count(0)
    assert "from=" not in page.url


def test_a_range_is_written_as_in_grafana_and_stays_in_the_address(
    tab: Tab, calm_server: ScriptedServer
) -> None:
    page = wall(tab, calm_server)
    page.get_by_role("button", name="Time range").click()
    page.get_by_label("From").fill("yesterday")
    expect(page.get_by_role("button", name="Show", exact=True)).to_be_disabled()
    page.get_by_label("From").fill("now-6h")
    with page.expect_request(re.compile("/replay")) as asked:
        page.keyboard.press("Enter")
    ends = re.search(r"at=(\d+)&from=(\d+)", asked.value.url)
    assert ends is not None
    assert int(ends[1]) - int(ends[2]) == pytest.approx(6 * 3600, abs=1)
    assert "from=now-6h&to=now" in page.url
    page.reload()
    expect(page.get_by_role("button", name="Time range")).to_contain_text("Last 6 hours")
    page.keyboard.press("t")
    page.keyboard.press("z")
    page.wait_for_url(re.compile(r"from=\d+&to=\d+"))
    page.keyboard.press("t")
    page.keyboard.press("l")
    page.wait_for_url(re.compile(r"^[^?]*$"))


def test_a_copied_address_shows_the_same_in_a_browser_that_remembers_nothing(
    tab: Tab, calm_server: ScriptedServer
) -> None:
    page = wall(tab, calm_server)
    page.get_by_label("Time zone").select_option("utc")
    page.get_by_role("button", name="Time range").click()
    page.get_by_label("From").fill("2026-01-05 08:00")
    page.get_by_label("To", exact=True).fill("2026-01-05 10:00")
    page.keyboard.press("Enter")
    expect(page.locator(".replay")).to_contain_text("UTC")
    said = page.locator(".replay time").inner_text()
    address = page.url
    page.evaluate("localStorage.clear()")
    page.goto("about:blank")
    page.goto(address)
    expect(page.locator(".replay time")).to_have_text(said)
    expect(page.get_by_label("Time zone")).to_have_value("utc")
    # What a browser remembers is in its address from the start.
    page.evaluate("localStorage.setItem('warroom.tz', 'browser')")
    page.goto(calm_server.url)
    page.wait_for_url(re.compile("tz=browser"))


def test_what_is_drawn_in_a_replay_without_data_asks_nothing_of_what_is_gone(
    tab: Tab, calm_server: ScriptedServer
) -> None:
    page = wall(tab, calm_server)
    empty = {
        panel["id"]: {"state": "no_data", "as_of_ms": 0, "note": ""}
        for row in story.BOARD["rows"]
        for panel in row["panels"]
    }

    def nothing(route: Route) -> None:
        answer = route.fetch().json()
        route.fulfill(json={**answer, "panels": empty})

    page.route(re.compile("/replay"), nothing)
    page.get_by_role("button", name="Earlier").click()
    expect(page.locator("[data-panel=cache-hits]")).to_have_attribute("data-state", "no_data")
    page.get_by_role("button", name="Back to live").first.click()
    page.locator("[data-panel=cache-hits] canvas").wait_for()
    assert tab.problems == []


NARROW = [
    "replay",
    "boards",
    "board",
    "readiness",
    "explore",
    "findings",
    "finding",
    "incident",
    "incidents",
    "alert",
    "alerts",
    "trace",
    "tv",
    "slos",
]


def test_nothing_is_cut_off_on_a_phone(tab: Tab, calm_server: ScriptedServer) -> None:
    tab.page.set_viewport_size({"width": 390, "height": 844})
    wide = {}
    for name in NARROW:
        page = tab.open(f"{calm_server.url}{PAGES[name]}")
        page.locator(READY.get(name, ("main tr, main li",))[0]).first.wait_for()
        found = page.evaluate("document.documentElement.scrollWidth")
        if found > 390:
            wide[name] = found
    assert wide == {}


def test_a_graph_is_saved_and_its_query_copied(tab: Tab, calm_server: ScriptedServer) -> None:
    page = wall(tab, calm_server)
    graph = page.locator("[data-panel=cache-hits]")
    graph.get_by_label("save or copy").click()
    with page.expect_download() as saved:
        graph.get_by_role("button", name="Save CSV").click()
    assert saved.value.suggested_filename == "cache-hit-ratio.csv"
    head = saved.value.path().read_text().splitlines()[0]
    assert head == "time,fragments,sessions"
    graph.get_by_label("save or copy").click()
    with page.expect_download() as picture:
        graph.get_by_role("button", name="Save PNG").click()
    assert picture.value.path().read_bytes().startswith(b"\x89PNG")
    assert tab.violations() == []
    assert tab.problems == []


def test_a_playlist_turns_pages_by_the_clock_and_can_be_stopped(
    tab: Tab, calm_server: ScriptedServer
) -> None:
    page = tab.open(f"{calm_server.url}/?tv=1&playlist=war-room,checkout&every=5s")
    turns = page.locator(".turns")
    expect(turns).to_contain_text("of 2")
    with page.expect_request(re.compile("/live.board=checkout"), timeout=30_000):
        pass
    page.get_by_role("button", name="Pause").click()
    expect(turns).to_contain_text("paused")
    expect(page.get_by_role("button", name="Go on")).to_be_visible()


def test_traces_are_searched_from_the_form_and_kept_in_the_address(
    tab: Tab, calm_server: ScriptedServer
) -> None:
    page = tab.open(f"{calm_server.url}/traces")
    page.get_by_label("Service").select_option("shop")
    page.get_by_label("Tags").fill("http.route=/products/")
    page.get_by_label("with errors").check()
    with page.expect_request(re.compile("/api/warroom/v1/traces.*error=true")) as asked:
        page.get_by_role("button", name="Search").click()
    assert "tags=http.route%3D%2Fproducts%2F" in asked.value.url
    assert "service=shop" in page.url
    page.get_by_role("link", name="shop: GET /products/").click()
    expect(page.get_by_role("heading", name="Trace", exact=True)).to_be_visible()
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Traces").click()
    page.get_by_role("link", name="Service map").click()
    expect(page.get_by_role("row", name="shop pay 430")).to_contain_text("6.0 %")


def test_an_incident_is_taken_and_one_of_its_alerts_silenced(
    tab: Tab, calm_server: ScriptedServer
) -> None:
    page = tab.open(f"{calm_server.url}/incidents")
    page.get_by_role("link", name="N+1 query: brand loaded once per product").click()
    expect(page.get_by_role("link", name="Post-mortem draft")).to_be_visible()
    page.get_by_label("Your name").fill("Mira")
    page.get_by_role("button", name="Acknowledge").click()
    page.get_by_label("Silence because").fill("rolling back")
    with page.expect_request("**/api/v2/silences") as asked:
        page.get_by_role("button", name="Silence", exact=True).click()
    sent = asked.value.post_data_json
    assert isinstance(sent, dict)
    assert sent["createdBy"] == "Mira"
    assert {m["name"]: m["value"] for m in sent["matchers"]} == {
        "alertname": "NPlusOneQuery",
        "service": "shop",
    }
    assert calm_server.posts[0] == ("/api/warroom/v1/incidents/inc-1/ack", {"by": "Mira"})


def test_a_wall_display_signs_itself_in_and_shows_boards_only(
    tab: Tab, calm_server: ScriptedServer
) -> None:
    calm_server.token = "wr_wall"
    page = tab.open(f"{calm_server.url}/findings")
    expect(page.get_by_role("heading", name="Warroom")).to_be_visible()
    page.goto("about:blank")
    page.goto(f"{calm_server.url}/#token=wr_wall")
    page.locator("[data-panel=cache-hits] canvas").wait_for()
    assert "token" not in page.url
    assert all("wr_wall" not in url.partition("#")[0] for url in tab.requests)
    expect(page.get_by_role("navigation", name="Pages")).to_have_count(0)
    page.goto(f"{calm_server.url}/findings")  # the cookie signs in; the pages stay closed
    page.locator("[data-panel=cache-hits] canvas").wait_for()
    page.context.clear_cookies()


def test_a_wrong_token_is_told(tab: Tab, calm_server: ScriptedServer) -> None:
    calm_server.token = "wr_wall"
    page = tab.open(calm_server.url)
    page.get_by_label("Token").fill("wr_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("not known")


def test_a_board_that_is_not_there_is_told_as_such(tab: Tab, calm_server: ScriptedServer) -> None:
    page = tab.open(f"{calm_server.url}/?board={NO_BOARD}")
    expect(page.get_by_role("alert")).to_contain_text("No such board")
    expect(page.locator("[data-banner]")).to_have_count(0)
    page.get_by_role("combobox", name="Board").select_option("war-room")
    page.locator("[data-panel=cache-hits] canvas").wait_for()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_range_that_is_none_shows_no_figures(tab: Tab, calm_server: ScriptedServer) -> None:
    page = tab.open(f"{calm_server.url}/?from=rubbish&to=now")
    expect(page.get_by_role("alert")).to_contain_text("From rubbish to now is no time")
    expect(page.locator("[data-panel]")).to_have_count(0)
    page.get_by_role("button", name="Back to live").click()
    page.locator("[data-panel=cache-hits] canvas").wait_for()


def test_a_board_that_was_not_saved_waits_for_the_one_who_wrote_it(
    tab: Tab, calm_server: ScriptedServer
) -> None:
    page = tab.open(f"{calm_server.url}/boards/war-room")
    text = page.locator("#yaml")
    expect(text).to_have_value(re.compile("name: war-room"))
    text.fill("name: war-room\ntitle: Half written\n")
    page.get_by_role("link", name="All boards").or_(
        page.get_by_role("link", name="Boards", exact=True)
    ).first.click()
    page.get_by_role("row", name="War room").get_by_role("link", name="Edit").click()
    expect(page.locator("#yaml")).to_have_value("name: war-room\ntitle: Half written\n")


def test_what_opens_is_accessible_closes_by_escape_and_gives_the_focus_back(
    tab: Tab, calm_server: ScriptedServer
) -> None:
    require(AXE.is_file(), "axe-core is not installed (python hatch_build.py check)")
    page = wall(tab, calm_server)
    graph = page.locator("[data-panel=cache-hits]")
    openers = {
        page.get_by_role("button", name="Help and keyboard"): page.locator("dialog[open]"),
        page.get_by_role("button", name="Time range"): page.locator(".pop"),
        graph.get_by_label("save or copy"): graph.locator("details[open]"),
    }
    for opener, opened in openers.items():
        opener.focus()
        page.keyboard.press("Enter")
        opened.wait_for()
        assert violations(page) == []
        page.keyboard.press("Escape")
        expect(opened).to_have_count(0)
        expect(opener).to_be_focused()


def test_leaving_a_preview_asks_nothing_of_what_was_drawn_in_it(
    tab: Tab, calm_server: ScriptedServer
) -> None:
    def other(route: Route) -> None:
        text = route.fetch().text().replace('"orders"', '"only-here"')
        route.fulfill(body=text, content_type="application/json")

    tab.page.route(re.compile("/boards/preview"), other)
    page = tab.open(f"{calm_server.url}/boards/war-room")
    page.locator("[data-panel=only-here] .spark").wait_for()
    page.get_by_role("link", name="Open", exact=True).click()
    page.locator("[data-panel=orders] .spark").wait_for()
    assert tab.problems == []
