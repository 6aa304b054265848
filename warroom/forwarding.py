"""The forwarders of `remote_write`, wired: what is stored goes out again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from collector.forward.config import RemoteWrite, parse_remote_write
from collector.forward.forwarder import ForwardContext, Forwarder, open_forwarder
from collector.forward.metrics import ForwardMetrics
from collector.pipeline import OnStored
from collector.source_health import SourceRegistry
from store.model import Batch
from store.ports import Appender, SeriesReader
from warroom.clock import Clock
from warroom.config import Settings

SECTION = "remote_write"
_DIRECTORY = "forward"


class ForwardingAppender:
    """The store's appender; what rules and other own evaluations record is forwarded, too."""

    def __init__(self, store: Appender, listeners: Sequence[OnStored]) -> None:
        self._store = store
        self._listeners = tuple(listeners)

    def append(self, batch: Batch) -> Future[None]:
        """As the store's; the listeners hear of it when it is durable."""
        durable = self._store.append(batch)
        durable.add_done_callback(lambda done: self._tell(done, batch))
        return durable

    def _tell(self, durable: Future[None], batch: Batch) -> None:
        if not durable.cancelled() and durable.exception() is None:
            for listener in self._listeners:
                listener(batch, "warroom")


@dataclass(frozen=True, slots=True)
class Forwarding:
    """Every endpoint; none is the ordinary case and costs nothing."""

    forwarders: tuple[Forwarder, ...] = ()

    @property
    def listeners(self) -> tuple[OnStored, ...]:
        return tuple(forwarder.stored for forwarder in self.forwarders)

    def around(self, store: Appender) -> Appender:
        """The store's appender, seen by the forwarders."""
        return ForwardingAppender(store, self.listeners) if self.forwarders else store

    def close(self) -> None:
        """Close the queues, where a start came to nothing."""
        for forwarder in self.forwarders:
            forwarder.close()

    async def start(self, on_stop: Callable[..., object]) -> None:
        """Begin to send; `on_stop` is told how each ends."""
        for forwarder in self.forwarders:
            await forwarder.start()
            on_stop(forwarder.stop)


def read_remote_write(settings: Settings, *, secrets: bool = True) -> tuple[RemoteWrite, ...]:
    """The endpoints of `remote_write`; without `secrets` only their form is checked.

    Raises:
        ConfigError: A mistake in it.
    """
    document = settings.document
    found = parse_remote_write(document, (SECTION,), settings.environment if secrets else None)
    if found and settings.in_memory:
        raise document.error(
            (SECTION,),
            "remote_write keeps a queue on disk, and the store is in memory only",
            hint="remove it, or write store.url: duckdb",
        )
    return found


def build_forwarding(
    settings: Settings,
    reader: SeriesReader,
    sources: SourceRegistry,
    registry: CollectorRegistry,
    now: Clock,
) -> Forwarding:
    """Open every queue; nothing is sent yet.

    Raises:
        ConfigError: A mistake in `remote_write`.
        StoreUnavailable: A queue's directory cannot be used.
    """
    endpoints = read_remote_write(settings)
    if not endpoints:
        return Forwarding()
    directory = settings.data_dir / _DIRECTORY
    context = ForwardContext(directory, sources, ForwardMetrics(registry), now)
    return Forwarding(tuple(open_forwarder(one, context, reader) for one in endpoints))
