"""/api/v1/status: what Grafana asks to learn whom it talks to."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence

from api.routers.prometheus_json import encode, success
from api.routers.prometheus_parameters import MAX_TIME_MS, MIN_TIME_MS, Parameters
from store.model import METRIC_NAME, Labels
from store.ports import SeriesAdmin, SeriesCatalog, SpaceReclaimer, TsdbReader, TsdbStatus

# The Prometheus whose query language and API this is; clients choose features by it.
COMPATIBLE_VERSION = "3.5.0"
_TOP = 10
_NO_MIN, _NO_MAX = 2**63 - 1, -(2**63)
_MAX_SERIES = 200_000


def build() -> bytes:
    """Buildinfo. It has no `features`: with them Grafana takes a server for Mimir."""
    return success(
        encode(
            {
                "version": COMPATIBLE_VERSION,
                "revision": "",
                "branch": "",
                "buildUser": "",
                "buildDate": "",
                "goVersion": "",
                "application": "Warroom",
                "pythonVersion": platform.python_version(),
            }
        )
    )


def tsdb(catalog: SeriesCatalog, given: Parameters) -> bytes:
    """Cardinality: the names, labels and pairs with the most series.

    A chunk is a block of the store's memory, as in Prometheus's head. A catalog that cannot count
    is listed instead.
    """
    limit = given.limit() or _TOP
    if isinstance(catalog, TsdbReader):
        return success(encode(_told(catalog.tsdb_status(limit))))
    series = catalog.series((), MIN_TIME_MS, MAX_TIME_MS, limit=_MAX_SERIES)
    data = {
        "headStats": {
            "numSeries": len(series),
            "numLabelPairs": len({pair for labels in series for pair in labels}),
            "chunkCount": 0,
            "minTime": 0,
            "maxTime": 0,
        },
        **_cardinality(series, limit),
    }
    return success(encode(data))


def _told(status: TsdbStatus) -> dict[str, object]:
    return {
        "headStats": {
            "numSeries": status.series,
            "numLabelPairs": status.label_pairs,
            "chunkCount": status.chunks,
            # Of an empty head Prometheus tells these two.
            "minTime": _NO_MIN if status.oldest_ms is None else status.oldest_ms,
            "maxTime": _NO_MAX if status.newest_ms is None else status.newest_ms,
        },
        "seriesCountByMetricName": _listed(status.by_metric),
        "labelValueCountByLabelName": _listed(status.values_by_label),
        "memoryInBytesByLabelName": _listed(status.bytes_by_label),
        "seriesCountByLabelValuePair": _listed(status.by_pair),
    }


def _listed(counts: Sequence[tuple[str, int]]) -> list[dict[str, object]]:
    return [{"name": name, "value": count} for name, count in counts]


def clean_tombstones(admin: SeriesAdmin) -> bytes:
    """admin/tsdb/clean_tombstones: nothing is answered when it is done."""
    if isinstance(admin, SpaceReclaimer):
        admin.reclaim()
    return b""


def _cardinality(series: list[Labels], limit: int) -> dict[str, list[dict[str, object]]]:
    names = Counter(labels.get(METRIC_NAME) for labels in series)
    pairs = Counter(f"{name}={value}" for labels in series for name, value in labels)
    distinct = {pair for labels in series for pair in labels}
    values = Counter(name for name, _ in distinct)
    sizes: Counter[str] = Counter()
    for labels in series:
        for name, value in labels:
            sizes[name] += len(value.encode("utf-8", "replace"))
    return {
        "seriesCountByMetricName": _top(names, limit),
        "labelValueCountByLabelName": _top(values, limit),
        "memoryInBytesByLabelName": _top(sizes, limit),
        "seriesCountByLabelValuePair": _top(pairs, limit),
    }


def _top(counts: Counter[str], limit: int) -> list[dict[str, object]]:
    return [{"name": name, "value": count} for name, count in counts.most_common(limit)]
