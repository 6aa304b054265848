"""The routing in force: the file's, with the overrides on call that people made."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace

from alerts.on_call.stand_ins import StandIn, with_stand_ins
from alerts.route_tree import Routing


class RoutingNow:
    """Swapped as a whole; safe to read from any thread.

    It stays the same object while nothing changes: what was worked out under it stays true.
    """

    def __init__(self, routing: Routing) -> None:
        self._lock = threading.Lock()
        self._file = self._merged = routing
        self._stand_ins: tuple[StandIn, ...] = ()

    @property
    def current(self) -> Routing:
        with self._lock:
            return self._merged

    def reload(self, routing: Routing) -> None:
        """Another file; the overrides stay."""
        with self._lock:
            self._file = routing
            self._merge()

    def know(self, stand_ins: Iterable[StandIn]) -> Routing:
        """These are the overrides now; answers with the routing under them."""
        found = tuple(stand_ins)
        with self._lock:
            if found != self._stand_ins:
                self._stand_ins = found
                self._merge()
            return self._merged

    def _merge(self) -> None:
        if not self._stand_ins:
            self._merged = self._file
            return
        on_call = with_stand_ins(self._file.on_call, self._stand_ins)
        self._merged = replace(self._file, on_call=on_call)
