"""Apprise: the long tail of channels that are told, never paged (the extra `apprise`).

Contract: https://github.com/caronc/apprise/wiki. It answers with a yes or a no, so that a refusal
for good cannot be told from one that passes: both are tried again until the notice is given up.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
from concurrent.futures import ThreadPoolExecutor

import httpx

from alerts.notification import DeliveryError, EventAction, Notice, Receipt
from alerts.page import page_of
from alerts.route_tree import Integration

INSTALL = "pip install 'warroom[apprise]'"
# Warroom's own adapters page with a dedup key and end what they began; these would do neither.
PAGING_SCHEMES = frozenset({"pagerduty", "opsgenie"})
TIMEOUT_S = 30.0
_MAX_BODY = 8_000


def installed() -> bool:
    """The library is there."""
    return importlib.util.find_spec("apprise") is not None


async def deliver(
    notice: Notice, integration: Integration, client: httpx.AsyncClient, now_ms: int
) -> Receipt:
    """Tell once. The library has a connection of its own, on another thread.

    A call that took too long cannot be ended: it may still tell, and the next attempt once more.
    """
    del client, now_ms
    if not installed():
        raise DeliveryError(f"apprise is not installed: {INSTALL}", permanent=True)
    page = page_of(notice)
    title = page.summary or f"Acknowledged by {notice.who}"
    kind = "success" if notice.action is EventAction.RESOLVE else "warning"
    tell = functools.partial(_tell, integration.secrets["url"].value, title, page.text(), kind)
    # A thread of its own: one that hangs must not hold those that the tick runs on.
    executor = ThreadPoolExecutor(1, thread_name_prefix="apprise")
    try:
        async with asyncio.timeout(TIMEOUT_S):
            taken = await asyncio.get_running_loop().run_in_executor(executor, tell)
    except TimeoutError as exc:
        raise DeliveryError(f"no answer within {TIMEOUT_S:g} s", permanent=False) from exc
    finally:
        executor.shutdown(wait=False)
    if taken is None:
        raise DeliveryError("apprise does not understand the address", permanent=True)
    if not taken:
        raise DeliveryError("the channel behind apprise did not take it", permanent=False)
    return Receipt(200, "taken")


def _tell(url: str, title: str, body: str, kind: str) -> bool | None:
    """Whether it was taken; None when the address names no channel."""
    import apprise  # noqa: PLC0415  # an extra

    # It would log addresses with their secrets.
    apprise.logger.disabled = True
    channel = apprise.Apprise()
    if not channel.add(url):
        return None
    text = body[:_MAX_BODY] or title
    return bool(channel.notify(body=text, title=title, notify_type=kind))
