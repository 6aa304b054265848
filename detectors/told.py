"""Which trace has told which finding, so that a trace that is judged again counts once."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, KeysView, Mapping
from typing import NamedTuple

import orjson

_MAX_TRACES = 50_000
_MAX_OF_ONE = 50
_MAX_HEIRS = 5_000
_MAX_SAVED = 3_000

Judged = tuple[str, str]
"""A kind of finding, and the id of a trace on which its detector came to an end."""


class Sighting(NamedTuple):
    """A finding that a trace was counted for; `alone` where it needs no other trace."""

    fingerprint: str
    kind: str
    alone: bool


class Told:
    """The sightings of each trace. Bounded; the longest untold traces are forgotten."""

    def __init__(self) -> None:
        self._traces: OrderedDict[str, tuple[Sighting, ...]] = OrderedDict()
        self._heirs: OrderedDict[str, str] = OrderedDict()
        self._dumped: str | None = None

    @property
    def traces(self) -> KeysView[str]:
        return self._traces.keys()

    def add(self, fingerprint: str, kind: str, traces: Mapping[str, bool]) -> int:
        """How many of these traces are not counted for the finding yet. They are now.

        Args:
            fingerprint: Of the finding.
            kind: Likewise.
            traces: Of each, whether it shows the finding alone.
        """
        self._heirs.pop(fingerprint, None)
        sightings = {alone: Sighting(fingerprint, kind, alone) for alone in (False, True)}
        self._dumped = None
        added = 0
        for trace, alone in traces.items():
            known = self._traces.get(trace, ())
            if any(self._today(one) == fingerprint for one in known):
                continue
            added += 1
            if len(known) < _MAX_OF_ONE:
                self._traces[trace] = (*known, sightings[alone])
                self._traces.move_to_end(trace)
        while len(self._traces) > _MAX_TRACES:
            self._traces.popitem(last=False)
        return added

    def take(self, judged_again: Iterable[Judged]) -> Counter[str]:
        """How many of these traces were counted for which finding. They are not any more.

        What only several traces together show stays: of one alone the quorum says nothing.
        """
        taken: Counter[str] = Counter()
        kinds: dict[str, set[str]] = {}
        for kind, trace in judged_again:
            if trace in self._traces:
                kinds.setdefault(trace, set()).add(kind)
        for trace, judged in kinds.items():
            known = self._traces.pop(trace)
            gone = [one for one in known if one.alone and one.kind in judged]
            taken.update(self._today(one) for one in gone)
            if len(gone) < len(known):
                self._traces[trace] = tuple(one for one in known if one not in gone)
        if kinds:
            self._dumped = None
        return taken

    def rename(self, old: str, new: str) -> None:
        """What was counted for one finding counts for another now."""
        self._heirs[old] = new
        self._dumped = None
        while len(self._heirs) > _MAX_HEIRS:
            self._heirs.popitem(last=False)

    def _today(self, sighting: Sighting) -> str:
        return self._heirs.get(sighting.fingerprint, sighting.fingerprint)

    def dumps(self) -> str:
        """The latest traces as JSON, so that a restart in between counts none of them again."""
        if self._dumped is None:
            saved: dict[Sighting, list[str]] = {}
            for trace in list(self._traces)[-_MAX_SAVED:]:
                for one in self._traces[trace]:
                    now = one._replace(fingerprint=self._today(one))
                    saved.setdefault(now, []).append(trace)
            self._dumped = orjson.dumps([[*one, traces] for one, traces in saved.items()]).decode()
        return self._dumped

    def loads(self, text: str) -> None:
        """Take over what `dumps` wrote."""
        self._traces.clear()
        self._heirs.clear()
        for fingerprint, kind, alone, traces in orjson.loads(text):
            self.add(fingerprint, kind, dict.fromkeys(traces, bool(alone)))
