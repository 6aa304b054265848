"""NRQL queries of New Relic, over NerdGraph."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from collector.polling.contract import PollFailed, Reading
from collector.polling.fields import Fields, Secret
from collector.polling.http import JsonClient, base_url
from collector.polling.json_shapes import at, items, mapping, number

MAX_QUERIES = 20
MAX_ACCOUNT = 2**53
PATIENCE_S = 60.0
_REGIONS = {"us": "https://api.newrelic.com", "eu": "https://api.eu.newrelic.com"}
_PATH = "/graphql"
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_TIMES = frozenset({"beginTimeSeconds", "endTimeSeconds", "timestamp", "inspectedCount"})
_QUERY = (
    "query ($id: Int!, $nrql: Nrql!, $wait: Seconds!) "
    "{ actor { account(id: $id) { nrql(query: $nrql, timeout: $wait) { results } } } }"
)


@dataclass(frozen=True, slots=True)
class NewrelicSettings:
    """What is asked: name of the series here -> NRQL there."""

    url: str
    account: int
    api_key: Secret
    queries: Mapping[str, str]


def read_newrelic(fields: Fields) -> NewrelicSettings:
    """The fields of a `newrelic` entry."""
    region = fields.text("region", "us")
    if region not in _REGIONS:
        raise fields.error("region", f"{region!r} is unknown", hint="us or eu")
    account = fields.count("account", 0, most=MAX_ACCOUNT)
    if not account:
        raise fields.error("account", "this poller needs the account's number")
    queries = fields.mapping("queries")
    if not 0 < len(queries) <= MAX_QUERIES:
        raise fields.error("queries", f"1 to {MAX_QUERIES} queries are expected")
    for name in queries:
        if not _NAME.fullmatch(name):
            raise fields.error("queries", f"{name!r} is no metric name", hint="name: NRQL")
    return NewrelicSettings(
        url=base_url(fields, "url", _REGIONS[region]),
        account=account,
        api_key=fields.needed_secret("api_key"),
        queries=queries,
    )


class NewrelicPoller:
    """Asks each query; a row is one series, told apart by its facets."""

    def __init__(self, settings: NewrelicSettings, timeout_s: float) -> None:
        self._settings = settings
        self._wait_s = max(1, int(timeout_s))
        headers = {"API-Key": settings.api_key.value}
        self._client = JsonClient(settings.url, headers=headers, patience_s=PATIENCE_S)

    async def poll(self, now_ms: int) -> Reading:
        del now_ms
        reading = Reading()
        failed: PollFailed | None = None
        for name, nrql in self._settings.queries.items():
            try:
                rows = await self._ask(nrql)
            except PollFailed as error:
                if error.retry_after_s is not None:
                    raise
                failed = error
                reading.lacks(name, error.message, "Try this query in New Relic itself.")
                continue
            for row in rows:
                value = _value(mapping(row))
                if value is not None:
                    reading.gauge(name, value, _facets(mapping(row)))
        if failed is not None and len(reading.missing) == len(self._settings.queries):
            raise failed
        return reading

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _ask(self, nrql: str) -> list[Any]:
        """The rows of an answer. Errors come with HTTP status 200."""
        variables = {"id": self._settings.account, "nrql": nrql, "wait": self._wait_s}
        answer = await self._client.post(_PATH, {"query": _QUERY, "variables": variables})
        errors = items(mapping(answer).get("errors"))
        if errors:
            told = str(mapping(errors[0]).get("message", "no reason given"))
            patience_s = PATIENCE_S if at(errors[0], "extensions.errorClass") in _BUSY else None
            raise PollFailed(told, hint="check key, account and NRQL", retry_after_s=patience_s)
        results = at(answer, "data.actor.account.nrql.results")
        if not isinstance(results, list):
            raise PollFailed("the answer is not one of NerdGraph", hint="check the account")
        return results


_BUSY = frozenset({"TOO_MANY_REQUESTS", "RATE_LIMITED"})


def _value(row: Mapping[str, Any]) -> float | None:
    """The column `value`, else the only number of the row."""
    if "value" in row:
        return number(row["value"])
    found = [number(value) for key, value in row.items() if key not in _TIMES]
    numbers = [value for value in found if value is not None]
    return numbers[0] if len(numbers) == 1 else None


def _facets(row: Mapping[str, Any]) -> dict[str, str]:
    facet = row.get("facet")
    values = facet if isinstance(facet, list) else [] if facet is None else [facet]
    return {("facet" if not place else f"facet_{place}"): str(v) for place, v in enumerate(values)}
