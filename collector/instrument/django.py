"""One call that makes a Django shop tell Warroom what it does.

Call `instrument_django` once in each worker process, before `get_wsgi_application()` and with
`DJANGO_SETTINGS_MODULE` set; in a pre-forking server after the fork (docs/sources/django.md).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.django import DjangoInstrumentor
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from collector.instrument.drivers import instrument_drivers
from collector.instrument.events import EventTracker
from collector.instrument.locations import CodeLocationProcessor

# Bounds of db.client.operation.duration by the semantic conventions, in seconds. The SDK's own
# defaults are made for milliseconds: every query would lie in the first two buckets.
DB_DURATION_BOUNDS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class InstrumentOptions:
    """What may be left at its default.

    Attributes:
        span_delay_ms: How long a finished span may wait for others before it is sent.
        metric_interval_ms: How often metrics are sent.
        excluded_urls: Regular expressions, by comma, of URLs that are not traced.
        headers: Sent with every export and every batch of events, for a token.
        service_version: The release.
        instance: Which process this is; host and process id by default.
        resource: More resource attributes.
    """

    span_delay_ms: int = 1_000
    metric_interval_ms: int = 2_000
    excluded_urls: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    service_version: str = ""
    instance: str = ""
    resource: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Instrumentation:
    """What `instrument_django` set up. `events` is for the shop's own code."""

    events: EventTracker
    drivers: tuple[str, ...]
    tracer_provider: TracerProvider
    meter_provider: MeterProvider

    def shutdown(self) -> None:
        """Send what is waiting and stop. Also happens by itself when the process ends."""
        self.events.close()
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()


def instrument_django(
    service_name: str,
    *,
    endpoint: str,
    events_endpoint: str | None = None,
    app_roots: Sequence[Path] = (),
    options: InstrumentOptions | None = None,
) -> Instrumentation:
    """Trace and measure a Django service with the stable semantic conventions.

    Args:
        service_name: Becomes `service.name` of spans and the label `job` of metrics.
        endpoint: Base address of OTLP/HTTP, such as `http://127.0.0.1:8600`.
        events_endpoint: Where business events are posted; None sends none.
        app_roots: Directories of the shop's own code; client spans name their line in it.
        options: See `InstrumentOptions`.
    """
    options = options or InstrumentOptions()
    # Read by the instrumentations when they are first used, so it must stand before them.
    os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http,database")
    resource = _resource(service_name, options)
    tracers = _tracer_provider(resource, endpoint, app_roots, options)
    meters = _meter_provider(resource, endpoint, options)
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(meters)
    DjangoInstrumentor().instrument(excluded_urls=options.excluded_urls or None)
    return Instrumentation(
        events=EventTracker(service_name, events_endpoint, headers=options.headers),
        drivers=instrument_drivers(),
        tracer_provider=tracers,
        meter_provider=meters,
    )


def _resource(service_name: str, options: InstrumentOptions) -> Resource:
    attributes: dict[str, str] = {
        "service.name": service_name,
        "service.instance.id": options.instance or f"{socket.gethostname()}:{os.getpid()}",
        **options.resource,
    }
    if options.service_version:
        attributes["service.version"] = options.service_version
    return Resource.create(attributes)


def _tracer_provider(
    resource: Resource, endpoint: str, app_roots: Sequence[Path], options: InstrumentOptions
) -> TracerProvider:
    provider = TracerProvider(resource=resource)
    if app_roots:
        provider.add_span_processor(CodeLocationProcessor(app_roots))
    exporter = OTLPSpanExporter(_signal(endpoint, "traces"), headers=dict(options.headers))
    provider.add_span_processor(
        BatchSpanProcessor(
            exporter,
            max_queue_size=16_384,
            max_export_batch_size=1_024,
            schedule_delay_millis=options.span_delay_ms,
        )
    )
    return provider


def _meter_provider(resource: Resource, endpoint: str, options: InstrumentOptions) -> MeterProvider:
    exporter = OTLPMetricExporter(_signal(endpoint, "metrics"), headers=dict(options.headers))
    reader = PeriodicExportingMetricReader(
        exporter, export_interval_millis=options.metric_interval_ms
    )
    bounds = View(
        instrument_name="db.client.operation.duration",
        instrument_type=Histogram,
        aggregation=ExplicitBucketHistogramAggregation(DB_DURATION_BOUNDS_S),
    )
    return MeterProvider([reader], resource=resource, views=[bounds])


def _signal(endpoint: str, signal: str) -> str:
    return f"{endpoint.rstrip('/')}/v1/{signal}"
