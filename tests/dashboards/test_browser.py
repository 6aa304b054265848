"""The front end in a real browser, against a real server that plays a scripted story."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.dashboards import story, story_pages
from tests.dashboards.conftest import ROOT, Tab, require
from tests.dashboards.fixture import ScriptedServer

pytestmark = [pytest.mark.browser, pytest.mark.slow]

AXE = ROOT / "dashboards/web/node_modules/axe-core/axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
PAGES = {
    "wall": "/",
    "tv": "/?tv=1",
    "slos": "/slos",
    "alerts": "/alerts",
    "incidents": "/incidents",
    "incident": f"/incidents/{story_pages.INCIDENT_ID}",
    "alert": f"/alerts/{story.FINGERPRINT}",
    "findings": "/findings",
    "finding": f"/findings/{story.FINDING_ID}",
    "business": "/business",
    "traces": "/traces",
    "service_map": "/service-map",
    "trace": f"/traces/{story.TRACE_ID}",
    "explore": "/explore",
    "sources": "/sources",
    "readiness": "/readiness",
    "boards": "/boards",
    "board": "/boards/war-room",
    "replay": "/?from=1790000000000&to=1790000900000",
}
# Everything a page waits for: a late answer would move what is being measured.
READY = {
    "wall": ("[data-panel=cache-hits] canvas", ".foot li"),
    "tv": ("[data-panel=cache-hits] canvas", ".foot li"),
    "business": (".funnel li", ".cohorts li", ".risk"),
    "explore": (".cm-content", "canvas"),
    "trace": (".rows .row", "section li"),
    "alert": ("dl.facts", "td.detail"),
    "slos": (".slo",),
    "finding": ("pre.code", "tr.decides"),
    "incident": ("dl.numbers", "section li"),
    "service_map": ("svg rect", "tbody tr"),
    "readiness": ("[data-check]", "tbody tr"),
    "board": ("#yaml", "[data-panel=cache-hits] canvas"),
    "replay": (".replay", "[data-panel=cache-hits] canvas"),
}


# Whether a graph's lines have the colour that the page has for its first line now.
COLOURS_FIT = """selector => {
    const canvas = document.querySelector(selector);
    if (!canvas || !canvas.width) return false;
    const probe = document.createElement("canvas").getContext("2d");
    probe.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--s1").trim();
    probe.fillRect(0, 0, 1, 1);
    const [r, g, b] = probe.getImageData(0, 0, 1, 1).data;
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let found = 0;
    for (let i = 0; i < data.length; i += 4)
        if (data[i + 3] > 200 && Math.abs(data[i] - r) < 12 && Math.abs(data[i + 1] - g) < 12
            && Math.abs(data[i + 2] - b) < 12) found++;
    return found > 20;
}"""


def _ready(page: Page, name: str) -> None:
    page.locator("[data-link=live]").wait_for()
    for selector in READY.get(name, ("main tr, main li",)):
        page.locator(selector).first.wait_for()


def violations(page: Page) -> list[Any]:
    # page.evaluate goes by the debugger: the page's own policy does not apply to it
    page.evaluate(Path(AXE).read_text())
    found = page.evaluate("tags => axe.run(document, {runOnly: tags})", RULES)
    return [
        (v["id"], [(n["html"][:140], n["failureSummary"][:200]) for n in v["nodes"][:4]])
        for v in found["violations"]
    ]


@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_accessible_and_clean(
    tab: Tab, calm_server: ScriptedServer, name: str
) -> None:
    require(AXE.is_file(), "axe-core is not installed (python hatch_build.py check)")
    path = PAGES[name]
    page = tab.open(f"{calm_server.url}{path}{'&' if '?' in path else '?'}theme=dark")
    _ready(page, name)
    for theme in ("dark", "light"):
        page.evaluate("theme => (document.documentElement.dataset.theme = theme)", theme)
        assert (theme, violations(page)) == (theme, [])
    assert tab.violations() == []
    assert tab.problems == []
    hosts = {urlsplit(url).hostname for url in tab.requests if url.startswith(("http", "ws"))}
    assert hosts == {"127.0.0.1"}


def test_the_wall_fills_with_what_the_stream_says(tab: Tab, calm_server: ScriptedServer) -> None:
    page = tab.open(calm_server.url)
    _ready(page, "wall")
    orders = page.locator("[data-panel=orders]")
    expect(orders).to_contain_text("42.3")
    expect(orders).to_contain_text("Below expected")
    expect(orders).to_contain_text("\u221264 % vs last week")
    expect(page.locator("[data-panel=findings]")).to_contain_text("catalog/views.py:87")
    expect(page.locator("[data-panel=findings]")).to_contain_text("48\u00d7 per request")
    expect(page.locator("[data-alert=NPlusOneQuery]")).to_contain_text("since deploy v214")
    expect(page.locator("[data-panel=slos]")).to_contain_text("Burning fast")
    expect(page.locator("[data-panel=timeline] li").first).to_contain_text("Paged Mira")
    expect(page.locator("[data-panel=freshness]")).to_contain_text("shop-replica-3")
    expect(page.locator("[data-panel=errors]")).to_have_attribute("data-state", "no_data")
    expect(page.locator("[data-panel=replica-lag]")).to_contain_text("Narrow the selector")
    expect(page).to_have_title("(2) War room · Warroom")


def test_no_data_is_never_green(tab: Tab, calm_server: ScriptedServer) -> None:
    page = tab.open(calm_server.url)
    _ready(page, "wall")
    for panel in ("errors", "replica-lag"):
        assert page.locator(f"[data-panel={panel}] [data-mark=ok]").count() == 0
    unknown = page.get_by_label("SLO payment-success")
    expect(unknown.locator("[data-mark]")).to_have_attribute("data-mark", "none")


def test_a_delta_moves_only_the_tiles_it_names(tab: Tab, calm_server: ScriptedServer) -> None:
    page = tab.open(calm_server.url)
    _ready(page, "wall")
    held = story.panels(1_700_000_000_000)["orders"]
    calm_server.tick({"orders": held | {"value": 131.2, "status": "ok"}})
    expect(page.locator("[data-panel=orders]")).to_contain_text("131")
    expect(page.locator("[data-panel=orders]")).to_contain_text("As expected")
    expect(page.locator("[data-panel=revenue]")).to_contain_text("€3,184")


def test_a_change_of_state_is_said_and_a_mere_figure_is_not(
    tab: Tab, calm_server: ScriptedServer
) -> None:
    page = tab.open(calm_server.url)
    _ready(page, "wall")
    spoken = page.locator("[aria-live=polite]")
    held = story.panels(1_700_000_000_000)["orders"]
    calm_server.tick({"orders": held | {"value": 41.9}})
    expect(page.locator("[data-panel=orders]")).to_contain_text("41.9")
    expect(spoken).to_have_text("")
    calm_server.tick({"orders": held | {"value": 130.0, "status": "ok"}})
    expect(spoken).to_have_text("Orders: OK")


def test_points_appended_by_a_delta_reach_the_chart(tab: Tab, calm_server: ScriptedServer) -> None:
    page = tab.open(calm_server.url)
    _ready(page, "wall")
    chart = page.locator("[data-panel=cache-hits]")
    newest = page.evaluate("Date.now()") + 1000
    calm_server.tick({"cache-hits": {"append": {"t": [newest], "values": [[0.111], [0.999]]}}})
    expect(chart.locator("figcaption")).to_contain_text("11.1 %")
    chart.get_by_role("button", name="Table").click()
    expect(chart.locator("tbody tr").first).to_contain_text("11.1 %")


def test_a_message_that_does_not_fit_brings_a_fresh_snapshot(
    tab: Tab, calm_server: ScriptedServer
) -> None:
    page = tab.open(calm_server.url)
    _ready(page, "wall")
    calm_server.tick({"orders": {"state": "ok", "value": 777.0, "unit": "orders/min"}})
    expect(page.locator("[data-panel=orders]")).to_contain_text("777")
    calm_server.tick({"cache-hits": {"append": {"t": [1], "values": [[1], [2], [3]]}}})
    expect(page.locator("[data-panel=orders]")).to_contain_text("42.3")
    assert tab.problems == []


def test_missed_ticks_show_and_a_restart_heals_without_reload(
    tab: Tab, server: ScriptedServer
) -> None:
    page = tab.open(server.url)
    page.locator("[data-panel=orders]").wait_for()
    page.evaluate("window.__same = true")
    expect(page.locator("[data-link=stale]")).to_be_visible()
    expect(page.locator("[data-banner]")).to_contain_text("Stale.")
    expect(page.locator(".board.old")).to_be_visible()
    server.stop()
    expect(page.locator("[data-link=offline]")).to_be_visible()
    server.start()
    expect(page.locator("[data-link=live]")).to_be_visible(timeout=30_000)
    expect(page.locator("[data-banner]")).to_have_count(0)
    assert page.evaluate("window.__same") is True
    refused = [p for p in tab.problems if "ERR_" not in p]
    assert refused == []


def test_a_browser_that_was_cut_off_names_the_last_tick_it_saw(
    tab: Tab, calm_server: ScriptedServer
) -> None:
    page = tab.open(calm_server.url)
    _ready(page, "wall")
    page.evaluate("window.__same = true")
    last = calm_server.tick({"orders": {"state": "ok", "value": 555.0, "unit": "orders/min"}})
    expect(page.locator("[data-panel=orders]")).to_contain_text("555")
    calm_server.cut_off()
    # The snapshot of the new stream shows the story's own figure again.
    expect(page.locator("[data-panel=orders]")).to_contain_text("42.3", timeout=30_000)
    assert calm_server.resumed == ["", str(last)]
    assert page.evaluate("window.__same") is True


def test_alerts_are_counted_whatever_the_board_shows(tab: Tab, calm_server: ScriptedServer) -> None:
    page = tab.open(calm_server.url)
    _ready(page, "wall")
    calm_server.tick({"alerts": {"state": "ok", "alerts": []}}, alerts_active=7)
    expect(page.get_by_label("7 active")).to_be_visible()
    calm_server.tick(alerts_active=0)
    expect(page.get_by_label("7 active")).to_have_count(0)


def test_one_stream_a_tab_whatever_pages_are_opened(tab: Tab, calm_server: ScriptedServer) -> None:
    page = tab.open(calm_server.url)
    _ready(page, "wall")
    pages = page.get_by_role("navigation", name="Pages")
    for name in ("Findings", "Alerts", "Business", "SLOs", "War room"):
        pages.get_by_role("link", name=name).click()
        expect(pages.locator("[aria-current=page]")).to_contain_text(name)
        page.locator("[data-link=live]").wait_for()
    _eventually_one(calm_server, page)


def _eventually_one(server: ScriptedServer, page: Page) -> None:
    for _ in range(100):
        if server.streams == 1:
            return
        page.wait_for_timeout(50)
    assert server.streams == 1


def test_from_the_wall_to_the_cause_by_keyboard_and_link(
    tab: Tab, calm_server: ScriptedServer
) -> None:
    page = tab.open(calm_server.url)
    _ready(page, "wall")
    page.keyboard.press("g")
    page.keyboard.press("f")
    page.locator("[data-finding=n_plus_one_query] .title").click()
    expect(page.get_by_role("heading", name="What to do")).to_be_visible()
    expect(page.locator("main")).to_contain_text('select_related("brand")')
    page.get_by_role("link", name=story.TRACE_ID).click()
    fold = page.get_by_role("button", name="48\u00d7")
    expect(fold).to_have_attribute("aria-expanded", "false")
    fold.click()
    expect(page.get_by_role("button", name="WHERE id = 1000")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name="Evidence")).to_be_visible()


def test_why_an_alert_paged_and_its_acknowledgement(tab: Tab, calm_server: ScriptedServer) -> None:
    page = tab.open(f"{calm_server.url}/alerts/{story.FINGERPRINT}")
    expect(page.get_by_role("heading", name="Why this paged")).to_be_visible()
    expect(page.locator("main")).to_contain_text("group_wait_over")
    page.get_by_role("button", name="Acknowledge").click()
    page.get_by_role("button", name="Acknowledge").and_(page.locator(":enabled")).wait_for()
    assert [path for path, _ in calm_server.posts] == ["/api/warroom/v1/incidents/inc-1/ack"]


def test_a_finding_is_suppressed_with_reason_and_end(tab: Tab, calm_server: ScriptedServer) -> None:
    page = tab.open(f"{calm_server.url}/findings/{story.FINDING_ID}")
    impact = page.get_by_role("region", name="Impact")
    for told in ("\u20ac1,840", "8,120", "113.4k an hour", "2.74 s", "96\u00d7"):
        expect(impact).to_contain_text(told)
    page.get_by_label("Suppress because").fill("known, fixed in v215")
    page.get_by_role("button", name="Suppress", exact=True).click()
    for _ in range(100):
        if calm_server.posts:
            break
        page.wait_for_timeout(20)
    ((path, body),) = calm_server.posts
    assert path == f"/api/warroom/v1/findings/{story.FINDING_ID}/suppress"
    assert body["reason"] == "known, fixed in v215"
    assert body["until"].endswith("Z")


def test_promql_is_completed_from_this_server(tab: Tab, calm_server: ScriptedServer) -> None:
    page = tab.open(f"{calm_server.url}/explore")
    box = page.locator(".cm-content")
    box.click()
    page.keyboard.press("Control+A")
    page.keyboard.type("http_ser", delay=50)
    offered = page.locator(".cm-tooltip-autocomplete li")
    expect(offered.first).to_contain_text("http_server_request_duration_seconds_count")
    # Chromium's own editing keeps the colour of replaced text as a style attribute; the policy
    # blocks that and CodeMirror draws the line anew.
    assert [v for v in tab.violations() if not v.startswith("style-src-attr inline")] == []


def test_tv_mode_fits_the_screen_and_leaves_by_escape(
    tab: Tab, calm_server: ScriptedServer
) -> None:
    page = tab.open(f"{calm_server.url}/?tv=1")
    _ready(page, "tv")
    expect(page.get_by_role("navigation")).to_have_count(0)
    # Asked from outside: a function that polls within the page falls under its policy.
    deadline = time.monotonic() + 15
    while not page.evaluate("document.documentElement.scrollHeight <= innerHeight + 1"):
        assert time.monotonic() < deadline, "the board does not fit the screen"
        page.wait_for_timeout(100)
    page.set_viewport_size({"width": 3840, "height": 2160})
    filled = "document.querySelector('.foot').getBoundingClientRect().bottom / innerHeight"
    while not 0.9 < page.evaluate(filled) < 1.01:
        assert time.monotonic() < deadline + 30, "a large screen is not filled"
        page.wait_for_timeout(100)
    page.keyboard.press("Escape")
    expect(page.get_by_role("navigation")).to_be_visible()
    assert "tv" not in page.url


def test_the_theme_is_remembered_and_the_zone_is_in_the_clock(
    tab: Tab, calm_server: ScriptedServer
) -> None:
    page = tab.open(calm_server.url)
    _ready(page, "wall")
    expect(page.locator(".clock")).to_contain_text("Europe/Berlin")
    page.get_by_label("Time zone").select_option("utc")
    expect(page.locator(".clock")).to_contain_text("UTC")
    page.get_by_label("Theme").select_option("light")
    page.reload()
    _ready(page, "wall")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"


def test_graphs_are_drawn_in_the_colours_of_the_theme_that_was_chosen(
    tab: Tab, calm_server: ScriptedServer
) -> None:
    page = tab.open(f"{calm_server.url}/?theme=dark")
    _ready(page, "wall")
    for theme in ("light", "dark"):
        page.get_by_label("Theme").select_option(theme)
        expect(page.locator("html")).to_have_attribute("data-theme", theme)
        deadline = time.monotonic() + 30
        while not page.evaluate(COLOURS_FIT, "[data-panel=cache-hits] canvas"):
            assert time.monotonic() < deadline, f"the graph has not the colours of {theme}"
            page.wait_for_timeout(50)


@pytest.mark.parametrize("width", [390, 1024, 1441, 1661, 2560])
def test_nothing_is_cut_off_at_any_width(tab: Tab, calm_server: ScriptedServer, width: int) -> None:
    tab.page.set_viewport_size({"width": width, "height": 900})
    page = tab.open(calm_server.url)
    _ready(page, "wall")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
