"""What a browser's request tells beside its body: the page, the class of device, a crawler's name.

Nothing else of these headers is kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_MACHINE = re.compile(
    # CUBOT makes phones.
    r"(?<!cu)bot\b|crawl|spider|slurp|lighthouse|pagespeed|facebookexternalhit|HeadlessChrome",
    re.IGNORECASE,
)
_TABLET = re.compile(r"iPad|Tablet|Kindle|Silk/|PlayBook|Android(?!.*Mobi)", re.IGNORECASE)
_MOBILE = re.compile(r"Mobi|iPhone|iPod|Windows Phone", re.IGNORECASE)
_DESKTOP = re.compile(r"Windows NT|Macintosh|X11|CrOS", re.IGNORECASE)
_MAX_AGENT = 512


@dataclass(frozen=True, slots=True)
class Sender:
    """Of one request. `page` is a URL or the empty string; `device` is a class or `unknown`."""

    page: str = ""
    device: str = "unknown"
    is_machine: bool = False


def sender_of(headers: Mapping[str, str]) -> Sender:
    """The sender of a request; header names in any case that `headers` itself finds."""
    agent = headers.get("user-agent", "")[:_MAX_AGENT]
    return Sender(
        headers.get("referer", "")[:2048],
        _device(agent, headers.get("sec-ch-ua-mobile", "")),
        _MACHINE.search(agent) is not None,
    )


def _device(agent: str, hint: str) -> str:
    """By the client hint, where a browser gives one, and else by the user agent.

    A tablet's browser may ask for desktop pages, and is then a desktop to everybody.
    """
    if _TABLET.search(agent):
        return "tablet"
    if hint.strip() == "?1" or _MOBILE.search(agent):
        return "mobile"
    return "desktop" if _DESKTOP.search(agent) else "unknown"
