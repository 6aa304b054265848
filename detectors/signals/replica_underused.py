"""Replicas that stand by while the primary is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from detectors.detector import SignalContext
from detectors.finding import Evidence, Finding, Impact, Priority
from detectors.fingerprint import fingerprint
from detectors.settings import require
from store.ports import Querier

_REPLICAS = "sig:db_is_replica"
_LOOK_MS = 5_000


@dataclass(frozen=True, slots=True)
class _Source:
    """The series of reads by server, and of those by endpoint of a proxy."""

    servers: str
    endpoints: str


_OF_A_MINUTE = _Source("sig:db_reads:rate1m", "sig:proxysql_endpoint_queries:rate1m")
# Between the last two samples.
_OF_NOW = _Source("sig:db_reads:now", "sig:proxysql_endpoint_queries:now")


@dataclass(frozen=True, slots=True)
class ReplicaUnderusedSettings:
    """When a replica is idle.

    Attributes:
        min_share: Part of its fair share of the reads below which a replica is idle, 0 to 1.
        min_reads_per_s: Fewest reads a second of all servers; below, one server is enough.
        hold_s: So long a replica must be idle, before it counts.
        forget_s: A replica that has been away for so long is gone.
    """

    min_share: float = 0.2
    min_reads_per_s: float = 50.0
    hold_s: float = 30.0
    forget_s: float = 86_400.0

    def __post_init__(self) -> None:
        require(0 < self.min_share < 1, "min_share", "between 0 and 1", self.min_share)
        least = self.min_reads_per_s
        require(least > 0, "min_reads_per_s", "above 0", least)
        require(0 < self.hold_s <= 3_600, "hold_s", "above 0, at most 3600", self.hold_s)
        require(self.forget_s >= self.hold_s, "forget_s", "hold_s or more", self.forget_s)


@dataclass(frozen=True, slots=True)
class _Read:
    """One replica's reads a second, those of its group, and how many servers share them.

    Its `labels` select its reads among those of `series`.
    """

    group: str
    replica: str
    per_second: float
    total: float
    servers: int
    series: str
    labels: dict[str, str]

    @property
    def key(self) -> str:
        return fingerprint(ReplicaUnderused.kinds[0], self.group, "", self.replica)

    @property
    def share(self) -> float:
        return self.per_second / self.total if self.total > 0 else 0.0


@dataclass(frozen=True)
class ReplicaUnderused:
    """A replica that gets hardly any of the reads.

    Maths: of `n` servers each has a fair share of `1 / n` of the reads; a replica below `min_share`
    of that is idle, where all together read `min_reads_per_s` or more. It must be so by the reads
    of a minute, now and `hold_s` ago; or between the last samples at two looks, if it also reads
    less than `min_share` of what it read itself `hold_s` ago. Behind a ProxySQL the reads are those
    of its online endpoints, and whoever is in the first hostgroup is the writer; else they are the
    SELECTs (PostgreSQL: transactions) of the servers of one job.

    Parameters: `ReplicaUnderusedSettings`.

    Example: the primary answers 410 SELECTs a second, the replica 3: 1 % where 50 % were fair.

    Reference: the ProxySQL manual, "stats_mysql_connection_pool"; the MySQL manual, "Com_select".
    """

    settings: ReplicaUnderusedSettings = field(default_factory=ReplicaUnderusedSettings)

    kinds: ClassVar[tuple[str, ...]] = ("replica_underused",)

    def evaluate(self, querier: Querier, context: SignalContext) -> tuple[Finding, ...]:
        now_ms = context.now_ms
        now = _reads(querier, now_ms)
        before = _reads(querier, now_ms - int(self.settings.hold_s * 1_000)) if now else {}
        latest = _reads(querier, now_ms, _OF_NOW) if now else {}
        fallen = {
            key for key, read in latest.items() if self._idle(read) and key not in context.active
        }
        # The look before is asked for only where it decides.
        looked = _reads(querier, now_ms - _LOOK_MS, _OF_NOW) if fallen else {}
        found = []
        for key, read in now.items():
            active, last = context.active.get(key), latest.get(key)
            if self._idle(read) and (active is not None or self._idle(before.get(key))):
                found.append(self._finding(read, active, now_ms))
            elif last is not None and self._idle(last):
                fell = self._idle(looked.get(key)) and self._fell(last, before.get(key))
                if active is not None or fell:
                    found.append(self._finding(last, active, now_ms))
        return (*found, *context.without_data(now.keys(), self.settings.forget_s))

    def _fell(self, read: _Read, earlier: _Read | None) -> bool:
        """It was read, and hardly is any more: what all the others read does not matter."""
        if earlier is None or self._idle(earlier):
            return False
        return read.per_second < self.settings.min_share * earlier.per_second

    def _idle(self, read: _Read | None) -> bool:
        if read is None:
            return False
        fair = 1 / read.servers
        enough = read.total >= self.settings.min_reads_per_s
        return enough and read.share < self.settings.min_share * fair

    def _finding(self, read: _Read, active: Finding | None, now_ms: int) -> Finding:
        since_ms = now_ms - int(self.settings.hold_s * 1_000)
        return Finding(
            fingerprint=read.key,
            kind=self.kinds[0],
            priority=Priority.P2,
            title=f"Replica {read.replica} serves {read.share:.0%} of the reads: "
            f"{read.per_second:.1f} of {read.total:.0f} a second",
            service=read.replica,
            route="",
            first_seen_ms=since_ms if active is None else active.first_seen_ms,
            last_seen_ms=now_ms,
            evidence=Evidence(
                series=read.series,
                window_start_ms=since_ms,
                window_end_ms=now_ms,
                detail={
                    "reads_per_second": round(read.per_second, 2),
                    "all_reads_per_second": round(read.total, 2),
                    "share": round(read.share, 4),
                    "fair_share": round(1 / read.servers, 4),
                },
            ),
            impact=Impact(),
            fix=_FIX,
            confidence=0.7,
            labels=read.labels,
        )


_FIX = (
    "Send reads that may be a second old to the replicas: a database router (DATABASE_ROUTERS, "
    "using()) for lists, search and reports, or query rules and weights of the proxy. A replica "
    "that is kept for a failover or for backups only: suppress this finding."
)


def _reads(querier: Querier, at_ms: int, source: _Source = _OF_A_MINUTE) -> dict[str, _Read]:
    """Replicas by fingerprint, of proxies where there are some."""
    behind_proxy = list(_of_proxies(querier, at_ms, source.endpoints))
    reads = behind_proxy or _of_servers(querier, at_ms, source.servers)
    return {read.key: read for read in reads}


def _of_proxies(querier: Querier, at_ms: int, series: str) -> Iterator[_Read]:
    """Endpoints of each proxy that are online and in no first hostgroup."""
    groups: dict[str, dict[str, float]] = {}
    hostgroups: dict[str, dict[int, set[str]]] = {}
    for labels, per_second in querier.instant(series, at_ms).items():
        proxy, endpoint = labels.get("instance"), labels.get("endpoint")
        reads = groups.setdefault(proxy, {})
        reads[endpoint] = reads.get(endpoint, 0.0) + per_second
        number = labels.get("hostgroup")
        if number.isdecimal():
            members = hostgroups.setdefault(proxy, {})
            members.setdefault(int(number), set()).add(endpoint)
    for proxy, reads in groups.items():
        members = hostgroups.get(proxy, {})
        writers = members[min(members)] if len(members) > 1 else set()
        for read in _shared(proxy, reads, set(reads) - writers, _OF_A_MINUTE.endpoints):
            yield replace(read, labels={"instance": proxy, "endpoint": read.replica})


def _of_servers(querier: Querier, at_ms: int, series: str) -> Iterator[_Read]:
    """Replicas among the servers of each job."""
    replicas = {
        labels.get("instance")
        for labels, value in querier.instant(_REPLICAS, at_ms).items()
        if value == 1
    }
    jobs: dict[str, dict[str, float]] = {}
    for labels, per_second in querier.instant(series, at_ms).items():
        jobs.setdefault(labels.get("job"), {})[labels.get("instance")] = per_second
    for job, reads in jobs.items():
        for read in _shared(job, reads, replicas & reads.keys(), _OF_A_MINUTE.servers):
            yield replace(read, labels={"job": job, "instance": read.replica})


def _shared(
    group: str, reads: Mapping[str, float], replicas: set[str], series: str
) -> Iterator[_Read]:
    """Each replica's part; where there is nobody else to read from, none is idle.

    What a finding is compared by afterwards are the reads of a minute, `series`.
    """
    if len(reads) < 2:
        return
    total = sum(reads.values())
    for replica in sorted(replicas):
        yield _Read(group, replica, reads[replica], total, len(reads), series, {})
