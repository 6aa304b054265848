"""Go templates, as far as Prometheus rule files use them: parsed once, rendered within bounds.

Known: text, pipelines, variables, if/else, with, range (break, continue), define, template, block,
comments, trim marks and the functions of `alerts.template_functions`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from alerts.template_functions import Function, TemplateContext, functions, truth
from alerts.template_syntax import (
    Block,
    Call,
    Invocation,
    Jump,
    Literal,
    Method,
    Pipeline,
    Reference,
    Template,
    parse_template,
)
from alerts.template_text import FieldList, TemplateError, text_of
from alerts.template_times import call_method

MAX_OUTPUT = 65_536
_MAX_STEPS = 100_000
_MAX_DEPTH = 32


def render(text: str, labels: Mapping[str, str], value: float, context: TemplateContext) -> str:
    """The text with its actions carried out, as for a rule's label or annotation.

    Raises:
        TemplateError: With the reason.
    """
    if "{{" not in text:
        return text
    parts = _plain_parts(text)
    if parts is not None:
        return _joined(parts, labels, value)
    data = {
        "Labels": labels,
        "ExternalLabels": context.external_labels,
        "ExternalURL": context.external_url,
        "Value": value,
    }
    names = {
        "$": data,
        "$labels": labels,
        "$externalLabels": context.external_labels,
        "$externalURL": context.external_url,
        "$value": value,
    }
    return _Renderer(functions(context)).render(parse_template(text), data, names)


# The place of the value among the names of labels, which are never empty.
_VALUE = ""


@functools.lru_cache(maxsize=32_768)
def _plain_parts(text: str) -> tuple[tuple[bool, str], ...] | None:
    """The template as texts (False) and names of labels or `_VALUE` (True).

    None when it does anything else; most templates of rules do not.
    """
    parts: list[tuple[bool, str]] = []
    for node in parse_template(text).nodes:
        name = None if isinstance(node, str) else _plain_name(node)
        if isinstance(node, str):
            parts.append((False, node))
        elif name is None:
            return None
        else:
            parts.append((True, name))
    return tuple(parts)


def _plain_name(node: Any) -> str | None:
    """The label that a node writes, `_VALUE` for the value, None for anything else."""
    if not isinstance(node, Pipeline) or node.variables or len(node.commands) != 1:
        return None
    match node.commands[0]:
        case Reference(base="$labels", fields=(name,)):
            return str(name)
        case Reference(base="." | "$", fields=("Labels", name)):
            return str(name)
        case Reference(base="$value", fields=()):
            return _VALUE
        case Reference(base="." | "$", fields=("Value",)):
            return _VALUE
        case _:
            return None


def _joined(parts: Sequence[tuple[bool, str]], labels: Mapping[str, str], value: float) -> str:
    written = [
        (labels.get(part, "") if part else text_of(value)) if named else part
        for named, part in parts
    ]
    found = "".join(written)
    if len(found) > MAX_OUTPUT:
        raise TemplateError(f"the text grows over {MAX_OUTPUT} characters")
    return found


def render_data(
    text: str, data: Mapping[str, Any], library: Mapping[str, tuple[Any, ...]] | None = None
) -> str:
    """The text over any plain data, without queries. `library` holds templates of other files.

    Raises:
        TemplateError: With the reason.
    """
    renderer = _Renderer(functions(TemplateContext()), library)
    return renderer.render(parse_template(text), data, {"$": data})


def render_or_explain(
    name: str, text: str, labels: Mapping[str, str], value: float, context: TemplateContext
) -> str:
    """Like `render`; an error becomes part of the text, so that the page still goes out."""
    try:
        return render(text, labels, value, context)
    except TemplateError as exc:
        return f"<error expanding template: error executing template __alert_{name}: {exc}>"


class _Left(Exception):
    """A `break` or `continue` on its way to its range."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


