"""Metrics queries of Datadog, over its public timeseries API."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from collector.polling.contract import PollFailed, Reading, Sample
from collector.polling.fields import Fields, Secret
from collector.polling.http import JsonClient, base_url
from collector.polling.json_shapes import at, items, mapping, number
from store.model import MetricMetadata

MAX_QUERIES = 20
WINDOW_MS = 300_000
STEP_MS = 60_000
PATIENCE_S = 60.0
_PATH = "/api/v2/query/timeseries"
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_SITE = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+")
_NOT_A_LABEL = re.compile(r"[^a-zA-Z0-9_]")


@dataclass(frozen=True, slots=True)
class DatadogSettings:
    """What is asked: name of the series here -> a metrics query there."""

    url: str
    api_key: Secret
    app_key: Secret
    queries: Mapping[str, str]


def read_datadog(fields: Fields) -> DatadogSettings:
    """The fields of a `datadog` entry."""
    site = fields.text("site", "datadoghq.com")
    if not _SITE.fullmatch(site):
        raise fields.error("site", f"{site[:60]!r} is no site", hint="such as datadoghq.eu")
    queries = fields.mapping("queries")
    if not 0 < len(queries) <= MAX_QUERIES:
        raise fields.error("queries", f"1 to {MAX_QUERIES} queries are expected")
    for name in queries:
        if not _NAME.fullmatch(name):
            raise fields.error("queries", f"{name!r} is no metric name", hint="name: query")
    return DatadogSettings(
        url=base_url(fields, "url", f"https://api.{site}"),
        api_key=fields.needed_secret("api_key"),
        app_key=fields.needed_secret("app_key"),
        queries=queries,
    )


class DatadogPoller:
    """Asks for the last five minutes; each point keeps its own time.

    Points are written again at the next poll, for Datadog completes its newest ones later.
    """

    def __init__(self, settings: DatadogSettings, timeout_s: float) -> None:
        del timeout_s
        self._settings = settings
        headers = {
            "DD-API-KEY": settings.api_key.value,
            "DD-APPLICATION-KEY": settings.app_key.value,
        }
        self._client = JsonClient(settings.url, headers=headers, patience_s=PATIENCE_S)

    async def poll(self, now_ms: int) -> Reading:
        reading = Reading()
        failed: PollFailed | None = None
        for name, query in self._settings.queries.items():
            try:
                attributes = await self._ask(query, now_ms)
            except PollFailed as error:
                if error.retry_after_s is not None:
                    raise
                failed = error
                reading.lacks(name, error.message, "Try this query in Datadog's own explorer.")
                continue
            _points(reading, name, attributes)
        if failed is not None and len(reading.missing) == len(self._settings.queries):
            raise failed
        return reading

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _ask(self, query: str, now_ms: int) -> Any:
        """What the API tells of one query. A query that is wrong may have HTTP status 200, too."""
        answer = await self._client.post(_PATH, _body(query, now_ms))
        attributes, errors = at(answer, "data.attributes"), mapping(answer).get("errors")
        if errors or not isinstance(attributes, dict):
            told = str(errors or "the answer is not one of Datadog's timeseries")
            raise PollFailed(told, hint="check the query and what the application key may read")
        return attributes


def _body(query: str, now_ms: int) -> dict[str, Any]:
    attributes = {
        "from": now_ms - WINDOW_MS,
        "to": now_ms,
        "interval": STEP_MS,
        "formulas": [{"formula": "a"}],
        "queries": [{"data_source": "metrics", "name": "a", "query": query}],
    }
    return {"data": {"type": "timeseries_request", "attributes": attributes}}


def _points(reading: Reading, name: str, attributes: Any) -> None:
    times = items(mapping(attributes).get("times"))
    every = items(mapping(attributes).get("values"))
    for place, series in enumerate(items(mapping(attributes).get("series"))):
        labels = _labels(items(mapping(series).get("group_tags")))
        values = items(every[place]) if place < len(every) else ()
        for at_ms, value in zip(times, values, strict=False):
            point, moment = number(value), number(at_ms)
            if point is not None and moment is not None and 0 < moment < 1 << 50:
                sample = Sample(name, labels, point, int(moment))
                reading.add(MetricMetadata(name), sample)


def _labels(tags: Any) -> dict[str, str]:
    pairs = (str(tag).partition(":") for tag in tags)
    return {f"tag_{_NOT_A_LABEL.sub('_', name)}": value for name, _, value in pairs if value}
