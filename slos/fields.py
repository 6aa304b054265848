"""Strict reading of a parsed document: every field is known, has its type, and knows its line."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from difflib import get_close_matches
from typing import Any, NoReturn

from slos.definition import has_placeholder, render
from slos.durations import parse_duration_s
from store.documents import Document, Path
from store.errors import QueryError
from store.promql.parse import parse

_MAX_TEXT = 20_000


class Fields:
    """A mapping within a document. Every mistake becomes a ConfigError with file and line."""

    def __init__(self, document: Document, path: Path, data: Any, known: tuple[str, ...]) -> None:
        self.document = document
        self.path = path
        if not isinstance(data, dict):
            self.fail("", f"{self._name()} must be a mapping", hint="write key: value pairs")
        self._data: dict[str, Any] = data
        for key in data:
            if key not in known:
                near = get_close_matches(str(key), known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
                self.fail(str(key), f"unknown field {key!r} in {self._name()}", hint=hint)

    def _name(self) -> str:
        return ".".join(str(part) for part in self.path) or "the document"

    def fail(self, key: str | int, message: str, *, hint: str = "") -> NoReturn:
        path = (*self.path, key) if key != "" else self.path
        raise self.document.error(path, message, hint=hint)

    def __contains__(self, key: str) -> bool:
        return self._data.get(key) is not None

    @property
    def line(self) -> int | None:
        return self.document.line_of(self.path)

    def text(self, key: str, *, default: str | None = None, hint: str = "") -> str:
        """A text; without a default it is required and not empty."""
        value = self._data.get(key)
        if value is None and default is not None:
            return default
        if value is None or value == "":
            self.fail(key, f"{key!r} is missing in {self._name()}", hint=hint or f"write {key}: …")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            self.fail(key, f"{key!r} must be a text", hint=hint)
        if len(str(value)) > _MAX_TEXT:
            self.fail(key, f"{key!r} is longer than {_MAX_TEXT} characters", hint="shorten it")
        return str(value)

    def number(self, key: str, *, hint: str = "") -> float:
        value = self._data.get(key)
        if value is None:
            self.fail(key, f"{key!r} is missing in {self._name()}", hint=hint)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fail(key, f"{key!r} must be a number, not {value!r}", hint=hint)
        return float(value)

    def duration_s(self, key: str, *, plain_unit_s: int = 0, hint: str = "") -> int:
        """Whole seconds; with `plain_unit_s` a bare number counts in that unit."""
        value = self._data.get(key)
        plain = isinstance(value, int) and not isinstance(value, bool) and plain_unit_s > 0
        text = f"{value * plain_unit_s}s" if plain and value else self.text(key, hint=hint)
        try:
            return parse_duration_s(text)
        except ValueError as exc:
            self.fail(key, str(exc), hint=hint)

    def moment(self, key: str) -> str:
        """A date, or date and time, in ISO form: YAML reads it as such unless it is quoted."""
        value = self._data.get(key)
        if isinstance(value, date):
            return value.isoformat()
        return self.text(key, hint="write it like 2026-01-01 00:00:00")

    def labels(self) -> dict[str, str]:
        """`labels`: OpenSLO allows several values for one; they are joined by commas."""
        value = self._data.get("labels")
        if isinstance(value, dict):
            joined = {
                name: ",".join(str(part) for part in item) if isinstance(item, list) else item
                for name, item in value.items()
            }
            return Fields(self.document, self.path, {"labels": joined}, ("labels",)).texts("labels")
        return self.texts("labels")

    def flag(self, key: str, *, default: bool = False) -> bool:
        value = self._data.get(key, default)
        if not isinstance(value, bool):
            self.fail(
                key, f"{key!r} must be true or false, not {value!r}", hint="write true or false"
            )
        return value

    def texts(self, key: str) -> dict[str, str]:
        """A mapping of texts, such as labels; empty when absent."""
        value = self._data.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.fail(key, f"{key!r} must be a mapping of texts", hint="write name: value pairs")
        for name, item in value.items():
            if isinstance(item, dict | list) or item is None:
                self.document_fail((key, str(name)), f"{key}.{name} must be a text")
        return {str(name): str(item) for name, item in value.items()}

    def document_fail(
        self, below: tuple[str | int, ...], message: str, *, hint: str = ""
    ) -> NoReturn:
        raise self.document.error((*self.path, *below), message, hint=hint)

    def mapping(self, key: str, known: tuple[str, ...]) -> Fields:
        if self._data.get(key) is None:
            self.fail(
                key, f"{key!r} is missing in {self._name()}", hint=f"it holds {', '.join(known)}"
            )
        return Fields(self.document, (*self.path, key), self._data[key], known)

    def items(self, key: str, known: tuple[str, ...]) -> Iterator[Fields]:
        """The mappings of a list of at least one."""
        value = self._data.get(key)
        if not isinstance(value, list) or not value:
            self.fail(
                key, f"{key!r} must be a list with at least one entry", hint="begin it with '- '"
            )
        for index, item in enumerate(value):
            yield Fields(self.document, (*self.path, key, index), item, known)

    def entries(self, key: str) -> list[Any]:
        """A list of anything; empty when absent."""
        value = self._data.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self.fail(key, f"{key!r} must be a list", hint="begin each entry with '- '")
        return value

    def entry(self, key: str, place: int, known: tuple[str, ...]) -> Fields:
        """One entry of a list, which must be a mapping."""
        path = (*self.path, key, place)
        return Fields(self.document, path, self.entries(key)[place], known)

    def query(self, key: str, *, placeholder: bool = True) -> str:
        """A PromQL query that parses; with `placeholder` it must hold `{{.window}}`."""
        query = self.text(key, hint="write a PromQL query").strip()
        if placeholder and not has_placeholder(query):
            self.fail(
                key,
                f"the query of {key!r} has no window",
                hint="write [{{.window}}] as its range, like sum(rate(x_total[{{.window}}]))",
            )
        try:
            parse(render(query, 300))
        except QueryError as exc:
            self.fail(key, f"the query of {key!r} is no PromQL: {exc}", hint="correct the query")
        return query
