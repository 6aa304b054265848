"""Cloudflare's zones over its GraphQL analytics, by the names of the lablabs exporter."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from collector.polling.contract import PollFailed, Reading
from collector.polling.fields import Fields, Secret
from collector.polling.http import JsonClient, base_url
from collector.polling.json_shapes import at, items, mapping, number

MAX_ZONES = 10  # in one query
MAX_GROUPS = 5_000
MINUTE_MS = 60_000
MAX_CATCH_UP_MS = 60 * MINUTE_MS
PATIENCE_S = 300.0
_TAG = re.compile(r"[0-9a-f]{32}")
_LESS = "Poll it every minute, so that one query has fewer minutes to tell of."
_CACHED = frozenset({"hit", "stale", "updating", "revalidated"})
_PATH = "/client/v4/graphql"
_QUERY = """
query Requests($tags: [string!], $from: Time!, $to: Time!, $limit: uint64!) {
  viewer {
    zones(filter: {zoneTag_in: $tags}) {
      zoneTag
      httpRequestsAdaptiveGroups(
        limit: $limit
        filter: {datetime_geq: $from, datetime_lt: $to, requestSource: "eyeball"}
      ) {
        count
        sum { edgeResponseBytes }
        dimensions { cacheStatus edgeResponseStatus }
      }
    }
  }
}
"""


@dataclass(frozen=True, slots=True)
class CloudflareSettings:
    """What is asked.

    Attributes:
        token: An API token with the right Analytics:Read.
        zones: Name of a zone -> its tag of 32 hexadecimal digits.
        delay_s: Minutes younger than this are not complete yet and are left for later.
        url: Where the API is.
    """

    token: Secret
    zones: Mapping[str, str]
    delay_s: float = 120.0
    url: str = "https://api.cloudflare.com"


def read_cloudflare(fields: Fields) -> CloudflareSettings:
    """The fields of a `cloudflare` entry."""
    zones = fields.mapping("zones")
    if not 0 < len(zones) <= MAX_ZONES:
        raise fields.error("zones", f"1 to {MAX_ZONES} zones are expected", hint="name: tag")
    for name, tag in zones.items():
        if not _TAG.fullmatch(tag):
            raise fields.error("zones", f"the tag of {name} is not 32 hexadecimal digits")
    return CloudflareSettings(
        token=fields.needed_secret("token"),
        zones=zones,
        delay_s=fields.duration_s("delay", 120.0),
        url=base_url(fields, "url", "https://api.cloudflare.com"),
    )


class CloudflarePoller:
    """Adds up whole minutes, so that the series are counters and no request counts twice.

    A minute is only passed when it was read: after an outage the last hour is caught up.
    """

    def __init__(self, settings: CloudflareSettings, timeout_s: float) -> None:
        del timeout_s
        self._settings = settings
        headers = {"Authorization": f"Bearer {settings.token.value}"}
        self._client = JsonClient(settings.url, headers=headers, patience_s=PATIENCE_S)
        self._totals: dict[str, Counter[tuple[str, str]]] = {
            name: Counter() for name in settings.zones
        }
        self._read_to_ms = 0

    async def poll(self, now_ms: int) -> Reading:
        until_ms = (now_ms - round(self._settings.delay_s * 1000)) // MINUTE_MS * MINUTE_MS
        since_ms = max(self._read_to_ms or until_ms - MINUTE_MS, until_ms - MAX_CATCH_UP_MS)
        reading = Reading()
        if since_ms < until_ms:
            zones = await self._ask(since_ms, until_ms)
            self._add(zones, reading)
            self._read_to_ms = until_ms
        for zone, totals in self._totals.items():
            for (metric, status), value in totals.items():
                labels = {"zone": zone, **({"status": status} if status else {})}
                reading.counter(f"cloudflare_zone_{metric}", value, labels)
        return reading

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _ask(self, since_ms: int, until_ms: int) -> Mapping[str, Any]:
        """What the API tells of each zone, by its tag.

        Raises:
            PollFailed: It refuses, also in an answer with status 200.
        """
        variables = {
            "tags": sorted(self._settings.zones.values()),
            "from": _time(since_ms),
            "to": _time(until_ms),
            "limit": MAX_GROUPS,
        }
        answer = await self._client.post(_PATH, {"query": _QUERY, "variables": variables})
        errors = items(mapping(answer).get("errors"))
        if errors:
            told = str(mapping(errors[0]).get("message", "no reason given"))
            patience_s = PATIENCE_S if "try again" in told or "too many" in told else None
            raise PollFailed(
                told, hint="check the token, its zones and its plan", retry_after_s=patience_s
            )
        zones = at(answer, "data.viewer.zones")
        if not isinstance(zones, list):
            raise PollFailed("the answer is not one of Cloudflare's analytics")
        return {str(mapping(zone).get("zoneTag")): zone for zone in zones}

    def _add(self, zones: Mapping[str, Any], reading: Reading) -> None:
        for name, tag in self._settings.zones.items():
            totals = self._totals[name]
            for metric in ("requests_total", "requests_cached", "bandwidth_total"):
                totals[metric, ""] += 0
            if tag not in zones:
                reading.lacks(f"zone {name}", "the API tells nothing of it", "Check its tag.")
                continue
            groups = items(mapping(zones[tag]).get("httpRequestsAdaptiveGroups"))
            if len(groups) >= MAX_GROUPS:
                reading.lacks(f"zone {name}", "more groups than a query may bring", _LESS)
            for group in groups:
                _count(totals, group)


def _count(totals: Counter[tuple[str, str]], group: Any) -> None:
    requests = int(number(mapping(group).get("count")) or 0)
    size = int(number(at(group, "sum.edgeResponseBytes")) or 0)
    status = str(at(group, "dimensions.edgeResponseStatus") or "")
    totals["requests_total", ""] += requests
    totals["bandwidth_total", ""] += size
    if status.isdigit():
        totals["requests_status", status] += requests
    if str(at(group, "dimensions.cacheStatus")).lower() in _CACHED:
        totals["requests_cached", ""] += requests
        totals["bandwidth_cached", ""] += size


def _time(at_ms: int) -> str:
    return f"{np.datetime64(at_ms // 1000, 's')}Z"
