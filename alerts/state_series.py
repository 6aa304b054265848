"""The series that Prometheus keeps of alerts: ALERTS and ALERTS_FOR_STATE."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import structlog

from alerts.model import AlertState
from alerts.rule_evaluation import STALE_NAN
from alerts.state import AlertRecord
from store.errors import WarroomError
from store.model import METRIC_NAME, Labels, SampleBatch
from store.ports import Appender

_log = structlog.get_logger()
_STATE = "alertstate"
_GIVEN = frozenset({METRIC_NAME, _STATE})


_Series = tuple[AlertState, Labels, Labels]


class AlertSeries:
    """Appends the two series at each tick, and ends those whose alert is gone."""

    def __init__(self, appender: Appender) -> None:
        self._appender = appender
        self._last: dict[str, _Series] = {}

    def append(self, records: Iterable[AlertRecord], now_ms: int) -> None:
        """Queue this tick's samples. A full queue is logged: the states themselves are safe."""
        held: dict[str, _Series] = {}
        series: list[Labels] = []
        values: list[float] = []
        for record in records:
            if record.state is AlertState.RESOLVED:
                continue
            known = self._last.get(record.fingerprint)
            if known is None or known[0] is not record.state:
                known = _series(record)
            held[record.fingerprint] = known
            series += known[1:]
            values += (1.0, float(record.active_ms // 1000))
        for identity, (state, alerts, for_state) in self._last.items():
            now = held.get(identity)
            ended = [] if now and now[0] is state else [alerts]
            series += ended if now else [*ended, for_state]
            values += [STALE_NAN] * (len(ended) + (now is None))
        self._last = held
        if series:
            self._append(series, values, now_ms)

    def _append(self, series: list[Labels], values: list[float], now_ms: int) -> None:
        count = len(series)
        batch = SampleBatch(
            series=tuple(series),
            series_index=np.arange(count, dtype=np.int32),
            ts_ms=np.full(count, now_ms, dtype=np.int64),
            values=np.asarray(values, dtype=np.float64),
        )
        try:
            self._appender.append(batch)
        except WarroomError as exc:
            _log.warning("alert_series_not_kept", error=str(exc))


def _series(record: AlertRecord) -> _Series:
    own = [pair for pair in record.labels.pairs if pair[0] not in _GIVEN]
    state = sorted([*own, (METRIC_NAME, "ALERTS"), (_STATE, record.state.value)])
    if len(own) < len(record.labels):
        own = [pair for pair in record.labels.pairs if pair[0] != METRIC_NAME]
    held = sorted([*own, (METRIC_NAME, "ALERTS_FOR_STATE")])
    return record.state, Labels.ordered(tuple(state)), Labels.ordered(tuple(held))
