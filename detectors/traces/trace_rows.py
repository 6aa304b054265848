"""The columns of one trace, and what one span of it tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import orjson

from detectors.traces.frame import SpanFrame
from detectors.traces.shape import Shape
from detectors.traces.survey import TORN

# Lists of a trace, by the columns of the frame.
_COLUMNS = {
    "start_ns": "start_ns",
    "end_ns": "end_ns",
    "kind": "kind",
    "service": "service",
    "shape_index": "shape",
    "form": "form",
    "category": "category",
    "failed": "failed",
    "multiple": "multiple",
    "stated": "stated",
    "orphan": "orphan",
    "parent_key": "parent_key",
    "parent": "parent_in_trace",
    "server": "server",
    "repeated": "repeated",
}


class TraceRows:
    """The spans `0 … n-1` of one trace. A column becomes a list when it is first asked for.

    Attributes:
        traits: What is rare in it, as bits (see `traces.survey`).
        brief: Only what is found is wanted, not what is not reported and why.
    """

    start_ns: list[int]
    end_ns: list[int]
    kind: list[int]
    service: list[int]
    shape_index: list[int]
    form: list[int]
    category: list[int]
    failed: list[bool]
    multiple: list[bool]
    stated: list[bool]
    orphan: list[bool]
    parent_key: list[int]
    parent: list[int]
    server: list[int]
    repeated: list[int]

    def __init__(self, frame: SpanFrame, index: int, *, brief: bool = False) -> None:
        self.frame = frame
        self.brief = brief
        self.index = index
        self.first = frame.begins[index]
        self.n = frame.begins[index + 1] - self.first
        self.traits = frame.traits[index]

    def __getattr__(self, name: str) -> list[Any]:
        column = _COLUMNS.get(name)
        if column is None:
            raise AttributeError(name)
        rows: Any = getattr(self.frame, column)[self.first : self.first + self.n]
        found: list[Any] = rows.tolist()
        self.__dict__[name] = found
        return found

    @cached_property
    def trace_id(self) -> str:
        return self.frame.columns.ids("trace_id", [self.first])[0]

    @property
    def complete(self) -> bool:
        """Every parent is here, except that of a span where a request entered from outside."""
        return not self.traits & TORN

    def duration_ns(self, span: int) -> int:
        return self.end_ns[span] - self.start_ns[span]

    def shape(self, span: int) -> Shape:
        return self.frame.shapes[self.shape_index[span]]

    def service_name(self, span: int) -> str:
        return self.frame.services[self.service[span]]

    def name(self, span: int) -> str:
        return str(self._value("name", span))

    def text(self, column: str, span: int) -> str:
        """A text column's value, empty where it is null."""
        value = self._value(column, span)
        return "" if value is None else str(value)

    def span_id(self, span: int) -> str:
        return self.span_ids([span])[0]

    def span_ids(self, spans: Sequence[int]) -> list[str]:
        first = self.first
        return self.frame.columns.ids("span_id", [first + span for span in spans])

    def parent_span_id(self, span: int) -> str:
        return self.frame.columns.ids("parent_span_id", [self.first + span])[0]

    def codes(self, column: str, spans: Sequence[int]) -> list[int]:
        """A number for each span's value in a column, equal for equal values."""
        numbers = self.frame.columns.numbers(column)
        found: list[int] = numbers[self.first + np.asarray(spans, dtype=np.int64)].tolist()
        return found

    def attributes(self, span: int) -> Mapping[str, Any]:
        """The span's attributes; empty where they are no JSON object."""
        text = self._value("attributes", span)
        try:
            value = orjson.loads(text) if text else {}
        except orjson.JSONDecodeError:
            return {}
        return value if isinstance(value, dict) else {}

    def _value(self, column: str, span: int) -> Any:
        return self.frame.columns.value(column, self.first + span)
