"""Go templates to a tree: text, actions, pipelines, blocks."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from alerts.template_text import TemplateError

MAX_TEMPLATE = 65_536
_MAX_DEPTH = 32
_ACTION = re.compile(
    r"\{\{(-\s)?\s*(/\*.*?\*/|(?:\"(?:[^\"\\]|\\.)*\"|`[^`]*`|.)*?)\s*(\s-)?\}\}", re.DOTALL
)
_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*"|`[^`]*`)
    |(?P<number>[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+))
    |(?P<name>\$?[A-Za-z_][A-Za-z0-9_]*|\$)
    |(?P<field>\.[A-Za-z_][A-Za-z0-9_]*)
    |(?P<symbol>:=|[().|,=])|(?P<bad>\S))""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


@dataclass(frozen=True, slots=True)
class Literal:
    """A text, a number, true, false or nil."""

    value: Any


@dataclass(frozen=True, slots=True)
class Reference:
    """A variable, the dot, or a pipeline, with the fields taken of it."""

    base: Any  # a name that begins with $, "." or a Pipeline
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """A function with its arguments, the piped one left out."""

    function: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a value, called with arguments, the piped one left out."""

    target: Reference
    name: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Commands, each fed with the value before it; `variables` take the last."""

    commands: tuple[Any, ...]
    variables: tuple[str, ...] = ()


@dataclass(slots=True)
class Block:
    """`if`, `with` or `range` with its two bodies."""

    kind: str
    pipeline: Pipeline
    body: list[Any] = field(default_factory=list)
    otherwise: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Invocation:
    """`template "name" pipeline`: another template over the pipeline's value."""

    name: str
    pipeline: Pipeline | None


@dataclass(frozen=True, slots=True)
class Jump:
    """`break` or `continue`."""

    kind: str


@dataclass(frozen=True, slots=True)
class Template:
    """A template's nodes, and the templates that it defines."""

    nodes: tuple[Any, ...]
    definitions: Mapping[str, tuple[Any, ...]]
    invoked: frozenset[str]


def checked_template(text: str) -> Template:
    """The template's tree; it must define every template that it names.

    Raises:
        TemplateError: As `parse_template`, or a template is not defined.
    """
    found = parse_template(text)
    for name in sorted(found.invoked - set(found.definitions)):
        raise TemplateError(f"template {name!r} is not defined")
    return found


# As many as there may be rules: each is rendered at every tick.
@functools.lru_cache(maxsize=32_768)
def parse_template(text: str) -> Template:
    """The template's tree.

    Raises:
        TemplateError: It is too long or not well formed.
    """
    if len(text) > MAX_TEMPLATE:
        raise TemplateError(f"the template is longer than {MAX_TEMPLATE} characters")
    return _Parser(text).run()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._root: list[Any] = []
        self._bodies: list[list[Any]] = [self._root]
        # For each open body: its block, and how many `else if` blocks an `end` closes at once.
        self._open: list[tuple[Block, int]] = []
        self._definitions: dict[str, tuple[Any, ...]] = {}
        self._invoked: set[str] = set()

    def run(self) -> Template:
        position, trim = 0, False
        for match in _ACTION.finditer(self._text):
            literal = self._text[position : match.start()]
            literal = literal.lstrip() if trim else literal
            self._literal(literal.rstrip() if match[1] else literal)
            trim = bool(match[3])
            position = match.end()
            if not match[2].startswith("/*"):
                self._action(match[2])
        rest = self._text[position:]
        if "{{" in rest:
            raise TemplateError("an action that begins with {{ is not closed")
        self._literal(rest.lstrip() if trim else rest)
        if self._open:
            raise TemplateError(f"{self._open[-1][0].kind} without end")
        return Template(tuple(self._root), self._definitions, frozenset(self._invoked))

    def _literal(self, text: str) -> None:
        if text:
            self._bodies[-1].append(text)

    def _action(self, source: str) -> None:
        word, _, rest = source.partition(" ")
        if word in {"if", "with", "range"}:
            self._begin(word, rest, 1)
        elif word == "else":
            self._otherwise(rest.strip())
        elif word == "end":
            self._end()
        elif word in {"define", "block"}:
            self._define(word, rest)
        elif word == "template":
            self._invoke(*_named(rest))
        elif word in {"break", "continue"}:
            self._jump(word)
        else:
            self._bodies[-1].append(_Expression(source).pipeline())

    def _begin(self, kind: str, rest: str, depth: int) -> None:
        if len(self._open) >= _MAX_DEPTH:
            raise TemplateError(f"blocks are nested deeper than {_MAX_DEPTH}")
        block = Block(kind, _Expression(rest).pipeline())
        self._bodies[-1].append(block)
        self._open.append((block, depth))
        self._bodies.append(block.body)

    def _define(self, word: str, rest: str) -> None:
        name, argument = _named(rest)
        if word == "define" and (self._open or argument):
            raise TemplateError("define stands at the top level, and takes a name alone")
        if word == "block":
            self._invoke(name, argument)
        block = Block("define", Pipeline((Literal(name),)))
        self._open.append((block, 1))
        self._bodies.append(block.body)

    def _invoke(self, name: str, argument: str) -> None:
        self._invoked.add(name)
        pipeline = _Expression(argument).pipeline() if argument else None
        self._bodies[-1].append(Invocation(name, pipeline))

    def _jump(self, word: str) -> None:
        if all(block.kind != "range" for block, _ in self._open):
            raise TemplateError(f"{word} outside of range")
        self._bodies[-1].append(Jump(word))

    def _otherwise(self, rest: str) -> None:
        inside = self._open[-1][0] if self._open else None
        if inside is None or inside.kind == "define" or self._bodies[-1] is inside.otherwise:
            raise TemplateError("unexpected else")
        block, depth = self._open[-1]
        self._bodies[-1] = block.otherwise
        if rest:
            kind, _, condition = rest.partition(" ")
            if kind not in {"if", "with"}:
                raise TemplateError(f"unexpected {kind!r} after else")
            self._begin(kind, condition, depth + 1)

    def _end(self) -> None:
        if not self._open:
            raise TemplateError("unexpected end")
        for _ in range(self._open[-1][1]):
            block, _depth = self._open.pop()
            self._bodies.pop()
            if block.kind == "define":
                self._definitions[block.pipeline.commands[0].value] = tuple(block.body)


