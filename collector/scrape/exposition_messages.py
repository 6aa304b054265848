"""The messages of Prometheus's protobuf format, `io.prometheus.client` (client_model).

Only what a scrape reads. Field numbers: client_model's metrics.proto. Read as proto3, which is the
same on the wire and refuses text that is not UTF-8.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "warroom.exposition"
_DOUBLE, _TEXT, _U64, _I64 = (
    _Field.TYPE_DOUBLE,
    _Field.TYPE_STRING,
    _Field.TYPE_UINT64,
    _Field.TYPE_INT64,
)
_S32, _S64, _U32 = _Field.TYPE_SINT32, _Field.TYPE_SINT64, _Field.TYPE_UINT32
_MANY = True
# Of each field its number, its type or message, and whether it is repeated.
_MESSAGES: dict[str, dict[str, tuple[int, int | str, bool]]] = {
    "Label": {"name": (1, _TEXT, False), "value": (2, _TEXT, False)},
    "Time": {"seconds": (1, _I64, False), "nanos": (2, _Field.TYPE_INT32, False)},
    "Exemplar": {
        "label": (1, "Label", _MANY),
        "value": (2, _DOUBLE, False),
        "timestamp": (3, "Time", False),
    },
    "Number": {"value": (1, _DOUBLE, False)},
    "Counter": {"value": (1, _DOUBLE, False), "exemplar": (2, "Exemplar", False)},
    "Quantile": {"quantile": (1, _DOUBLE, False), "value": (2, _DOUBLE, False)},
    "Summary": {
        "sample_count": (1, _U64, False),
        "sample_sum": (2, _DOUBLE, False),
        "quantile": (3, "Quantile", _MANY),
    },
    "Bucket": {
        "cumulative_count": (1, _U64, False),
        "upper_bound": (2, _DOUBLE, False),
        "exemplar": (3, "Exemplar", False),
        "cumulative_count_float": (4, _DOUBLE, False),
    },
    "Span": {"offset": (1, _S32, False), "length": (2, _U32, False)},
    "Histogram": {
        "sample_count": (1, _U64, False),
        "sample_sum": (2, _DOUBLE, False),
        "bucket": (3, "Bucket", _MANY),
        "sample_count_float": (4, _DOUBLE, False),
        "schema": (5, _S32, False),
        "zero_threshold": (6, _DOUBLE, False),
        "zero_count": (7, _U64, False),
        "zero_count_float": (8, _DOUBLE, False),
        "negative_span": (9, "Span", _MANY),
        "negative_delta": (10, _S64, _MANY),
        "negative_count": (11, _DOUBLE, _MANY),
        "positive_span": (12, "Span", _MANY),
        "positive_delta": (13, _S64, _MANY),
        "positive_count": (14, _DOUBLE, _MANY),
        "exemplars": (16, "Exemplar", _MANY),
    },
    "Metric": {
        "label": (1, "Label", _MANY),
        "gauge": (2, "Number", False),
        "counter": (3, "Counter", False),
        "summary": (4, "Summary", False),
        "untyped": (5, "Number", False),
        "timestamp_ms": (6, _I64, False),
        "histogram": (7, "Histogram", False),
    },
}


@cache
def metric_class() -> Any:
    """The class of `Metric`: its `FromString` raises DecodeError."""
    file = descriptor_pb2.FileDescriptorProto(
        name="warroom_exposition.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind, repeated) in fields.items():
            field = message.field.add(
                name=field_name,
                number=number,
                label=_Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL,
            )
            if isinstance(kind, str):
                field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                field.type = kind  # type: ignore[assignment]  # its numbers are plain integers
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Metric"))
