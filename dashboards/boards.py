"""Board definitions: YAML that says which panels stand in which row of a page.

A board is `{name, title, range, rows: [{title, panels: […]}]}`. A panel is `{id, kind, title, unit,
span, query | queries, kpi, options}`. The shipped boards lie in `boards/*.yaml` beside this module.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import yaml

MAX_BOARD_BYTES = 256 * 1024
MAX_ROWS = 40
MAX_PANELS = 120
MAX_QUERIES = 24
MAX_EXPR_CHARS = 10_000
COLUMNS = 12
DEFAULT_SPAN = 4

QUERY_KINDS = frozenset({"stat", "timeseries"})
LIST_KINDS = frozenset({"slo", "golden_signals", "alerts", "findings", "timeline", "freshness"})
KINDS = QUERY_KINDS | LIST_KINDS

_BOARD_KEYS = frozenset({"name", "title", "range", "rows"})
_ROW_KEYS = frozenset({"title", "panels"})
_PANEL_KEYS = frozenset(
    {"id", "kind", "title", "unit", "span", "query", "queries", "kpi", "options"}
)
_QUERY_KEYS = frozenset({"expr", "name"})
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}\Z")
_DURATION = re.compile(r"(\d{1,6})(s|m|h|d)\Z")
_UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class BoardError(Exception):
    """A mistake in a board file: where it is, what is wrong, and what to write instead."""

    def __init__(self, problem: str, *, file: str, line: int | None = None, hint: str = "") -> None:
        self.problem = problem
        self.file = file
        self.line = line
        self.hint = hint
        where = f"{file}:{line}" if line is not None else file
        super().__init__(f"{where}: {problem}" + (f" ({hint})" if hint else ""))


@dataclass(frozen=True, slots=True)
class BoardQuery:
    """One PromQL expression of a panel. `name` labels its line; without it the labels do."""

    expr: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One tile. `span` is its width in twelfths of the row; `kpi` names a business reading."""

    id: str
    kind: str
    title: str
    unit: str = ""
    span: int = DEFAULT_SPAN
    queries: tuple[BoardQuery, ...] = ()
    kpi: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Row:
    """Panels that stand side by side under one title."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """A parsed board. `range_ms` is how much time its charts show."""

    name: str
    title: str
    range_ms: int
    rows: tuple[Row, ...]

    def panels(self) -> Iterator[Panel]:
        """Every panel, in reading order."""
        for row in self.rows:
            yield from row.panels


def shipped_boards() -> dict[str, str]:
    """The boards that come with Warroom: name to YAML text."""
    folder = resources.files("dashboards") / "boards"
    files = sorted(
        (entry for entry in folder.iterdir() if entry.name.endswith(".yaml")),
        key=lambda entry: entry.name,
    )
    return {entry.name.removesuffix(".yaml"): entry.read_text("utf-8") for entry in files}


def parse_board(text: str, file: str) -> Board:
    """One board from YAML text; `file` is only used to name the place of a mistake.

    Raises:
        BoardError: The text is no board: its file, line, what is wrong and what to write instead.
    """
    if len(text.encode()) > MAX_BOARD_BYTES:
        raise BoardError(
            f"a board may have {MAX_BOARD_BYTES} bytes", file=file, hint="split it into two boards"
        )
    return _Reader(file).board(_compose(text, file))


def _compose(text: str, file: str) -> yaml.Node:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line = mark.line + 1 if mark else None
        raise BoardError(f"not valid YAML: {exc.problem}", file=file, line=line) from exc
    except yaml.YAMLError as exc:
        raise BoardError(f"not valid YAML: {exc}", file=file) from exc
    except RecursionError as exc:
        raise BoardError("nested too deeply", file=file, hint="a board needs six levels") from exc
    if node is None:
        raise BoardError("the file is empty", file=file, line=1, hint="start with `name:`")
    return node


class _Reader:
    """Walks YAML nodes, so that each mistake knows its line."""

    def __init__(self, file: str) -> None:
        self._file = file

    def board(self, node: yaml.Node) -> Board:
        fields = self._mapping(node, _BOARD_KEYS, "a board")
        name = self._text(self._need(fields, "name", node))
        if not _NAME.match(name):
            raise self._error(
                fields["name"],
                f"the name {name!r} does not fit a URL",
                "use small letters, digits and `-`, at most 64",
            )
        rows_node = self._need(fields, "rows", node)
        rows = tuple(self._row(row) for row in self._list(rows_node, "rows", MAX_ROWS))
        board = Board(
            name=name,
            title=self._text(fields["title"]) if "title" in fields else name,
            range_ms=self._range_ms(fields.get("range")),
            rows=rows,
        )
        self._check_ids(board, rows_node)
        return board

    def _check_ids(self, board: Board, node: yaml.Node) -> None:
        seen: set[str] = set()
        for count, panel in enumerate(board.panels(), start=1):
            if panel.id in seen:
                raise self._error(
                    node, f"two panels have the id {panel.id!r}", "give each its own id"
                )
            seen.add(panel.id)
            if count > MAX_PANELS:
                raise self._error(
                    node, f"a board may have {MAX_PANELS} panels", "split it into two boards"
                )
        if not seen:
            raise self._error(node, "the board has no panels", "add one row with one panel")

    def _row(self, node: yaml.Node) -> Row:
        fields = self._mapping(node, _ROW_KEYS, "a row")
        panels = self._list(self._need(fields, "panels", node), "panels", MAX_PANELS)
        title = self._text(fields["title"]) if "title" in fields else ""
        return Row(title, tuple(self._panel(panel) for panel in panels))

    def _panel(self, node: yaml.Node) -> Panel:
        fields = self._mapping(node, _PANEL_KEYS, "a panel")
        panel_id = self._text(self._need(fields, "id", node))
        if not _NAME.match(panel_id):
            raise self._error(
                fields["id"], f"the id {panel_id!r} is not plain", "use small letters, digits, `-`"
            )
        kind = self._text(self._need(fields, "kind", node))
        if kind not in KINDS:
            raise self._error(
                fields["kind"], f"no panel kind {kind!r}", _suggestion(kind, sorted(KINDS))
            )
        queries = self._queries(fields)
        kpi = self._text(fields["kpi"]) if "kpi" in fields else None
        self._check_source(node, kind, queries, kpi)
        return Panel(
            id=panel_id,
            kind=kind,
            title=self._text(fields["title"]) if "title" in fields else panel_id,
            unit=self._text(fields["unit"]) if "unit" in fields else "",
            span=self._span(fields.get("span")),
            queries=queries,
            kpi=kpi,
            options=self._options(fields.get("options")),
        )

    def _check_source(
        self, node: yaml.Node, kind: str, queries: tuple[BoardQuery, ...], kpi: str | None
    ) -> None:
        if kind in LIST_KINDS and (queries or kpi):
            raise self._error(
                node, f"a {kind} panel takes no query", "remove `query`, `queries` and `kpi`"
            )
        if kind == "timeseries" and not queries:
            raise self._error(node, "a timeseries panel needs a query", "write `query: <PromQL>`")
        if kind == "stat" and not (kpi or queries):
            raise self._error(node, "a stat panel needs a source", "write `kpi:` or `query:`")
        if kind == "stat" and len(queries) > 1:
            raise self._error(node, "a stat panel shows one query", "write one `query:`")

    def _queries(self, fields: dict[str, yaml.Node]) -> tuple[BoardQuery, ...]:
        if "query" in fields and "queries" in fields:
            raise self._error(
                fields["queries"], "`query` and `queries` stand together", "keep `queries`"
            )
        if "query" in fields:
            return (BoardQuery(self._expr(fields["query"])),)
        if "queries" not in fields:
            return ()
        entries = self._list(fields["queries"], "queries", MAX_QUERIES)
        queries = []
        for entry in entries:
            parts = self._mapping(entry, _QUERY_KEYS, "a query")
            name = self._text(parts["name"]) if "name" in parts else ""
            queries.append(BoardQuery(self._expr(self._need(parts, "expr", entry)), name))
        return tuple(queries)

    def _expr(self, node: yaml.Node) -> str:
        expr = self._text(node).strip()
        if not expr or len(expr) > MAX_EXPR_CHARS:
            raise self._error(
                node, f"an expression has 1 to {MAX_EXPR_CHARS} characters", "write PromQL"
            )
        return expr

    def _span(self, node: yaml.Node | None) -> int:
        if node is None:
            return DEFAULT_SPAN
        text = self._text(node)
        if not text.isdecimal() or not 1 <= int(text[:4]) <= COLUMNS:
            raise self._error(
                node, f"the span {text!r} is not a width", f"write a number from 1 to {COLUMNS}"
            )
        return int(text)

    def _range_ms(self, node: yaml.Node | None) -> int:
        if node is None:
            return 15 * _UNIT_MS["m"]
        text = self._text(node)
        match = _DURATION.match(text)
        range_ms = int(match[1]) * _UNIT_MS[match[2]] if match else 0
        if not _UNIT_MS["m"] <= range_ms <= 31 * _UNIT_MS["d"]:
            raise self._error(node, f"{text!r} is not a range", "write 1m to 31d, as in `15m`")
        return range_ms

    def _options(self, node: yaml.Node | None) -> Mapping[str, Any]:
        if node is None:
            return {}
        if not isinstance(node, yaml.MappingNode):
            raise self._error(node, "`options` is not a mapping", "write `options: {key: value}`")
        constructor = yaml.constructor.SafeConstructor()
        try:
            value: dict[str, Any] = constructor.construct_document(node)
        except yaml.MarkedYAMLError as exc:
            raise self._error(node, f"`options` is not plain data: {exc.problem}", "") from exc
        return value

    def _need(self, fields: dict[str, yaml.Node], key: str, parent: yaml.Node) -> yaml.Node:
        if key not in fields:
            raise self._error(parent, f"`{key}` is missing", f"add `{key}:` here")
        return fields[key]

    def _text(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.tag.endswith(":null"):
            raise self._error(node, "text was expected here", "write one value, in quotes if odd")
        return str(node.value)

    def _list(self, node: yaml.Node, what: str, at_most: int) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode):
            raise self._error(node, f"`{what}` is not a list", "start each entry with `- `")
        if len(node.value) > at_most:
            raise self._error(node, f"`{what}` may have {at_most} entries", "split the board")
        return list(node.value)

    def _mapping(self, node: yaml.Node, keys: frozenset[str], what: str) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            raise self._error(node, f"{what} is not a mapping", f"known keys: {_join(keys)}")
        fields: dict[str, yaml.Node] = {}
        for key_node, value in node.value:
            key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "?"
            if key not in keys:
                raise self._error(
                    key_node, f"{what} has no key {key!r}", _suggestion(key, sorted(keys))
                )
            if key in fields:
                raise self._error(key_node, f"the key {key!r} stands twice", "remove one")
            fields[key] = value
        return fields

    def _error(self, node: yaml.Node, problem: str, hint: str) -> BoardError:
        return BoardError(problem, file=self._file, line=node.start_mark.line + 1, hint=hint)


def _suggestion(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def _join(keys: frozenset[str]) -> str:
    return ", ".join(sorted(keys))
