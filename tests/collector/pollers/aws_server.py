"""A loopback AWS: it reads requests and writes answers by the service models that botocore ships.

Auto Scaling speaks the Query protocol (form in, XML out); CloudWatch what the model prefers: CBOR,
JSON or Query.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

import botocore.session  # type: ignore[import-untyped]  # it ships no types
from botocore.parsers import RpcV2CBORParser  # type: ignore[import-untyped]
from botocore.serialize import CBORSerializer  # type: ignore[import-untyped]
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

CBOR, JSON = "application/cbor", "application/x-amz-json-1.0"


class Refused(Exception):
    """Raised by an operation of the double: the error that AWS would answer."""

    def __init__(
        self, code: str, message: str, status: int = 400, *, retry_after: str = ""
    ) -> None:
        super().__init__(code)
        self.code, self.message, self.status = code, message, status
        self.headers = {"retry-after": retry_after} if retry_after else {}


Operation = Callable[[Mapping[str, Any]], Mapping[str, Any]]


@dataclass
class AwsServer:
    """Answers each operation by a function of its parameters; keeps what it was asked."""

    operations: dict[str, Operation]
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    signed_by: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        session = botocore.session.Session()
        self._models = [session.get_service_model(name) for name in ("autoscaling", "cloudwatch")]

    def routes(self) -> list[Any]:
        return [Route("/{path:path}", self.answer, methods=["POST"])]

    def count(self, operation: str) -> int:
        return sum(name == operation for name, _ in self.asked)

    async def answer(self, request: Request) -> Response:
        body = await request.body()
        name, parameters, wire = _request(request, body)
        self.asked.append((name, parameters))
        self.signed_by.append(request.headers.get("authorization", ""))
        try:
            answer = self.operations[name](parameters)
        except Refused as refused:
            return _refusal(refused, wire)
        return _answer(self._shape(name), name, answer, wire)

    def _shape(self, operation: str) -> Any:
        for model in self._models:
            if operation in model.operation_names:
                return model.operation_model(operation).output_shape
        raise KeyError(operation)


def _request(request: Request, body: bytes) -> tuple[str, dict[str, Any], str]:
    """The operation, its parameters, and the media type of the answer."""
    if request.headers.get("smithy-protocol") == "rpc-v2-cbor":
        parser = RpcV2CBORParser()
        stream = parser.get_peekable_stream_from_bytes(body)
        return request.path_params["path"].rpartition("/")[2], parser.parse_data_item(stream), CBOR
    target = request.headers.get("x-amz-target", "")
    if target:
        return target.rpartition(".")[2], json.loads(body), JSON
    form = dict(parse_qsl(body.decode()))
    return form.pop("Action"), form, "text/xml"


def _answer(shape: Any, name: str, answer: Mapping[str, Any], wire: str) -> Response:
    if wire == CBOR:
        serialized = bytearray()
        CBORSerializer()._serialize_data_item(serialized, dict(answer), shape)
        headers = {"smithy-protocol": "rpc-v2-cbor"}
        return Response(bytes(serialized), 200, headers, media_type=CBOR)
    if wire == JSON:
        text = json.dumps(answer, default=lambda at: at.timestamp())
        return Response(text, 200, media_type=JSON)
    inner = "".join(_xml(shape, answer))
    text = f"<{name}Response><{name}Result>{inner}</{name}Result></{name}Response>"
    return Response(text, 200, media_type=wire)


def _refusal(refused: Refused, wire: str) -> Response:
    if wire in (CBOR, JSON):
        # Its older names come beside the newer protocol's: AWS calls that query compatible.
        headers = {**refused.headers, "x-amzn-query-error": f"{refused.code};Sender"}
        error = {"__type": f"com.amazonaws#{refused.code}", "message": refused.message}
        body = _plain_cbor(error) if wire == CBOR else json.dumps(error).encode()
        if wire == CBOR:
            headers["smithy-protocol"] = "rpc-v2-cbor"
        return Response(body, refused.status, headers, media_type=wire)
    text = (
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{refused.code}</Code>"
        f"<Message>{escape(refused.message)}</Message></Error><RequestId>r</RequestId>"
        "</ErrorResponse>"
    )
    return Response(text, refused.status, refused.headers, media_type=wire)


def _plain_cbor(texts: Mapping[str, str]) -> bytes:
    """A small map of short texts."""
    found = bytes([0xA0 | len(texts)])
    for text in (part for pair in texts.items() for part in pair):
        encoded = text.encode()
        found += bytes([0x78, len(encoded)]) + encoded
    return found


def _xml(shape: Any, value: Any) -> Iterator[str]:
    """A value as the Query protocol writes it."""
    if shape.type_name == "structure":
        for name, inner in shape.members.items():
            if name in value:
                yield f"<{name}>{''.join(_xml(inner, value[name]))}</{name}>"
    elif shape.type_name == "list":
        for item in value:
            yield f"<member>{''.join(_xml(shape.member, item))}</member>"
    elif isinstance(value, datetime):
        yield value.isoformat()
    else:
        yield escape(str(value).lower() if isinstance(value, bool) else str(value))
