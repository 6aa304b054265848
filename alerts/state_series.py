"""The series that Prometheus keeps of alerts: ALERTS and ALERTS_FOR_STATE."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from alerts.model import AlertState
from alerts.rule_evaluation import STALE_NAN
from alerts.state import AlertRecord
from store.errors import WarroomError
from store.model import METRIC_NAME, Labels, SampleBatch
from store.ports import Appender

_log = structlog.get_logger()


class AlertSeries:
    """Appends the two series at each tick, and ends those whose alert is gone."""

    def __init__(self, appender: Appender) -> None:
        self._appender = appender
        self._last: frozenset[Labels] = frozenset()

    def append(self, records: Iterable[AlertRecord], now_ms: int) -> None:
        """Queue this tick's samples. A full queue is logged: the states themselves are safe."""
        values = dict(_samples(records))
        rows = [(labels, now_ms, value) for labels, value in values.items()]
        rows += [(labels, now_ms, STALE_NAN) for labels in self._last - values.keys()]
        self._last = frozenset(values)
        if not rows:
            return
        try:
            self._appender.append(SampleBatch.of_rows(rows))
        except WarroomError as exc:
            _log.warning("alert_series_not_kept", error=str(exc))


def _samples(records: Iterable[AlertRecord]) -> Iterable[tuple[Labels, float]]:
    for record in records:
        if record.state is AlertState.RESOLVED:
            continue
        labels = record.labels.to_dict()
        state = {**labels, METRIC_NAME: "ALERTS", "alertstate": str(record.state)}
        yield Labels.of(state), 1.0
        held = {**labels, METRIC_NAME: "ALERTS_FOR_STATE"}
        yield Labels.of(held), float(record.active_ms // 1000)
