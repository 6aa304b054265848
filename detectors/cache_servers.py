"""What the servers and processes of caches tell beside hits and misses: their age, and queues."""

from __future__ import annotations

import numpy as np

from detectors.cache_counters import Cache, read_caches
from store.model import Labels
from store.ports import Querier

_UPTIME = "sig:cache_uptime:seconds"
# A process's own counters began anew: so may its own cache have.
_RESTARTS = "sig:cache_process_restarts:2m"
_POPS = "sig:cache_pops:rate5m"
_PROCESS = ("job", "instance")
# So long a server that was started anew may be cold.
_COLD_S = 60.0
_POPS_MS = 300_000
# Looks between two ticks: an application is asked more often than it is judged.
_LAST_MS = 10_000
_FINE_MS = 1_000
# A server of whose gets so large a part takes from queues is no cache.
_QUEUE = 0.1


class CacheServers:
    """Which servers and processes are cold, and which servers hold queues.

    Raises:
        QueryError: The series cannot be read.
    """

    def __init__(self, querier: Querier, now_ms: int) -> None:
        uptimes = querier.instant(_UPTIME, now_ms)
        self._querier, self._now_ms = querier, now_ms
        self._uptimes_s = {labels.get("instance"): value for labels, value in uptimes.items()}
        self._restarts = _by_process(querier, _RESTARTS, now_ms)
        self._pops = _by_process(querier, _POPS, now_ms)

    def is_cold(self, cache: Cache) -> bool:
        """It, or what is behind it, was started just now.

        Which server is behind an application's cache is not told: any may be.
        """
        if self._restarts.get(cache.labels.keep(_PROCESS), 0.0) > 0:
            return True
        own_s = self._uptimes_s.get(cache.labels.get("instance"))
        uptime_s = min(self._uptimes_s.values(), default=_COLD_S) if own_s is None else own_s
        return uptime_s < _COLD_S

    def answers_none(self, cache: Cache) -> bool:
        """The last sample that tells of gets tells of no hit: what warms up has some by then."""
        start_ms = self._now_ms - _LAST_MS
        for read in read_caches(self._querier, cache.pair, start_ms, self._now_ms, _FINE_MS):
            told = np.flatnonzero(read.gets >= 1)
            if read.labels == cache.labels and len(told):
                return bool(read.hits[told[-1]] < 1)
        return False

    def is_queue(self, cache: Cache) -> bool:
        """Much of what it is asked for is taken from lists; where these are empty, it misses."""
        if cache.pair.system != "redis":
            return False
        pops = self._pops.get(cache.labels.keep(_PROCESS), 0.0)
        lately = cache.steps_ms > cache.steps_ms[-1] - _POPS_MS
        return pops > 0 and pops * _POPS_MS / 1_000 >= _QUEUE * float(cache.gets[lately].sum())


def _by_process(querier: Querier, expr: str, now_ms: int) -> dict[Labels, float]:
    return {labels.keep(_PROCESS): value for labels, value in querier.instant(expr, now_ms).items()}
