"""Every detector, in one literal table: from the name of its settings to how it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from detectors import settings
from detectors.detector import SignalDetector
from detectors.settings import PrioritySettings, RunnerSettings
from detectors.signals.autoscaling_at_limit import AutoscalingAtLimit
from detectors.signals.connection_saturation import ConnectionSaturation
from detectors.signals.connection_wait import ConnectionWait, ConnectionWaitSettings
from detectors.signals.error_regression import ErrorRegression, ErrorRegressionSettings
from detectors.signals.evictions import Evictions
from detectors.signals.heartbeat_stopped import HeartbeatStopped
from detectors.signals.hit_rate_drop import HitRateDrop, HitRateDropSettings
from detectors.signals.index_use import IndexUse, IndexUseSettings
from detectors.signals.latency_regression import LatencyRegression, LatencyRegressionSettings
from detectors.signals.lock_wait import LockWait, LockWaitSettings
from detectors.signals.missing_index import MissingIndex, MissingIndexSettings
from detectors.signals.queue_growth import QueueGrowth
from detectors.signals.replica_lag import ReplicaLag
from detectors.signals.replica_underused import ReplicaUnderused, ReplicaUnderusedSettings
from detectors.signals.replication_broken import ReplicationBroken
from detectors.signals.resource_saturation import ResourceSaturation, ResourceSettings
from detectors.signals.search_latency import SearchLatency
from detectors.signals.throughput_drop import ThroughputDrop, ThroughputDropSettings
from detectors.signals.web_vital_poor import WebVitalPoor, WebVitalSettings
from detectors.traces.detector import TraceDetector
from detectors.traces.shapes.blocking_call import BlockingCall, BlockingCallSettings
from detectors.traces.shapes.cache_stampede import CacheStampede, CacheStampedeSettings
from detectors.traces.shapes.consecutive_calls import ConsecutiveCalls
from detectors.traces.shapes.consecutive_queries import ConsecutiveQueries
from detectors.traces.shapes.n_plus_one import NPlusOne, NPlusOneSettings
from detectors.traces.shapes.pool_wait import PoolWait, PoolWaitSettings
from detectors.traces.shapes.slow_query import SlowQuery, SlowQuerySettings
from store.errors import ConfigError

# Section of the configuration -> how its defaults are made.
SETTINGS: Mapping[str, Callable[[], Any]] = {
    "n_plus_one_query": lambda: NPlusOneSettings().n_plus_one_query,
    "n_plus_one_call": lambda: NPlusOneSettings().n_plus_one_call,
    "n_plus_one_cache": lambda: NPlusOneSettings().n_plus_one_cache,
    "repeated_query": lambda: NPlusOneSettings().repeated_query,
    "paginated_loop": lambda: NPlusOneSettings().paginated_loop,
    "slow_query": SlowQuerySettings,
    "consecutive_queries": lambda: ConsecutiveQueries().settings,
    "consecutive_calls": lambda: ConsecutiveCalls().settings,
    "blocking_call": BlockingCallSettings,
    "pool_wait": PoolWaitSettings,
    "cache_stampede": CacheStampedeSettings,
    "hit_rate_drop": HitRateDropSettings,
    "replica_lag": lambda: ReplicaLag().settings,
    "heartbeat_stopped": lambda: HeartbeatStopped().settings,
    "connection_saturation": lambda: ConnectionSaturation().settings,
    "evictions": lambda: Evictions().settings,
    "replication_broken": lambda: ReplicationBroken().settings,
    "connection_wait": ConnectionWaitSettings,
    "lock_wait": LockWaitSettings,
    "resource_saturation": ResourceSettings,
    "queue_growth": lambda: QueueGrowth().settings,
    "autoscaling_at_limit": lambda: AutoscalingAtLimit().settings,
    "search_latency": lambda: SearchLatency().settings,
    "web_vital_poor": WebVitalSettings,
    "missing_index": MissingIndexSettings,
    "unused_index": IndexUseSettings,
    "replica_underused": ReplicaUnderusedSettings,
    "throughput_drop": ThroughputDropSettings,
    "error_regression": ErrorRegressionSettings,
    "latency_regression": LatencyRegressionSettings,
    "priority": PrioritySettings,
    "runner": RunnerSettings,
}

# Name -> maker from the settings of every section. The N+1 family shares one mechanism.
TRACE_DETECTORS: Mapping[str, Callable[[Mapping[str, Any]], TraceDetector]] = {
    "n_plus_one": lambda chosen: NPlusOne(
        NPlusOneSettings(**{kind: chosen[kind] for kind in NPlusOne.kinds})
    ),
    "slow_query": lambda chosen: SlowQuery(chosen["slow_query"]),
    "consecutive_queries": lambda chosen: ConsecutiveQueries(chosen["consecutive_queries"]),
    "consecutive_calls": lambda chosen: ConsecutiveCalls(chosen["consecutive_calls"]),
    "blocking_call": lambda chosen: BlockingCall(chosen["blocking_call"]),
    "pool_wait": lambda chosen: PoolWait(chosen["pool_wait"]),
    "cache_stampede": lambda chosen: CacheStampede(chosen["cache_stampede"]),
}

SIGNAL_DETECTORS: Mapping[str, Callable[[Mapping[str, Any]], SignalDetector]] = {
    "hit_rate_drop": lambda chosen: HitRateDrop(chosen["hit_rate_drop"]),
    "replica_lag": lambda chosen: ReplicaLag(chosen["replica_lag"]),
    "heartbeat_stopped": lambda chosen: HeartbeatStopped(chosen["heartbeat_stopped"]),
    "connection_saturation": lambda chosen: ConnectionSaturation(chosen["connection_saturation"]),
    "evictions": lambda chosen: Evictions(chosen["evictions"]),
    "replication_broken": lambda chosen: ReplicationBroken(chosen["replication_broken"]),
    "connection_wait": lambda chosen: ConnectionWait(chosen["connection_wait"]),
    "lock_wait": lambda chosen: LockWait(chosen["lock_wait"]),
    "resource_saturation": lambda chosen: ResourceSaturation(chosen["resource_saturation"]),
    "queue_growth": lambda chosen: QueueGrowth(chosen["queue_growth"]),
    "autoscaling_at_limit": lambda chosen: AutoscalingAtLimit(chosen["autoscaling_at_limit"]),
    "search_latency": lambda chosen: SearchLatency(chosen["search_latency"]),
    "web_vital_poor": lambda chosen: WebVitalPoor(chosen["web_vital_poor"]),
    "missing_index": lambda chosen: MissingIndex(chosen["missing_index"]),
    "unused_index": lambda chosen: IndexUse(chosen["unused_index"]),
    "replica_underused": lambda chosen: ReplicaUnderused(chosen["replica_underused"]),
    "throughput_drop": lambda chosen: ThroughputDrop(chosen["throughput_drop"]),
    "error_regression": lambda chosen: ErrorRegression(chosen["error_regression"]),
    "latency_regression": lambda chosen: LatencyRegression(chosen["latency_regression"]),
}


@dataclass(frozen=True)
class DetectorSettings:
    """What was chosen, by section.

    Attributes:
        chosen: The settings of each section of `SETTINGS`.
        disabled: Detectors that are switched off.
    """

    chosen: Mapping[str, Any] = field(
        default_factory=lambda: {name: make() for name, make in SETTINGS.items()}
    )
    disabled: frozenset[str] = frozenset()

    @property
    def priority(self) -> PrioritySettings:
        chosen: PrioritySettings = self.chosen["priority"]
        return chosen

    @property
    def runner(self) -> RunnerSettings:
        chosen: RunnerSettings = self.chosen["runner"]
        return chosen

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> DetectorSettings:
        """The `detectors:` section of the configuration.

        A section is a mapping of settings, or `off` (false) to switch that detector off.

        Raises:
            ConfigError: An unknown section or setting, or a value out of its bounds.
        """
        chosen = {name: make() for name, make in SETTINGS.items()}
        disabled: set[str] = set()
        known = {*SETTINGS, *TRACE_DETECTORS, *SIGNAL_DETECTORS, *cls().kinds()}
        for name, section in data.items():
            if name not in known:
                hint = f"known here: {', '.join(sorted(known))}"
                raise ConfigError(f"detectors.{name} is no detector", hint=hint)
            if section is False or section == "off":
                disabled.add(name)
            elif name in SETTINGS and (section is None or isinstance(section, Mapping)):
                chosen[name] = settings.change(chosen[name], section or {}, f"detectors.{name}")
            else:
                raise ConfigError(
                    f"detectors.{name} is {section!r}", hint="write a mapping of settings, or off"
                )
        return cls(chosen, frozenset(disabled))

    def kinds(self) -> frozenset[str]:
        """Every kind of finding; each may be switched off, also where it shares its settings."""
        traces = (detector.kinds for detector in self.trace_detectors().values())
        signals = (detector.kinds for detector in self.signal_detectors().values())
        return frozenset(kind for kinds in (*traces, *signals) for kind in kinds)

    def trace_detectors(self) -> dict[str, TraceDetector]:
        return {
            name: make(self.chosen)
            for name, make in TRACE_DETECTORS.items()
            if name not in self.disabled
        }

    def signal_detectors(self) -> dict[str, SignalDetector]:
        return {
            name: make(self.chosen)
            for name, make in SIGNAL_DETECTORS.items()
            if name not in self.disabled
        }
