"""Samples in memory, and what is known of them: all that Prometheus's API asks for."""

from collections.abc import Iterable, Sequence
from typing import Self

from store.model import Exemplar, Labels, Matcher, MetricMetadata
from store.promql.testing import MemoryReader, passes
from tests.store.promql.real_prometheus import Series


class MemoryShop(MemoryReader):
    """Implements every port of the API's `Source` over whole series."""

    @classmethod
    def of(cls, series: Iterable[Series]) -> Self:
        shop = cls()
        for labels, samples in series:
            shop.put(labels, [ts for ts, _ in samples], [value for _, value in samples])
        return shop

    def series(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, *, limit: int = 0
    ) -> list[Labels]:
        found = sorted(self.select(matchers, start_ms, end_ms).series)
        return found[: limit or None]

    def label_names(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, *, limit: int = 0
    ) -> list[str]:
        found = {name for one in self.series(matchers, start_ms, end_ms) for name, _ in one}
        return sorted(found)[: limit or None]

    def label_values(
        self, name: str, matchers: Sequence[Matcher], start_ms: int, end_ms: int, *, limit: int = 0
    ) -> list[str]:
        found = {one.get(name) for one in self.series(matchers, start_ms, end_ms)} - {""}
        return sorted(found)[: limit or None]

    def metadata(self, _family: str | None = None) -> list[MetricMetadata]:
        return []

    def exemplars(
        self, _matchers: Sequence[Matcher], _start_ms: int, _end_ms: int
    ) -> list[Exemplar]:
        return []

    def delete_series(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> int:
        gone = [
            one
            for one in self.series(matchers, start_ms, end_ms)
            if all(passes(m, one) for m in matchers)
        ]
        for labels in gone:
            del self._series[labels]
        return len(gone)
