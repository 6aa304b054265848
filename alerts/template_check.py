"""What Go finds wrong with a rule's template before it is ever rendered: unknown names."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from typing import Any

from alerts.template_functions import TemplateContext, functions
from alerts.template_syntax import (
    Block,
    Call,
    Invocation,
    Method,
    Pipeline,
    Reference,
    checked_template,
    parse_template,
)
from alerts.template_text import TemplateError

# Functions of Alertmanager's that are not known here: a text that calls one is left out.
_ALERTMANAGERS = frozenset(
    {"append", "date", "dict", "list", "safeUrl", "since", "toJson", "trimSpace", "tz"}
    | {"urlUnescape", "call"}
)
RULE_VARIABLES = frozenset({"$", "$labels", "$externalLabels", "$externalURL", "$value"})


def check_rule_template(text: str) -> None:
    """Refuse a template of a rule's label or annotation that can never be rendered.

    Raises:
        TemplateError: It is not well formed, or names a function, variable or template that is
            not there.
    """
    if "{{" not in text:
        return
    template = checked_template(text)
    known = functions(TemplateContext())
    for body in template.definitions.values():
        _Names(known, {"$"}).nodes(body)
    _Names(known, set(RULE_VARIABLES)).nodes(template.nodes)


def check_notice_template(text: str) -> None:
    """Refuse a receiver's text that can never be rendered.

    Templates that it names may stand in files that Warroom does not read: its own text stands in.

    Raises:
        TemplateError: It is not well formed, or names a function or variable that is not there.
    """
    if "{{" not in text:
        return
    template = parse_template(text)
    known = _ALERTMANAGERS | functions(TemplateContext()).keys()
    for body in (*template.definitions.values(), template.nodes):
        _Names(known, {"$"}).nodes(body)


class _Names:
    """Walks a template; variables are known from where they are declared on."""

    def __init__(self, known: Collection[str], variables: set[str]) -> None:
        self._functions = known
        self._variables = variables

    def nodes(self, nodes: Any) -> None:
        for node in nodes:
            if isinstance(node, Block):
                self._pipeline(node.pipeline)
                self.nodes(node.body)
                self.nodes(node.otherwise)
            elif isinstance(node, Pipeline):
                self._pipeline(node)
            elif isinstance(node, Invocation) and node.pipeline is not None:
                self._pipeline(node.pipeline)

    def _pipeline(self, pipeline: Pipeline) -> None:
        for command in pipeline.commands:
            self._value(command)
        self._variables.update(pipeline.variables)

    def _value(self, node: Any) -> None:
        if isinstance(node, Call):
            self._known(node.function, self._functions, "function {} not defined")
            for argument in node.arguments:
                self._value(argument)
        elif isinstance(node, Method):
            for part in (node.target, *node.arguments):
                self._value(part)
        elif isinstance(node, Reference):
            if isinstance(node.base, Pipeline):
                self._pipeline(node.base)
            elif node.base != ".":
                self._known(node.base, self._variables, "undefined variable {}")

    def _known(self, name: str, among: Collection[str], problem: str) -> None:
        if name not in among:
            near = get_close_matches(name, among, n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise TemplateError(problem.format(repr(name)) + meant)
