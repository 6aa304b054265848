"""What both OTLP transports do with a request: decode off the event loop, push, account."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from collector.body import THREAD_ABOVE_BYTES
from collector.otlp.json_form import protobuf_of_json
from collector.otlp.logs import DecodedLogs, decode_logs
from collector.otlp.metrics import MetricDecoder
from collector.otlp.outcome import Decoded, Rejections, source_of
from collector.otlp.span_groups import SpanGroups
from collector.otlp.traces import TraceDecoder
from collector.overload import Lane
from collector.pipeline import Pipeline
from collector.web_vitals import Vital
from store.model import SampleBatch, SpanBatch

SOURCE = "otlp"
OnVitals = Callable[[Sequence[Vital]], None]
AnyDecoded = Decoded[SampleBatch] | Decoded[SpanBatch] | DecodedLogs


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
        on_vitals: OnVitals | None = None,
    ) -> None:
        """`on_vitals` takes what browsers report by logs; without it that is refused."""
        self.pipeline = pipeline
        self.lane = Lane()
        self._on_vitals = on_vitals
        self._traces = traces or TraceDecoder()
        self._metrics = metrics or MetricDecoder()
        self._groups = SpanGroups(self._traces, pipeline, self.lane, SOURCE)

    async def accept(
        self, signal: Signal, body: bytes, *, is_json: bool = False, source: str = ""
    ) -> OtlpAnswer:
        """Take one request; returns when what is accepted is durable.

        Args:
            signal: What the body carries.
            body: An OTLP request.
            is_json: Whether it is in OTLP's JSON form.
            source: Who is charged with all of it, where what it says of its sender is not believed.

        Raises:
            BadInput: The request as a whole cannot be read.
            Overloaded, LimitExceeded, StoreUnavailable: From the pipeline.
        """
        if signal is Signal.TRACES and not (is_json or source):
            refused = await self._groups.take(body)
            if refused is not None:
                return self._answer(refused, "")
        decode = partial(self._decode, signal, body, self.pipeline.now_ms(), is_json=is_json)
        with self.pipeline.receiving(source or SOURCE):
            decoded = await self.lane.run(decode) if len(body) > THREAD_ABOVE_BYTES else decode()
        rejections = decoded.rejections
        shares = {source: len(decoded.batch)} if source else decoded.by_source
        await self.pipeline.push(decoded.batch, source or SOURCE, by_source=shares)
        if isinstance(decoded, DecodedLogs) and decoded.vitals:
            self._report(decoded.vitals, rejections)
        return self._answer(rejections, source)

    def _answer(self, rejections: Rejections, source: str) -> OtlpAnswer:
        """Account for a request whose accepted items are durable."""
        self.pipeline.sources.heard(source or SOURCE, self.pipeline.now_ms())
        for (sender, reason), count in rejections.counts.items():
            self.pipeline.dropped(source or sender, reason, count)
        return OtlpAnswer(rejections.total, rejections.sentence())

    def _report(self, vitals: Sequence[Vital], rejections: Rejections) -> None:
        if self._on_vitals is None:
            rejections.add("rum", "web_vitals_not_taken", len(vitals))
        else:
            self._on_vitals(vitals)

    def _decode(self, signal: Signal, body: bytes, now_ms: int, *, is_json: bool) -> AnyDecoded:
        unreadable = 0
        if is_json:
            body, unreadable = protobuf_of_json(signal, body)
        decoded: AnyDecoded
        if signal is Signal.TRACES:
            decoded = self._traces.decode(body, now_ms)
        elif signal is Signal.METRICS:
            decoded = self._metrics.decode(body, now_ms)
        else:
            decoded = decode_logs(body, now_ms)
        if unreadable:
            source = next(iter(decoded.by_source), source_of("unknown_service"))
            decoded.rejections.add(source, "malformed", unreadable)
        return decoded
