"""The line of the shop's own code that started a client span.

No driver instrumentation sets `code.*`. A span processor's `on_start` runs in the thread that
starts the span, so the frames above it are the ones that asked for the query.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import SpanKind
from typing_extensions import override

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import Span

CODE_FILE_PATH = "code.file.path"
CODE_LINE_NUMBER = "code.line.number"
CODE_FUNCTION_NAME = "code.function.name"

MAX_FRAMES = 100
MAX_CACHED_CODES = 50_000
_FOREIGN = ("site-packages", "dist-packages")
_ANONYMOUS = ("<listcomp>", "<genexpr>", "<dictcomp>", "<setcomp>", "<lambda>")


class CodeLocationProcessor(SpanProcessor):
    """Sets `code.file.path`, `code.line.number` and `code.function.name` on client spans.

    The location is the innermost frame whose file lies under one of `app_roots` and not in an
    installed package. Spans that have a location already are left alone.
    """

    def __init__(self, app_roots: Sequence[Path]) -> None:
        self._roots = tuple(f"{root.resolve()}/" for root in app_roots)
        self._own = str(Path(__file__).resolve().parent) + "/"
        # A code object never moves: one verdict each, so that a walk is attribute reads only.
        self._is_app: dict[CodeType, bool] = {}

    @override
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if span.kind is not SpanKind.CLIENT or not span.is_recording():
            return
        if span.attributes is not None and CODE_FILE_PATH in span.attributes:
            return
        frame = sys._getframe(1)  # noqa: SLF001  # the documented way up that costs microseconds
        verdicts = self._is_app
        for _ in range(MAX_FRAMES):
            code = frame.f_code
            is_app = verdicts.get(code)
            if is_app is None:
                is_app = self._judge(code)
            if is_app:
                module = frame.f_globals.get("__name__", "")
                span.set_attribute(CODE_FILE_PATH, code.co_filename)
                span.set_attribute(CODE_LINE_NUMBER, frame.f_lineno)
                span.set_attribute(CODE_FUNCTION_NAME, f"{module}.{_named(code.co_qualname)}")
                return
            if frame.f_back is None:
                return
            frame = frame.f_back

    def _judge(self, code: CodeType) -> bool:
        if len(self._is_app) >= MAX_CACHED_CODES:
            self._is_app.clear()
        name = code.co_filename
        verdict = (
            name.startswith(self._roots)
            and not name.startswith(self._own)
            and not any(part in name for part in _FOREIGN)
        )
        self._is_app[code] = verdict
        return verdict


def _named(qualname: str) -> str:
    """The function a reader looks for: `view.<locals>.<listcomp>` is code of `view`.

    >>> _named("Cart.lines.<locals>.<genexpr>")
    'Cart.lines'
    """
    while qualname.endswith(_ANONYMOUS) and ".<locals>." in qualname:
        qualname = qualname.rpartition(".<locals>.")[0]
    return qualname
