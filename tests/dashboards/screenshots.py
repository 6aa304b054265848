"""Pictures of every page, dark and light, for a desk and a phone: `make screenshots`.

Of the scripted story by default, or of a running service: `--url http://127.0.0.1:8600`.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import httpx
from playwright.sync_api import BrowserContext, Page, sync_playwright

from tests.dashboards.conftest import FLAGS
from tests.dashboards.fixture import ScriptedServer, serving
from tests.dashboards.test_browser import PAGES, READY

_OWN = "/api/warroom/v1"
PHONE = 390
THEMES: tuple[Literal["dark", "light"], ...] = ("dark", "light")
_LIVE = "[data-link=live]"
NOT_THERE = {
    "no_such_finding": "/findings/none",
    "no_such_incident": "/incidents/none",
    "no_such_trace": "/traces/00000000000000000000000000000000",
}


def main() -> int:
    """Write the pictures; 1 when a page had an error in its console."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="", help="a running service (default: the story)")
    parser.add_argument("--out", type=Path, default=Path("data/screenshots"))
    parser.add_argument("--width", type=int, default=1680)
    arguments = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        print("chromium is needed: apt-get install chromium", file=sys.stderr)
        return 1
    arguments.out.mkdir(parents=True, exist_ok=True)
    problems = 0
    with _service(arguments.url) as (url, pages, server), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        for width, heights in ((arguments.width, 1000), (PHONE, 844)):
            context = browser.new_context(
                viewport={"width": width, "height": heights}, reduced_motion="reduce"
            )
            for name, path in pages.items():
                target = arguments.out / _named(name, width)
                # Only of the story it is known what must appear.
                filled = READY.get(name, ("main tr, main li",)) if server else ("main",)
                filled = ("main",) if name in NOT_THERE else filled
                problems += _pictures(context, url + path, target, (_LIVE, *filled))
            if server is not None:
                # Last: from here on everything else is closed.
                server.token = "wr_wall"
                problems += _pictures(
                    context, url, arguments.out / _named("sign_in", width), ("h1",)
                )
                server.token = ""
            context.close()
        browser.close()
    return 1 if problems else 0


def _named(name: str, width: int) -> str:
    return f"{name}-phone" if width == PHONE else name


def _pictures(context: BrowserContext, address: str, target: Path, ready: tuple[str, ...]) -> int:
    """One page in both themes, read once; how many errors it had."""
    page = context.new_page()
    heard = _errors(page)
    sign = "&" if "?" in address else "?"
    page.goto(f"{address}{sign}theme=system")
    for selector in ready:
        page.locator(selector).first.wait_for()
    if "tv" not in target.name:
        # As high as the page is: what sticks to the screen's edge must not lie across it.
        width, height = page.evaluate(
            "[innerWidth, Math.max(innerHeight, document.documentElement.scrollHeight)]"
        )
        page.set_viewport_size({"width": width, "height": min(height, 8_000)})
    pictures = []
    for theme in THEMES:
        page.emulate_media(color_scheme=theme)
        page.wait_for_timeout(400)
        pictures.append(target.with_name(f"{target.name}-{theme}.png"))
        page.screenshot(path=pictures[-1], full_page=True)
    page.close()
    # A page that asks for what is not there is meant to be told so.
    wrong = [text for text in heard if not ("no_such" in target.name and "404" in text)]
    wrong = [text for text in wrong if not ("sign_in" in target.name and "401" in text)]
    print(*pictures, *wrong, flush=True)
    return len(wrong)


def _errors(page: Page) -> list[str]:
    heard: list[str] = []
    page.on("console", lambda said: heard.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: heard.append(str(error)))
    return heard


@contextlib.contextmanager
def _service(url: str) -> Iterator[tuple[str, dict[str, str], ScriptedServer | None]]:
    """Its address, its pages, and the server itself where it is the story's."""
    if not url:
        with serving(interval_ms=60_000) as server:
            yield server.url, PAGES | NOT_THERE, server
        return
    url = url.rstrip("/")
    yield url, {**PAGES, **NOT_THERE, **_of_this_service(url)}, None


def _of_this_service(url: str) -> dict[str, str]:
    """Pages of one thing need one that this service has."""

    def first(path: str, kind: str, key: str) -> str:
        entries = httpx.get(f"{url}{_OWN}{path}", timeout=30).json()[kind]
        return str(entries[0][key]) if entries else "none"

    return {
        "alert": f"/alerts/{first('/alerts', 'alerts', 'fingerprint')}",
        "incident": f"/incidents/{first('/incidents', 'incidents', 'id')}",
        "finding": f"/findings/{first('/findings', 'findings', 'id')}",
        "trace": f"/traces/{first('/traces?limit=1', 'traces', 'trace_id')}",
    }


if __name__ == "__main__":
    sys.exit(main())
