"""OTLP/HTTP: POST /v1/traces, /v1/metrics and /v1/logs, in protobuf or JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import structlog
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from collector.body import BodyReader, ClientGone, UnsupportedMedia, chunks
from collector.otlp.ingest import SOURCE, OtlpAnswer, OtlpIngest, Signal
from collector.otlp.status import (
    INTERNAL,
    INVALID_ARGUMENT,
    RESOURCE_EXHAUSTED,
    UNAVAILABLE,
    status_json,
    status_protobuf,
)
from collector.refusal import refusal_of
from store.errors import WarroomError

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
_CODES = {429: RESOURCE_EXHAUSTED, 500: INTERNAL, 503: UNAVAILABLE}

log = structlog.get_logger()


def routes(ingest: OtlpIngest, *, bodies: BodyReader | None = None) -> list[Route]:
    """The three OTLP routes. Their answers follow the OTLP/HTTP specification 1.x."""
    reader = bodies or BodyReader(lane=ingest.lane)
    return [
        Route(f"/v1/{signal.value}", _handler(ingest, reader, signal), methods=["POST"])
        for signal in Signal
    ]


def _handler(
    ingest: OtlpIngest, reader: BodyReader, signal: Signal
) -> Callable[[Request], Awaitable[Response]]:
    async def export(request: Request) -> Response:
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        is_json = content_type == JSON
        encoding = request.headers.get("content-encoding", "")
        try:
            async with AsyncExitStack() as held:
                with ingest.pipeline.receiving(SOURCE):
                    _check_media(content_type)
                    body = await held.enter_async_context(
                        reader.read(chunks(request.receive), encoding)
                    )
                answer = await ingest.accept(signal, body, is_json=is_json)
        except WarroomError as error:
            return _failure(error, is_json=is_json)
        except ClientGone:
            return Response(status_code=400)
        except Exception:
            log.exception("otlp request failed", signal=signal.value)
            return _answer(500, INTERNAL, "an internal error occurred", is_json=is_json)
        return _success(signal, answer, is_json=is_json)

    return export


def _check_media(content_type: str) -> None:
    if content_type not in (PROTOBUF, JSON):
        raise UnsupportedMedia(
            f"the Content-Type {content_type[:60]!r} is not supported",
            hint=f"use {PROTOBUF} or {JSON}",
        )


def _success(signal: Signal, answer: OtlpAnswer, *, is_json: bool) -> Response:
    response: ExportTraceServiceResponse | ExportMetricsServiceResponse | ExportLogsServiceResponse
    if signal is Signal.TRACES:
        response = ExportTraceServiceResponse()
        response.partial_success.rejected_spans = answer.rejected
    elif signal is Signal.METRICS:
        response = ExportMetricsServiceResponse()
        response.partial_success.rejected_data_points = answer.rejected
    else:
        response = ExportLogsServiceResponse()
        response.partial_success.rejected_log_records = answer.rejected
    if answer.rejected:
        response.partial_success.error_message = answer.message
    else:
        response.ClearField("partial_success")
    if is_json:
        return Response(json_format.MessageToJson(response, indent=None), media_type=JSON)
    return Response(response.SerializeToString(), media_type=PROTOBUF)


def _failure(error: WarroomError, *, is_json: bool) -> Response:
    refusal = refusal_of(error)
    code = _CODES.get(refusal.status, INVALID_ARGUMENT)
    return _answer(
        refusal.status, code, str(error), is_json=is_json, retry_after_s=refusal.retry_after_s
    )


def _answer(
    status: int, code: int, message: str, *, is_json: bool, retry_after_s: int | None = None
) -> Response:
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    if is_json:
        content = status_json(code, message)
        return Response(content, status_code=status, headers=headers, media_type=JSON)
    content = status_protobuf(code, message, retry_after_s=retry_after_s)
    return Response(content, status_code=status, headers=headers, media_type=PROTOBUF)
