"""A Prometheus-compatible API (Prometheus, Mimir, VictoriaMetrics, PMM): PromQL and federation."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from collector.polling.contract import PollFailed, Reading, Sample
from collector.polling.fields import Fields, Secret
from collector.polling.http import JsonClient, base_url
from store.model import METRIC_NAME, MetricMetadata

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
MAX_QUERIES = 50
_BAD = "query this in Prometheus itself: /api/v1/query"


@dataclass(frozen=True, slots=True)
class PrometheusSettings:
    """What is asked.

    Attributes:
        url: The address before `/api/v1/query`.
        queries: Name of the series here -> PromQL there.
        match: Series selectors whose newest samples are taken under their own names.
        user: For basic authentication.
        password: Its password.
        token: A bearer token.
        tenant: Mimir's `X-Scope-OrgID`.
    """

    url: str
    queries: Mapping[str, str]
    match: tuple[str, ...] = ()
    user: str = ""
    password: Secret | None = None
    token: Secret | None = None
    tenant: str = ""


def read_prometheus(fields: Fields) -> PrometheusSettings:
    """The fields of a `prometheus` entry."""
    found = PrometheusSettings(
        url=base_url(fields, "url"),
        queries=fields.mapping("queries"),
        match=fields.texts("match"),
        user=fields.text("user", ""),
        password=fields.secret("password"),
        token=fields.secret("token"),
        tenant=fields.text("tenant", ""),
    )
    for name in found.queries:
        if not _NAME.fullmatch(name):
            raise fields.error("queries", f"{name!r} is no metric name", hint="name: PromQL")
    asked = len(found.queries) + len(found.match)
    if not 0 < asked <= MAX_QUERIES:
        raise fields.error("queries", f"queries and match: 1 to {MAX_QUERIES} are expected")
    if found.token and found.user:
        raise fields.error("user", "either user and password, or a token")
    return found


class PrometheusPoller:
    """Asks for the newest values; labels of the other side are kept."""

    def __init__(self, settings: PrometheusSettings, timeout_s: float) -> None:
        self._settings = settings
        self._timeout_s = timeout_s
        headers = {}
        if settings.token is not None:
            headers["Authorization"] = f"Bearer {settings.token.value}"
        if settings.tenant:
            headers["X-Scope-OrgID"] = settings.tenant
        password = "" if settings.password is None else settings.password.value
        auth = (settings.user, password) if settings.user else None
        self._client = JsonClient(settings.url, headers=headers, basic_auth=auth)

    async def poll(self, now_ms: int) -> Reading:
        reading = Reading()
        failed: PollFailed | None = None
        asked = [*self._settings.queries.items(), *(("", text) for text in self._settings.match)]
        for name, query in asked:
            try:
                answer = await self._ask(query, now_ms)
                rows = [_row(row) for row in _vector(answer)]
            except PollFailed as error:
                failed = error
                reading.lacks(name or query[:60], error.message, _BAD)
                continue
            for labels, value in rows:
                _add(reading, name or labels.get(METRIC_NAME, ""), labels, value)
        if failed is not None and len(reading.missing) == len(asked):
            raise failed
        return reading

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _ask(self, query: str, now_ms: int) -> Any:
        timeout = f"{self._timeout_s:g}s"
        form = {"query": query, "time": f"{now_ms / 1000:.3f}", "timeout": timeout}
        return await self._client.post_form("/api/v1/query", form)


def _vector(answer: Any) -> list[Any]:
    """The rows of a vector, or of a scalar.

    Raises:
        PollFailed: It is no answer of this API.
    """
    try:
        if answer["status"] != "success":
            raise PollFailed(str(answer.get("error", "no reason given")))
        data = answer["data"]
        if data["resultType"] == "scalar":
            return [{"metric": {}, "value": data["result"]}]
        if data["resultType"] != "vector":
            raise PollFailed(f"the query gives a {data['resultType']}, a vector is expected")
        return list(data["result"])
    except (KeyError, TypeError, AttributeError) as error:
        raise PollFailed("the answer is not one of Prometheus's API") from error


def _row(row: Any) -> tuple[dict[str, str], float]:
    try:
        labels = {str(name): str(value) for name, value in row["metric"].items()}
        return labels, float(row["value"][1])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise PollFailed("a row of the answer has no single value") from error


def _add(reading: Reading, name: str, labels: Mapping[str, str], value: float) -> None:
    if _NAME.fullmatch(name) and not math.isnan(value):
        own = {key: text for key, text in labels.items() if key != METRIC_NAME}
        reading.add(MetricMetadata(name), Sample(name, own, value))
