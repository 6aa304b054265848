"""Boards: rows of panels, written in YAML."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from api.panel_options import options_problem
from store.documents import Document, parse_document
from store.errors import ConfigError

PanelKind = Literal[
    "stat",
    "timeseries",
    "table",
    "slo",
    "golden_signals",
    "alerts",
    "findings",
    "timeline",
    "freshness",
]
_RANGE = r"^[0-9]{1,8}[smhd]$"
_SHORTEST_MS = 10_000
_LONGEST_MS = 400 * 86_400_000
MAX_CHARS = 256 * 1024
# Of a whole board; a panel without a query counts as one. All of it is computed at each tick.
MAX_QUERIES = 200
_QUERIED = frozenset({"timeseries", "table"})
_UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PanelQuery(_Strict):
    """One PromQL expression and the name of its line; `{{label}}` in a name is filled in."""

    expr: str = Field(min_length=1, max_length=10_000)
    name: str = ""


class Panel(_Strict):
    """One tile. `query` is short for a single entry of `queries`."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    kind: PanelKind
    title: str = Field(default="", max_length=200)
    unit: str = ""
    span: int = Field(default=4, ge=1, le=12)
    query: str = ""
    queries: tuple[PanelQuery, ...] = Field(default=(), max_length=20)
    kpi: str = ""
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _has_a_subject(self) -> Panel:
        if self.kind == "stat" and not (self.kpi or self.query):
            raise ValueError("a stat needs `kpi` or `query`")
        if self.kind == "stat" and self.queries:
            raise ValueError("a stat shows one `query`")
        if self.kind in _QUERIED and not (self.query or self.queries):
            raise ValueError(f"a {self.kind} needs `query` or `queries`")
        if self.kind not in {"stat", *_QUERIED} and (self.query or self.queries):
            raise ValueError(f"a panel of the kind {self.kind} takes no query")
        problem = options_problem(self.kind, self.options)
        if problem:
            raise ValueError(problem)
        return self

    @property
    def all_queries(self) -> tuple[PanelQuery, ...]:
        if self.query:
            return (PanelQuery(expr=self.query),)
        return self.queries

    @property
    def cost(self) -> int:
        """Its queries; one where it has none."""
        return max(1, len(self.all_queries))


class Row(_Strict):
    """Panels side by side."""

    title: str = ""
    panels: tuple[Panel, ...] = Field(max_length=40)


class Board(_Strict):
    """A page of panels over one range of time."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    title: str = Field(max_length=200)
    range: str = Field(default="15m", pattern=_RANGE)
    rows: tuple[Row, ...] = Field(max_length=40)

    @field_validator("range")
    @classmethod
    def _within_bounds(cls, text: str) -> str:
        if not _SHORTEST_MS <= _range_ms(text) <= _LONGEST_MS:
            raise ValueError("a range is at least 10s and at most 400d")
        return text

    @model_validator(mode="after")
    def _is_affordable(self) -> Board:
        queries = sum(panel.cost for panel in self.panels)
        if queries > MAX_QUERIES:
            raise ValueError(
                f"{queries} queries, and panels without one, in all: at most {MAX_QUERIES} are"
                " computed at each tick; make two boards of it"
            )
        return self

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Board:
        ids = [panel.id for panel in self.panels]
        twice = sorted({panel_id for panel_id in ids if ids.count(panel_id) > 1})
        if twice:
            raise ValueError(f"panel ids stand twice: {', '.join(twice)}")
        return self

    @property
    def panels(self) -> tuple[Panel, ...]:
        return tuple(panel for row in self.rows for panel in row.panels)

    @property
    def range_ms(self) -> int:
        return _range_ms(self.range)


def _range_ms(text: str) -> int:
    return int(text[:-1]) * _UNIT_MS[text[-1]]


@dataclass(frozen=True, slots=True)
class BoardText:
    """A board and the text it was read from."""

    board: Board
    text: str
    origin: Literal["shipped", "file", "saved"]


def board_yaml(board: Board) -> str:
    """The board as a person would write it: YAML, without what stands for itself."""
    written = board.model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump(written, sort_keys=False, allow_unicode=True, width=100)


def parse_board(text: str, file: str) -> Board:
    """A board from YAML.

    Raises:
        ConfigError: A mistake, with its line and, where one is close, the word that was meant.
    """
    if len(text) > MAX_CHARS:
        raise ConfigError(f"a board has at most {MAX_CHARS} characters", file=file)
    document = parse_document(text, file)
    try:
        return Board.model_validate(document.data)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        path = tuple(first["loc"])
        where = ".".join(str(part) for part in path) or "the board"
        problem = f"{where}: {first['msg']}"
        raise document.error(path, problem, hint=_meant(first["type"], path, document)) from exc


def _meant(kind: str, path: tuple[int | str, ...], document: Document) -> str:
    """The known word nearest to a wrong key or a wrong panel kind."""
    if kind == "extra_forbidden":
        known = {*Board.model_fields, *Row.model_fields, *Panel.model_fields}
        near = difflib.get_close_matches(str(path[-1]), sorted(known), 1)
    elif kind == "literal_error":
        written = document.data
        for part in path:
            written = written[part]
        near = difflib.get_close_matches(str(written), get_args(PanelKind), 1)
    else:
        near = []
    return f"did you mean {near[0]!r}?" if near else "see docs/dashboards.md"