class _Renderer:
    def __init__(
        self,
        table: Mapping[str, Function],
        library: Mapping[str, tuple[Any, ...]] | None = None,
    ) -> None:
        self._table = table
        self._definitions: Mapping[str, tuple[Any, ...]] = library or {}
        self._depth = 0
        self._steps = 0
        self._out: list[str] = []
        self._size = 0

    def render(self, template: Template, dot: Any, names: dict[str, Any]) -> str:
        self._definitions = {**self._definitions, **template.definitions}
        self._nodes(template.nodes, dot, dict(names))
        return "".join(self._out)

    def _nodes(self, nodes: Any, dot: Any, names: dict[str, Any]) -> None:
        for node in nodes:
            self._steps += 1
            if self._steps > _MAX_STEPS:
                raise TemplateError("the template takes too many steps")
            if isinstance(node, str):
                self._write(node)
            elif isinstance(node, Block):
                self._block(node, dot, names)
            elif isinstance(node, Invocation):
                self._invoke(node, dot, names)
            elif isinstance(node, Jump):
                raise _Left(node.kind)
            else:
                value = self._pipeline(node, dot, names)
                if node.variables:
                    names[node.variables[0]] = value
                else:
                    self._write(text_of(value))

    def _invoke(self, node: Invocation, dot: Any, names: dict[str, Any]) -> None:
        body = self._definitions.get(node.name)
        if body is None:
            raise TemplateError(f"template {node.name!r} is not defined")
        if self._depth >= _MAX_DEPTH:
            raise TemplateError(f"templates call each other deeper than {_MAX_DEPTH}")
        data = self._pipeline(node.pipeline, dot, names) if node.pipeline else None
        self._depth += 1
        self._nodes(body, data, {"$": data})
        self._depth -= 1

    def _write(self, text: str) -> None:
        self._size += len(text)
        if self._size > MAX_OUTPUT:
            raise TemplateError(f"the text grows over {MAX_OUTPUT} characters")
        self._out.append(text)

    def _block(self, block: Block, dot: Any, names: dict[str, Any]) -> None:
        value = self._pipeline(block.pipeline, dot, names)
        # The outer names are shared, as in Go: an assignment within is seen after the block.
        if block.kind == "range":
            self._range(block, value, dot, names)
        elif truth(value):
            if block.pipeline.variables:
                names[block.pipeline.variables[0]] = value
            self._nodes(block.body, value if block.kind == "with" else dot, names)
        else:
            self._nodes(block.otherwise, dot, names)

    def _range(self, block: Block, value: Any, dot: Any, names: dict[str, Any]) -> None:
        if isinstance(value, Mapping):
            items: list[tuple[Any, Any]] = sorted(value.items())
        elif isinstance(value, list | tuple):
            items = list(enumerate(value))
        else:
            raise TemplateError(f"range can't iterate over {text_of(value)}")
        if not items:
            self._nodes(block.otherwise, dot, names)
        variables = block.pipeline.variables
        for key, item in items:
            if variables:
                names[variables[-1]] = item
            if len(variables) > 1:
                names[variables[0]] = key
            try:
                self._nodes(block.body, item, names)
            except _Left as left:
                if left.kind == "break":
                    break

    def _pipeline(self, pipeline: Pipeline, dot: Any, names: dict[str, Any]) -> Any:
        value: Any = None
        for place, command in enumerate(pipeline.commands):
            piped = (value,) if place else ()
            if isinstance(command, Call):
                arguments = [self._value(a, dot, names) for a in command.arguments]
                value = self._call(command.function, [*arguments, *piped])
            elif isinstance(command, Method):
                target = self._value(command.target, dot, names)
                arguments = [self._value(a, dot, names) for a in command.arguments]
                value = call_method(target, command.name, [*arguments, *piped])
            elif piped:
                raise TemplateError("only a function may stand behind |")
            else:
                value = self._value(command, dot, names)
        return value

    def _value(self, node: Any, dot: Any, names: dict[str, Any]) -> Any:
        if isinstance(node, Literal):
            return node.value
        if isinstance(node, Call):
            return self._call(node.function, [])
        if isinstance(node.base, Pipeline):
            value = self._pipeline(node.base, dot, names)
        elif node.base == ".":
            value = dot
        elif node.base in names:
            value = names[node.base]
        else:
            raise TemplateError(f"undefined variable {node.base!r}")
        for name in node.fields:
            value = _field(value, name)
        return value

    def _call(self, name: str, arguments: list[Any]) -> Any:
        self._steps += 1
        function = self._table.get(name)
        if function is None:
            raise TemplateError(f"function {name!r} not defined")
        try:
            return function(*arguments)
        except TemplateError:
            raise
        except Exception as exc:
            raise TemplateError(f"error calling {name}: {exc}") from exc


def _field(value: Any, name: str) -> Any:
    if isinstance(value, Mapping | FieldList):
        return value.get(name, "")
    if isinstance(value, datetime):
        return call_method(value, name, ())
    raise TemplateError(f"can't evaluate field {name} in {text_of(value)!r}")
