"""What connections and transactions of one trace tell, found once for all its loops."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

_SWITCHES = re.compile(
    r"^(?:USE\b|SELECT_DB\b|SET\b.*\b(?:search_path|schema|tenant\w*|\w*[._]tenant\w*|role)\b)",
    re.IGNORECASE,
)
# The end of a transaction: a statement, or a name such as "sql.tx.rollback".
_ENDS = re.compile(r"(?:^|::|\.)(?:commit|(roll_?back|abort))(?!.* TO )", re.IGNORECASE)


class Control(NamedTuple):
    """One span of a connection or a transaction; `request` is the span by which it entered."""

    request: int
    service: int
    start_ns: int
    end_ns: int
    text: str


class Controls:
    """Those of one trace, which come ascending in start."""

    def __init__(self, controls: Iterable[Control]) -> None:
        self._first_ns: dict[tuple[int, str], int] = {}
        self._ends: dict[tuple[int, int], list[tuple[int, bool]]] = {}
        switches: dict[int, list[tuple[int, int]]] = {}
        for one in controls:
            word = one.text.partition(" ")[0].upper()
            self._first_ns.setdefault((one.request, word), one.start_ns)
            end = _ENDS.search(one.text)
            if end is not None:
                ends = self._ends.setdefault((one.request, one.service), [])
                ends.append((one.start_ns, end.group(1) is not None))
            if _SWITCHES.search(one.text) is not None:
                switches.setdefault(one.service, []).append((one.start_ns, one.end_ns))
        self._switches = {service: np.array(times) for service, times in switches.items()}

    def first_ns(self, request: int, word: str) -> int | None:
        """When a request first gave this command."""
        return self._first_ns.get((request, word))

    def rolled_back_ns(self, request: int, service: int, start_ns: int) -> int | None:
        """When the transaction that was open then was rolled back; None of one that was not."""
        ends = self._ends.get((request, service), [])
        place = bisect_left(ends, (start_ns, False))
        return ends[place][0] if place < len(ends) and ends[place][1] else None

    def switches(self, service: int, since_ns: int, until_ns: int) -> int:
        """How often a service changed its schema, database or tenant."""
        times = self._switches.get(service)
        if times is None:
            return 0
        return int(((times[:, 0] <= until_ns) & (times[:, 1] >= since_ns)).sum())
