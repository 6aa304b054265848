"""Series as they are sent: relabelled, encoded, and given a shard, once for each series."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from store.model import Labels, RefSpace, SampleBatch, SeriesRefs

MAX_CACHED_SERIES = 500_000


@dataclass(frozen=True, slots=True, eq=False)
class SeriesLine:
    """A series as it is sent: its shard, and all that precedes a lone sample.

    The labels are the end of `single`, from `labels_at` on.
    """

    shard: int
    single: bytes
    labels_at: int

    @property
    def labels(self) -> bytes:
        return self.single[self.labels_at :]


class _Unknown:
    """Stands for a series that has not been looked at; None is one that is not sent."""


_UNKNOWN = _Unknown()
_Entry = SeriesLine | None | _Unknown


class SeriesLines:
    """Remembers the line of each series; `make` gives that of a new one, or None. Bounded."""

    def __init__(self, make: Callable[[Labels], SeriesLine | None]) -> None:
        self._make = make
        self._by_labels: dict[Labels, SeriesLine | None] = {}
        self._space: RefSpace | None = None
        self._by_ref: list[_Entry] = []

    def of(self, batch: SampleBatch) -> Sequence[SeriesLine | None]:
        """One for each series of the batch."""
        if len(self._by_labels) > MAX_CACHED_SERIES:
            self._by_labels.clear()
        refs = batch.known_refs
        if refs is None or refs.bound > MAX_CACHED_SERIES:
            return [self._line(labels) for labels in batch.series]
        return self._of_refs(refs)

    def _of_refs(self, refs: SeriesRefs) -> Sequence[SeriesLine | None]:
        """Numbers instead of labels: nothing is hashed but what is new."""
        if refs.space is not self._space:
            self._space, self._by_ref = refs.space, []
        known = self._by_ref
        known.extend([_UNKNOWN] * (refs.bound - len(known)))
        numbers = refs.refs.tolist()
        found: list[SeriesLine | None] = []
        for number, labels in zip(numbers, refs.series, strict=True):
            entry = known[number]
            if isinstance(entry, _Unknown):
                entry = known[number] = self._line(labels)
            found.append(entry)
        return found

    def _line(self, labels: Labels) -> SeriesLine | None:
        try:
            return self._by_labels[labels]
        except KeyError:
            line = self._by_labels[labels] = self._make(labels)
            return line


def shard_of(encoded: bytes, shards: int) -> int:
    """The same after every restart, unlike Python's own hash."""
    return zlib.crc32(encoded) % shards
