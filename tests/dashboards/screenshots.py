"""Pictures of every page, dark and light, to be looked at: `make screenshots`.

Of the scripted story by default, or of a running service: `--url http://127.0.0.1:8600`.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
from playwright.sync_api import Page, sync_playwright

from tests.dashboards.conftest import FLAGS
from tests.dashboards.fixture import serving
from tests.dashboards.test_browser import PAGES

_OWN = "/api/warroom/v1"


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
    with _service(arguments.url) as (url, pages), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        context = browser.new_context(
            viewport={"width": arguments.width, "height": 1000}, reduced_motion="reduce"
        )
        for name, path in pages.items():
            for theme in ("dark", "light"):
                sign = "&" if "?" in path else "?"
                page = context.new_page()
                heard = _errors(page)
                page.goto(f"{url}{path}{sign}theme={theme}")
                page.locator("[data-link=live]").wait_for()
                page.wait_for_load_state("load")
                page.wait_for_timeout(1_500)
                target = arguments.out / f"{name}-{theme}.png"
                page.screenshot(path=target, full_page=True)
                print(target, *heard)
                problems += len(heard)
                page.close()
        browser.close()
    return 1 if problems else 0


def _errors(page: Page) -> list[str]:
    heard: list[str] = []
    page.on("console", lambda said: heard.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: heard.append(str(error)))
    return heard


@contextlib.contextmanager
def _service(url: str) -> Iterator[tuple[str, dict[str, str]]]:
    if not url:
        with serving(interval_ms=60_000) as server:
            yield server.url, PAGES
        return
    url = url.rstrip("/")
    yield url, {**PAGES, **_of_this_service(url)}


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
