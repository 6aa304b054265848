"""A real browser (Debian's Chromium) and a real server for the pages."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, sync_playwright

from tests.dashboards.fixture import ScriptedServer, serving

ROOT = Path(__file__).parents[2]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WATCH_CSP = (
    "window.__csp = []; document.addEventListener('securitypolicyviolation', "
    "e => window.__csp.push(`${e.violatedDirective} ${e.blockedURI} ${e.sample}`))"
)


def require(found: bool, what: str) -> None:
    """Skips by name on a bare machine; in CI a missing part is a failure, not a quiet pass."""
    if found:
        return
    if os.environ.get("CI", "").lower() in {"1", "true", "yes"}:
        pytest.fail(f"CI must run the browser tests: {what}")
    pytest.skip(what)


# Not of the session: Playwright keeps a loop running here, and asyncio.run fails beside it.
@pytest.fixture(scope="module")
def chromium() -> Iterator[BrowserContext]:
    path = shutil.which("chromium")
    require(path is not None, "chromium is not installed (apt-get install chromium)")
    built = ROOT / "dashboards/static/index.html"
    require(built.is_file(), "the dashboards are not built (make install)")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=path,
            headless=True,
            args=FLAGS,
            viewport={"width": 1920, "height": 1080},
            reduced_motion="reduce",
        )
        context.set_default_timeout(15_000)
        yield context
        context.close()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """Ticks come when told; a page counts as stale after about 1.2 s without one."""
    with serving(interval_ms=500) as running:
        yield running


@pytest.fixture
def calm_server() -> Iterator[ScriptedServer]:
    """Nothing turns stale while a test looks around."""
    with serving(interval_ms=60_000) as running:
        yield running


class Tab:
    """A page with a record of everything it should not do."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.problems: list[str] = []
        self.requests: list[str] = []
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.add_init_script(WATCH_CSP)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.problems.append(message.text)

    def open(self, url: str) -> Page:
        self.page.goto(url)
        return self.page

    def violations(self) -> list[str]:
        found: list[str] = self.page.evaluate("window.__csp")
        return found


@pytest.fixture
def tab(chromium: BrowserContext) -> Iterator[Tab]:
    page = chromium.new_page()
    yield Tab(page)
    if not page.is_closed():
        if page.url.startswith("http"):
            page.evaluate("localStorage.clear()")
        page.close()
