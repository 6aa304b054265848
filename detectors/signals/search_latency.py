"""Search that became too slow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from typing_extensions import override

from detectors.thresholds import Sooner, ThresholdDetector, ThresholdSettings, Watched

_SLOW = "Search on {cluster} {name} takes {value} s on average"
_WATCHED = Watched(
    "sig:es_search_time:avg",
    _SLOW,
    "Look at the slow log and the search thread pool: wildcards, deep pages and sorts on text are "
    "the usual ones; then at shards that merge or relocate.",
    sooner=Sooner("sig:es_search_time:avg_now", _SLOW),
)


@dataclass(frozen=True)
class SearchLatency(ThresholdDetector):
    """A search node whose queries take too long.

    Maths: time / queries of the last minute (of five, where a minute has fewer than twenty; fewer
    than thirty in five prove nothing) is at or above `warn` at every step of `hold_s`; it ends
    below `clear`.

    Parameters: `ThresholdSettings`, in seconds.

    Example: 0.4 s a query in a minute is listed, 1.2 s for two more minutes page.

    Reference: the Elasticsearch manual, "Nodes stats", search.query_time_in_millis.
    """

    settings: ThresholdSettings = field(
        default_factory=lambda: ThresholdSettings(
            warn=0.3, page=1.0, hold_s=5.0, clear=0.2, page_hold_s=120.0, forget_s=7_200.0
        )
    )

    kinds: ClassVar[tuple[str, ...]] = ("search_latency",)

    @override
    def rows(self) -> tuple[tuple[Watched, ThresholdSettings], ...]:
        return ((_WATCHED, self.settings),)
