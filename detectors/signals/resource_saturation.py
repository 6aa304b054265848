"""Hosts, processes and caches that run out of processor, memory, disk or file handles."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from typing_extensions import override

from detectors.thresholds import NEVER, Sooner, ThresholdDetector, ThresholdSettings, Watched

_USES_CPU = "{where} uses {value} of its CPU"
_CPU = Watched(
    "sig:host_cpu:used_ratio",
    _USES_CPU,
    "Find the process and what it serves; add machines or take load off before the queue grows.",
    percent=True,
    sooner=Sooner("sig:host_cpu:used_ratio_now", _USES_CPU),
)
_MEMORY = Watched(
    "sig:host_memory:used_ratio",
    "{where} uses {value} of its memory",
    "Find what grows (workers, caches, a leak since the last deploy) before the kernel kills it.",
    percent=True,
)
_CACHE = Watched(
    "sig:cache_mem:used_ratio",
    "Cache {where} uses {value} of maxmemory",
    "Evictions or refused writes come next: raise maxmemory or shorten timeouts.",
    percent=True,
)
_REFUSES = Watched(
    "sig:cache_writes_refused:rate1m",
    "Cache {where} is full and refuses {value} writes a second",
    "maxmemory-policy evicts nothing: raise maxmemory or delete what is not needed; a cache wants "
    "allkeys-lru, and sessions or queues a server of their own.",
)
_REFUSES_NOW = Watched(
    "sig:cache_writes_refused_by_state:rate1m",
    "Cache {where} refuses {value} writes a second: {err}",
    "MISCONF: it cannot save to disk, look at the space and rights of its directory (CONFIG GET "
    "dir) and at its log; READONLY: writes go to a replica, look at who was promoted; NOREPLICAS: "
    "fewer replicas than min-replicas-to-write are there.",
)
_FILES_FIX = (
    "Look at what is held open (ls /proc/PID/fd): connections that are never closed, a leak since "
    "the last deploy. Raise the limit only for what is meant to hold so many."
)
_FILES = Watched(
    "sig:process_files:used_ratio",
    "{job} on {where} uses {value} of its file handles",
    _FILES_FIX,
    percent=True,
)
_HOST_FILES = Watched(
    "sig:host_files:used_ratio",
    "{where} uses {value} of its file handles",
    _FILES_FIX,
    percent=True,
)
_DISK_FIX = "Delete or move what grows (logs, binlogs, old backups), or enlarge the volume."
_DISK = Watched(
    "sig:host_disk:used_ratio", "{where} {mountpoint} is {value} full", _DISK_FIX, percent=True
)
_DISK_SOON = Watched(
    "sig:host_disk:used_ratio_in_4h",
    "{where} {mountpoint} will be full within 4 hours",
    _DISK_FIX,
    percent=True,
)


@dataclass(frozen=True, slots=True)
class ResourceSettings:
    """Thresholds of each resource, as ratios of what there is.

    Attributes:
        cpu: Share of the processors' time that is used.
        memory: Share of the host's memory that is not available.
        cache_memory: Share of a cache's `maxmemory`; full is how many caches are meant to be.
        cache_refused: Writes a second that a cache refuses.
        files: Share of the file handles that a process, or a host, may open.
        disk: Share of a file system.
        disk_in_4h: That share in four hours, if the last hour goes on.
    """

    cpu: ThresholdSettings = field(
        default_factory=lambda: ThresholdSettings(
            warn=0.8, page=0.95, hold_s=5.0, clear=0.75, page_hold_s=60.0
        )
    )
    memory: ThresholdSettings = field(
        default_factory=lambda: ThresholdSettings(
            warn=0.85, page=0.95, hold_s=5.0, clear=0.82, page_hold_s=30.0
        )
    )
    cache_memory: ThresholdSettings = field(
        default_factory=lambda: ThresholdSettings(warn=0.95, page=NEVER, hold_s=5.0, clear=0.9)
    )
    cache_refused: ThresholdSettings = field(
        default_factory=lambda: ThresholdSettings(warn=0.1, page=1.0, hold_s=5.0, clear=0.02)
    )
    files: ThresholdSettings = field(
        default_factory=lambda: ThresholdSettings(
            warn=0.8, page=0.95, hold_s=5.0, clear=0.75, page_hold_s=30.0, forget_s=3_600.0
        )
    )
    disk: ThresholdSettings = field(
        default_factory=lambda: ThresholdSettings(
            warn=0.9, page=0.97, hold_s=5.0, clear=0.88, page_hold_s=30.0
        )
    )
    disk_in_4h: ThresholdSettings = field(
        default_factory=lambda: ThresholdSettings(
            warn=1.0, page=1.0, hold_s=300.0, clear=0.98, page_hold_s=300.0
        )
    )


@dataclass(frozen=True)
class ResourceSaturation(ThresholdDetector):
    """A resource that is nearly used up, or will be within hours.

    Maths: used / available is at or above `warn` at every step of `hold_s`; it ends below `clear`.
    The disk is also extrapolated: a line through the free space of the last hour, four hours on,
    asked only of file systems that are more than 60 % full, and not where one of the last three
    times of seven minutes would not fill it: a backup is written once. A full cache that may not
    evict is told by the writes that it refuses, and so is one that cannot save or may not be
    written.

    Parameters: `ResourceSettings`, each a `ThresholdSettings`.

    Example: 83 % CPU in a minute is listed, 96 % for another minute pages; a log that fills /var by
    18:00 pages at 14:00.

    Reference: B. Gregg, "The USE Method"; the case study's 80 %, 85 % and 90 %.
    """

    settings: ResourceSettings = field(default_factory=ResourceSettings)

    kinds: ClassVar[tuple[str, ...]] = ("resource_saturation",)

    @override
    def rows(self) -> tuple[tuple[Watched, ThresholdSettings], ...]:
        chosen = self.settings
        return (
            (_CPU, chosen.cpu),
            (_MEMORY, chosen.memory),
            (_CACHE, chosen.cache_memory),
            (_REFUSES, chosen.cache_refused),
            (_REFUSES_NOW, chosen.cache_refused),
            (_FILES, chosen.files),
            (_HOST_FILES, chosen.files),
            (_DISK, chosen.disk),
            (_DISK_SOON, chosen.disk_in_4h),
        )