class _Expression:
    """The inside of one action."""

    def __init__(self, source: str) -> None:
        self._tokens: list[tuple[str, str, bool]] = []
        for match in _TOKEN.finditer(source):
            kind = match.lastgroup or "bad"
            if kind == "bad":
                raise TemplateError(f"unexpected {match[kind]!r} in {source!r}")
            spaced = match.start() != match.start(kind)
            self._tokens.append((kind, match[kind], spaced))
        self._at = 0
        self._source = source
        self._depth = 0

    def pipeline(self) -> Pipeline:
        """The whole of it."""
        variables = self._declared()
        found = self._pipe()
        if self._at < len(self._tokens):
            raise self._unexpected()
        return Pipeline(found.commands, variables)

    def _unexpected(self) -> TemplateError:
        if self._at >= len(self._tokens):
            return TemplateError(f"a value is missing in {self._source!r}")
        return TemplateError(f"unexpected {self._tokens[self._at][1]!r} in {self._source!r}")

    def _declared(self) -> tuple[str, ...]:
        texts = [token[1] for token in self._tokens]
        for place, sign in enumerate(texts[:4]):
            if sign in {":=", "="} and self._tokens[place][0] == "symbol":
                names = [text for text in texts[:place] if text != ","]
                if not names or any(not name.startswith("$") for name in names):
                    raise self._unexpected()
                self._at = place + 1
                return tuple(names)
        return ()

    def _peek(self, symbol: str) -> bool:
        return self._at < len(self._tokens) and self._tokens[self._at][:2] == ("symbol", symbol)

    def _pipe(self) -> Pipeline:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise TemplateError(f"parentheses are nested deeper than {_MAX_DEPTH}")
        commands = [self._command()]
        while self._peek("|"):
            self._at += 1
            commands.append(self._command())
        self._depth -= 1
        return Pipeline(tuple(commands))

    def _command(self) -> Any:
        kind, text, _ = self._tokens[self._at] if self._at < len(self._tokens) else ("", "", False)
        if kind == "name" and not text.startswith("$") and text not in {"true", "false", "nil"}:
            self._at += 1
            return Call(text, self._arguments())
        operand = self._operand()
        if not isinstance(operand, Reference) or not operand.fields:
            return operand
        arguments = self._arguments()
        if not arguments:
            return operand
        *before, name = operand.fields
        return Method(Reference(operand.base, tuple(before)), name, arguments)

    def _arguments(self) -> tuple[Any, ...]:
        arguments = []
        while self._at < len(self._tokens) and not (self._peek("|") or self._peek(")")):
            arguments.append(self._operand())
        return tuple(arguments)

    def _operand(self) -> Any:
        if self._at >= len(self._tokens):
            raise self._unexpected()
        kind, text, _ = self._tokens[self._at]
        self._at += 1
        match kind:
            case "string":
                return Literal(_unquoted(text))
            case "number":
                whole = re.fullmatch(r"[-+]?\d+", text)
                return Literal(int(text) if whole and len(text) < 20 else float(text))
            case "field":
                self._at -= 1
                return Reference(".", self._fields(first=True))
            case "name":
                return self._named(text)
            case _:
                return self._symbol(text)

    def _symbol(self, text: str) -> Any:
        if text == ".":
            return Reference(".")
        if text == "(":
            inner = self._pipe()
            if not self._peek(")"):
                raise TemplateError(f"a parenthesis is not closed in {self._source!r}")
            self._at += 1
            return Reference(inner, self._fields())
        self._at -= 1
        raise self._unexpected()

    def _named(self, text: str) -> Any:
        if text.startswith("$"):
            return Reference(text, self._fields())
        if text in {"true", "false", "nil"}:
            return Literal({"true": True, "false": False, "nil": None}[text])
        return Call(text, ())

    def _fields(self, *, first: bool = False) -> tuple[str, ...]:
        names: list[str] = []
        while self._at < len(self._tokens):
            kind, text, spaced = self._tokens[self._at]
            if kind != "field" or (spaced and not (first and not names)):
                break
            names.append(text[1:])
            self._at += 1
        return tuple(names)


def _named(rest: str) -> tuple[str, str]:
    """The name behind `define`, `template` or `block`, and what follows it."""
    match = re.match(r"""("(?:[^"\\]|\\.)*"|`[^`]*`)\s*""", rest)
    if match is None:
        raise TemplateError(f"a quoted name is expected in {rest!r}")
    return _unquoted(match[1]), rest[match.end() :]


def _unquoted(text: str) -> str:
    if text.startswith("`"):
        return text[1:-1]
    return _ESCAPE.sub(lambda m: _ESCAPES.get(m[1], m[1]), text[1:-1])
