"""What both OTLP transports do with a request: decode off the event loop, push, account."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import anyio
import anyio.to_thread
from google.protobuf.message import DecodeError
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from collector.body import THREAD_ABOVE_BYTES
from collector.otlp.attributes import label_text, plain_dict
from collector.otlp.json_form import protobuf_of_json
from collector.otlp.metrics import MetricDecoder
from collector.otlp.outcome import Decoded, Rejections, source_of
from collector.otlp.traces import TraceDecoder
from collector.otlp.wire import parse_leaf_envelope
from collector.pipeline import Pipeline
from store.model import SampleBatch, SpanBatch

# Decoded columns are several times the size of the body: more bodies wait as bytes.
MAX_DECODING_AT_ONCE = 2
LOGS_NOT_STORED = "logs are not stored by this version"


class Signal(StrEnum):
    """What an OTLP request carries."""

    TRACES = "traces"
    METRICS = "metrics"
    LOGS = "logs"


@dataclass(frozen=True, slots=True)
class OtlpAnswer:
    """The `partial_success` of an answer; zero rejected means a full success."""

    rejected: int = 0
    message: str = ""


class OtlpIngest:
    """One for the process: HTTP and gRPC share the memory of delta series and attributes."""

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        traces: TraceDecoder | None = None,
        metrics: MetricDecoder | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._traces = traces or TraceDecoder()
        self._metrics = metrics or MetricDecoder()
        self._decoding = anyio.CapacityLimiter(MAX_DECODING_AT_ONCE)

    async def accept(self, signal: Signal, body: bytes, *, is_json: bool = False) -> OtlpAnswer:
        """Take one request; returns when what is accepted is durable.

        Raises:
            BadInput: The request as a whole cannot be read.
            Overloaded, LimitExceeded, StoreUnavailable: From the pipeline.
        """
        now_ms = self._pipeline.now_ms()
        if len(body) > THREAD_ABOVE_BYTES:
            decode = partial(self._decode, signal, body, now_ms, is_json=is_json)
            decoded = await anyio.to_thread.run_sync(decode, limiter=self._decoding)
        else:
            decoded = self._decode(signal, body, now_ms, is_json=is_json)
        rejections = decoded.rejections
        if signal is not Signal.LOGS:
            await self._pipeline.push(decoded.batch, "otlp", by_source=decoded.by_source)
        for (source, reason), count in rejections.counts.items():
            self._pipeline.dropped(source, reason, count)
        if signal is Signal.LOGS and rejections.total:
            return OtlpAnswer(rejections.total, LOGS_NOT_STORED)
        return OtlpAnswer(rejections.total, rejections.sentence())

    def _decode(
        self, signal: Signal, body: bytes, now_ms: int, *, is_json: bool
    ) -> Decoded[SampleBatch] | Decoded[SpanBatch]:
        unreadable = 0
        if is_json:
            body, unreadable = protobuf_of_json(signal, body)
        decoded: Decoded[SampleBatch] | Decoded[SpanBatch]
        if signal is Signal.TRACES:
            decoded = self._traces.decode(body, now_ms)
        elif signal is Signal.METRICS:
            decoded = self._metrics.decode(body, now_ms)
        else:
            decoded = _count_logs(body)
        if unreadable:
            source = next(iter(decoded.by_source), source_of("unknown_service"))
            decoded.rejections.add(source, "malformed", unreadable)
        return decoded


def _count_logs(body: bytes) -> Decoded[SampleBatch]:
    rejections = Rejections()
    for resource in parse_leaf_envelope(body).resources:
        count = sum(len(scope.leaves) for scope in resource.scopes)
        try:
            attributes = plain_dict(Resource.FromString(resource.resource).attributes)
        except DecodeError:
            attributes = {}
        service = label_text(attributes.get("service.name")) or "unknown_service"
        rejections.add(source_of(service), "logs_not_stored", count)
    return Decoded(SampleBatch.of_rows(()), {}, rejections)
